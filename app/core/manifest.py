"""The manifest: what a published model folder says about itself."""

from __future__ import annotations

import hashlib
import re
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from app.core.errors import InvalidArtefact
from app.core.types import Device, LayoutName, Precision

MANIFEST = "manifest.json"
VERSION = re.compile(r"[1-9][0-9]{0,8}")
"""Name of a version's folder."""
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

FileName = Annotated[str, StringConstraints(pattern=FILE_PATTERN)]
ModelName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Frozen):
    """A file of the folder; the loader refuses it when either figure differs."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    num_bytes: Annotated[int, Field(ge=0)]


class Output(_Frozen):
    """An output tensor. `row` has one vector per row, `token` one per token, `position` one per output position of the row."""

    name: str
    axis: Literal["row", "token", "position"]
    pooling: Literal["first", "mean"] = "first"
    """What the head reads to give the vector of a `row`: its first token, or the mean over its tokens. The graph does it; a
    training that starts from its weights needs to know."""
    is_optional: Annotated[bool, Field(exclude_if=lambda value: value is False)] = False
    """Whether only those rows get it that name it in `Row.extra_outputs`. Left out where it is not, as of most models, which
    earlier releases read as well."""


class Graph(_Frozen):
    """The ONNX file and how rows become its inputs."""

    file: FileName
    layout: LayoutName
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    pad_token_id: int = 0
    position_offset: Annotated[int, Field(ge=0)] = 0
    """Position id of a row's first token (2 for RoBERTa, 0 for BERT)."""
    padding_side: Literal["right", "left"] = "right"
    """Where a padded tensor row is filled up; some architectures read a text at its end."""
    storage: Literal["fp32", "fp16", "int8"]
    """How the weights lie on disk: `int8` ones are dequantized once when the model is loaded."""
    variants: dict[Precision, FileName] = {}
    """Precision to the file of a form made for it; any other precision runs `file`."""

    def file_for(self, precision: Precision) -> str:
        """Name of the file that runs in this precision."""
        return self.variants.get(precision, self.file)


class Decoder(_Frozen):
    """The graph of one step of what is written. Behind an encoder it stands beside the encoder's, which is `Manifest.graph`;
    without one it is `Manifest.graph`, the same file.

    Of an encoder-decoder model, the encoder's one output is of axis `token` and holds for each token of the source the keys and
    values that the decoder's layers read: (num_tokens, num_layers x 2 x num_heads x head_size), key before value.

    Inputs of the step's graph, for B sequences; C and S are the capacities of the cache, D is `head_size`:
        `input_ids` int64 (B, T): T tokens of each, 1 behind an encoder, and 1 where B is more than 1 and anything was read
        before; `past_lengths` int32 (B): tokens in the cache before these, which are the first one's position;
        `total_length` int32 (): the largest of them, plus T; `past_key.I`, `past_value.I` float (B, num_heads, C, D);
        with an encoder `source_lengths` int32 (B) and `cross_key.I`, `cross_value.I` float (B, num_heads, S, D).
    Outputs: `logits` float (B, vocab_size), of the last token, and for each input of the cache that the step writes, one of the
        same name behind `new_`, which is bound to the same memory: the step writes its tokens' keys and values in place.
    """

    file: FileName
    storage: Literal["fp32", "fp16", "int8"] = "fp32"
    variants: dict[Precision, FileName] = {}
    num_layers: Annotated[int, Field(ge=1)]
    num_heads: Annotated[int, Field(ge=1)]
    """Of keys and values."""
    head_size: Annotated[int, Field(ge=1)]
    vocab_size: Annotated[int, Field(ge=1)]
    max_length: Annotated[int, Field(ge=2)]
    """Tokens that a sequence may have, those that it starts with included."""
    has_encoder: bool = True
    tokenizer: FileName | Literal[""] = ""
    """Of what is written, where it is another than the source's; empty: the same."""
    start_token_id: Annotated[int, Field(ge=0)] = 0
    """What a sequence starts with where an encoder reads the source."""
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    clean_up_tokenization_spaces: bool = False
    """Whether blanks before English punctuation are no part of the text, as the checkpoint's tokenizer_config.json says."""
    generation: dict[str, Any] = {}
    """What the checkpoint's generation_config.json says otherwise than `SamplingParams`, by the names of that class, lengths as
    new tokens; and `do_sample`."""

    def file_for(self, precision: Precision) -> str:
        """Name of the file that runs in this precision."""
        return self.variants.get(precision, self.file)


class Parity(_Frozen):
    """Measured agreement with the fp32 torch model for one way of running the graph."""

    rows: Annotated[int, Field(ge=1)]
    agreement: Share
    """Share of rows with the same prediction."""
    ties: Annotated[int, Field(ge=0)] = 0
    """Of the rows with another prediction, those that the reference itself decides by less than rounding moves a logit."""
    max_abs_error: float
    passed: bool
    perplexity_loss: Annotated[float | None, Field(exclude_if=lambda value: value is None)] = None
    """By what share the perplexity of texts is larger than in fp32, where that was measured."""
    accepted_loss: Annotated[float | None, Field(ge=0, exclude_if=lambda value: value is None)] = None
    """The share up to which whoever published it accepted that, though it did not pass: it runs where somebody asks for it."""

    @property
    def is_usable(self) -> bool:
        """Whether it passed, or its loss was accepted."""
        return self.passed or self.accepted_loss is not None

    @property
    def num_differing(self) -> int:
        """Rows with another prediction, ties included."""
        return round((1 - self.agreement) * self.rows)

    @property
    def agreement_to_show(self) -> float:
        """Rounded down to four decimals: 1,988 of 1,998 rows do not reach 99.5 %, and must not look as if they did."""
        return float(Decimal(str(self.agreement)).quantize(Decimal("0.0001"), ROUND_DOWN))


class EngineTrial(_Frozen):
    """Whether an engine ran the graph where it was published."""

    runs: bool
    reason: str = ""
    """Why it does not, as a clause."""
    max_abs_error: dict[Precision, float] = {}
    """Precision to the largest difference of a logit from the CPU's in fp32."""


class DriftReference(_Frozen):
    """What the held-out items looked like to the model, and what it made of them: drift is what is served, laid beside it."""

    num_items: Annotated[int, Field(ge=0)] = 0
    """0: nothing is known, as of models published before this was measured."""
    tokens_per_item: Annotated[float, Field(ge=0)] = 0.0
    unknown_token_share: Share = 0.0
    """Of all tokens, those that the vocabulary lacks."""
    confidence: Share | None = None
    """Mean of the answers' best scores."""
    label_shares: dict[str, Share] = {}
    """Best label to its share of the answers; empty where the task has no labels."""


NO_REFERENCE = DriftReference()


class DataFormat(_Frozen):
    """How the data that a model was trained on is written, as it was said or guessed. Names alone, never a cell."""

    columns: dict[str, str] = {}
    """Item fields, and `label`, to the columns that held them."""
    label_separator: str = ""
    """Between several labels of a cell; empty where a text has one, or cells hold lists."""
    delimiter: str = ""
    """Of a csv file that is written otherwise than with commas."""
    encoding: str = ""
    """Of a file that is not UTF-8."""
    sheet: str = ""
    """Of a workbook, where one was named."""


UNKNOWN_FORMAT = DataFormat()


class Manifest(_Frozen):
    """Everything the service needs to know of a model version without opening its graph."""

    format: Literal[2] = 2
    name: ModelName
    version: Annotated[int, Field(ge=1)]
    task: str
    """Name of a task; whether this version of Hooper has it shows when the model is loaded."""
    description: str = ""
    created: str
    first_published: str = ""
    """When the first version of this name was published here, carried from version to version; empty in older manifests."""
    license: str = ""
    base_model: str
    max_tokens: Annotated[int, Field(ge=8, le=8192)]
    graph: Graph
    decoder: Decoder | None = None
    """Of a model that writes; `graph` is its encoder's then."""
    tokenizer: FileName = "tokenizer.json"
    golden: FileName = "golden.json"
    task_options: dict[str, Any] = {}
    """What the task's own module needs: labels, problem type, temperature, thresholds."""
    parity: dict[str, Parity]
    """Precision (`fp32`, `bf16`, …) to the parity measured when publishing."""
    length_parity: dict[str, Parity] = {}
    """Of a version whose `max_tokens` was changed after publishing: precision to the agreement with the published graph in fp32
    on texts that fill it."""
    engines: dict[Device, EngineTrial] = {}
    """Engines that were tried when publishing; of others nothing is known, as of models published before this was tried."""
    reference: DriftReference = NO_REFERENCE
    data_format: DataFormat = UNKNOWN_FORMAT
    """Of the training data: files like it are read without options. Empty in versions published before this was kept."""
    evaluation: dict[str, Any] = {}
    """Headline figures; all of them are in evaluation.json."""
    files: dict[FileName, FileEntry]

    @model_validator(mode="before")
    @classmethod
    def _from_format_1(cls, body: Any) -> Any:
        """As release 0.1.0 wrote it: the axis `position` was called `marker`, and regression was a kind of classification."""
        if not isinstance(body, dict) or body.get("format", 1) != 1:
            return body
        converted = {**body, "format": 2}
        graph = body.get("graph")
        if isinstance(graph, dict) and isinstance(graph.get("outputs"), list):
            outputs = [
                {**output, "axis": "position"} if isinstance(output, dict) and output.get("axis") == "marker" else output
                for output in graph["outputs"]
            ]
            converted["graph"] = {**graph, "outputs": outputs}
        options = body.get("task_options")
        if isinstance(options, dict) and options.get("problem_type") == "regression":
            converted["task"] = "text-regression"
            converted["task_options"] = {name: value for name, value in options.items() if name != "problem_type"}
        return converted

    def as_json(self) -> str:
        """The content of `manifest.json`."""
        left_out = {"decoder"} if self.decoder is None else None  # of most models, which earlier releases read as well
        return self.model_dump_json(indent=2, exclude=left_out) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and validate `folder/manifest.json`.

    Raises:
        InvalidArtefact: the file is missing, is no JSON, or a field is wrong.
    """
    path = folder / MANIFEST
    if path.is_symlink():
        raise InvalidArtefact(f"{path} is a symbolic link; the files of a model must be plain files")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidArtefact(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidArtefact(f"{path}: {where}: {first['msg']}") from error


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every listed file with its checksum; symbolic links and unlisted needs are refused.

    Raises:
        InvalidArtefact: a file is missing, is a link, or differs from the manifest.
    """
    used = [manifest.graph.file, *manifest.graph.variants.values(), manifest.tokenizer, manifest.golden]
    if manifest.decoder is not None:
        used += [manifest.decoder.file, *manifest.decoder.variants.values()]
        used += filter(None, [manifest.decoder.tokenizer])
    for file in used:
        if file not in manifest.files:
            raise InvalidArtefact(f"{folder / MANIFEST}: {file} is used but has no checksum")
    for name, entry in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise InvalidArtefact(f"{path} is missing or is not a plain file")
        if describe_file(path) != entry:
            raise InvalidArtefact(f"{path} differs from the checksum in {MANIFEST}")


def refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    """A graph may keep weights in a file beside it, and the engine would read them unchecked.

    Raises:
        InvalidArtefact: the folder holds a file that is not in the manifest.
    """
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST and path.name not in manifest.files:
            raise InvalidArtefact(f"{path} is not listed in {MANIFEST}; remove it, or publish the model again")


def describe_file(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(sha256=digest, num_bytes=path.stat().st_size)


def is_path(reference: str) -> bool:
    """Whether it is a folder's path: a model's name begins with a letter or digit and holds one `/` at most."""
    return reference.startswith((".", "/", "~")) or reference.count("/") > 1
