"""`hooper models add | calibrate | int8 | …`: what publishes a version without training, or changes one."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.core.archive import copy, is_archive, unpack
from app.core.artefact import STAGING, is_version, next_release
from app.core.command_line import FILE_OPTIONS, annotated_option, offline_errors, program, spread
from app.core.errors import InvalidSettings, SetupError
from app.core.manifest import MANIFEST
from app.core.types import Precision
from scripts.export.formatting import say, without_option
from scripts.tasks import published_names
from scripts.training.data import default_name
from scripts.training.recipe import Recipe, load_recipe

Models = Annotated[Path, typer.Option(envvar="HOOPER_MODELS", metavar="PATH", help="model repository")]
MODELS = Path("models")


# --- a checkpoint, or a version from elsewhere

_PANEL = "for checkpoints"
_CHECKPOINT: dict[str, Any] = {
    "task": annotated_option("task", Literal[published_names()], "what its head is for; default: as config.json says", _PANEL),
    "labels": annotated_option("labels", list[str], "labels in the order of its outputs", _PANEL, metavar="NAME"),
    "data": annotated_option(
        "data", list[str], "texts to evaluate it on: csv, tsv, jsonl, txt, parquet", _PANEL, metavar="FILE"
    ),
    "text_column": annotated_option("text_column", str, "column of the text; default: guessed", _PANEL),
    "text_pair_column": annotated_option("text_pair_column", str, "of a second text; default: guessed, or none", _PANEL),
    "label_column": annotated_option("label_column", str, "column of the label; default: guessed, or none", _PANEL),
    **FILE_OPTIONS,
    "max_rows": annotated_option("max_rows", int, "use so many rows, drawn at random; 0: all", _PANEL),
    "max_tokens": annotated_option("max_tokens", int, "longest input; 0: what it reads, at most 512", _PANEL),
    "storage": annotated_option(
        "storage",
        Literal["int8", "fp16", "fp32"],
        "how weights lie on disk; default: int8 where --data is labelled, else fp16, which rounds less",
        _PANEL,
    ),
    "description": annotated_option("description", str, "one sentence for the model card", _PANEL),
    "license": annotated_option("license", str, "licence of the weights, for the model card", _PANEL),
    "limits": annotated_option("limits", str, "known limits, for the model card", _PANEL),
}
COLUMNS = ("text_column", "text_pair_column", "label_column", *FILE_OPTIONS)
"""Options that a published version is not refused for: scripts name them for every source."""


@program(
    "hooper models add",
    """\
  hooper models add ./my-checkpoint                        a folder that transformers saved, with its head
  hooper models add ./my-sentence-encoder                  a folder that sentence-transformers saved
  hooper models add ./my-checkpoint --data dev.csv         with figures on labelled texts, in its card
  hooper models add org/some-bert --name topics            from the hub, where one can be reached
  hooper models add ./my-checkpoint --labels negative positive
  hooper models add SmolLM2-135M-Instruct.Q8_0.gguf        a GGUF file of a model that continues texts
  hooper models add sentiment.tar.gz                       what `hooper export` wrote on another machine

A checkpoint is exported to ONNX, and answers the texts of --data, or built-in ones, through the service's own code; only where
it agrees with PyTorch is it published. Labels and multi-label come from its config.json. Its code is never run, and its weights
are read from safetensors alone.
""",
    offline_errors("hooper models add", "nothing was published"),
)
@spread("checkpoint", _CHECKPOINT, dict)
def add(
    checkpoint: dict[str, Any],
    source: Annotated[
        str, typer.Argument(metavar="PATH_OR_HUB_ID", help="checkpoint folder, hub id, GGUF file, published folder or archive")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="default: the folder's, or the archive's own")] = "",
    models: Models = MODELS,
) -> int:
    """Publish a checkpoint of transformers or sentence-transformers, or an exported archive."""
    path = Path(source).expanduser()
    if is_published(path):
        unusable = [option for option, value in checkpoint.items() if option not in COLUMNS and value]
        if unusable:
            raise InvalidSettings(f"--{unusable[0].replace('_', '-')} is for checkpoints; {path} was published before")
        folder = import_artefact(path, models, name)
    else:
        folder = _import_checkpoint(str(path), name, models, checkpoint)
    model = folder.parent.name
    print(f"\n{folder}\nserve it:  hooper serve --model {model}\nask it:    hooper predict --model {model}")
    return 0


def _import_checkpoint(source: str, name: str, models: Path, options: dict[str, Any]) -> Path:
    from scripts.export.import_checkpoint import ImportRequest, import_checkpoint  # here: torch takes seconds to import

    values = dict(options)
    task, labels, storage, data = (values.pop(key, None) for key in ("task", "labels", "storage", "data"))
    recipe = Recipe(name=name or default_name(source), models=str(models), validation=data or [], **values)
    command = f"hooper models add {shlex.join(add.command.words)}"
    try:
        return import_checkpoint(ImportRequest(source, recipe, task, labels or [], storage, command), say)
    except SetupError as error:
        if larger := getattr(error, "larger_storage", ""):
            words = without_option(add.command.words, "--storage")
            line = shlex.join(["hooper", "models", "add", *words, "--storage", larger])
            raise SetupError(f"{error.detail}; publish it with larger weights: {line}") from error
        raise


def is_published(source: Path) -> bool:
    """Whether this is a version that was published before, and no checkpoint."""
    return is_archive(source) or is_version(source)


def import_artefact(source: Path, models: Path, name: str = "") -> Path:
    """Publish a version of another repository, a folder or an archive, once every file was compared with its manifest.

    Args:
        source: the folder or archive.
        name: of the model here; by default as there.

    Returns:
        The version's folder.

    Raises:
        InvalidArtefact: the source is not what its manifest says, or holds what no published version holds.
        SetupError: the repository cannot be written.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=models) as folder:
            checked = Path(folder)
            manifest = unpack(source, checked) if is_archive(source) else copy(source, checked)
            renamed = manifest.model_copy(update={"name": name or manifest.name})
            with next_release(models, renamed.name) as release:
                for file in manifest.files:
                    (checked / file).rename(release.staging / file)
                release.seal(renamed)
            return release.folder
    except OSError as error:
        raise SetupError(f"{models} cannot be written: {error.strerror or error}") from error


# --- a version that is there already

Version = Annotated[str, typer.Argument(metavar="NAME/VERSION", help="a version in the model repository, or a folder's path")]
_ITEMS: dict[str, Any] = {
    "data": annotated_option("data", list[str], "held-out items: csv, tsv, jsonl, txt, parquet", metavar="FILE"),
    "recipe": annotated_option("recipe", Path, "the recipe that the version was trained by", metavar="FILE"),
    "text_column": annotated_option("text_column", str, "column of the text; default: guessed", metavar="NAME"),
    "max_rows": annotated_option("max_rows", int, "take so many rows of --data, drawn; 0: all"),
    **FILE_OPTIONS,
}
"""Which items a version is compared on."""


def _recipe(options: dict[str, Any]) -> Recipe:
    """The recipe that names the items; of built-in ones, an empty one.

    Raises:
        InvalidSettings: both ways to name them are used, or the recipe cannot be read.
    """
    if "data" in options and "recipe" in options:
        raise InvalidSettings("say either --data or --recipe, not both")
    if "recipe" in options:
        return load_recipe(options["recipe"], {})
    return Recipe(validation=options.pop("data", []), **options)


def _named_items(options: dict[str, Any]) -> Recipe:
    """The same where there are no built-in ones."""
    if not {"data", "recipe"} & options.keys():
        raise InvalidSettings("which items is it compared on? say --data FILE or --recipe FILE")
    return _recipe(options)


def _publish_variants(precisions: Sequence[Precision], model: str, recipe: Recipe, models: Path) -> int:
    from scripts.export.published import find_version, publish_variants  # here, as below: it takes seconds to import
    from scripts.export.variants import VARIANTS

    source = find_version(model, models)
    variants = [VARIANTS[precision] for precision in precisions]
    return _say_published(publish_variants(variants, source, recipe, models, say), models)


def _say_published(published: Path, models: Path) -> int:
    version = f"{published.parent.name}/{published.name}"
    option = "" if models == MODELS else f" --models {shlex.quote(str(models))}"
    print(f"\n{published}\nthe version that served before goes on serving; to let this one serve:")
    print(f"  hooper models promote {version}{option}")
    return 0


@program(
    "hooper models int8",
    """\
  hooper models int8 topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models int8 sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                  the rows that its recipe held out

The next version has the same weights, and beside its graph variants that multiply int8: int8 itself, which processors with VNNI
run twice as fast as fp32, and int7, whose weights have 7 bits, for processors with AVX2 alone (1.3 to 1.5 times as fast); a
model stored as fp16 has int7 alone. Each is published where 99.5 % of its predictions are those of the version in fp32.
Of a model that writes, it is the decoder's step that gets such a form, for every processor; with 200 labelled rows no metric
may be 0.3 points worse, without labels 99.5 % of the first tokens must be the same. `hooper train` and `models add` do this by
themselves.
""",
    offline_errors("hooper models int8", "nothing was published"),
)
@spread("recipe", _ITEMS, _named_items)
def int8(recipe: Recipe, model: Version, models: Models = MODELS) -> int:
    """Publish a version again with int8 arithmetic."""
    return _publish_variants(("int8", "int7"), model, recipe, models)


@program(
    "hooper models int4",
    """\
  hooper models int4 chat/1 --data texts.txt                      texts of the kind that it will continue
  hooper models int4 chat/1 --data texts.txt --accept-loss 5      though it fails, if it loses no more than that

The next version has the same weights, and a form of its decoder's step whose weights are int4 (the last product, which gives
the logits, keeps int8). A service takes it with HOOPER_PRECISION=int4, never by itself. It is for models that continue texts,
and published where 99.5 % of the first tokens are those of the version in fp32, as in int8. Where they are not, --accept-loss
says how many percent larger the perplexity of the texts may be for the form to be published nevertheless; what was measured
stands in the manifest, the card and /v1/models.
""",
    offline_errors("hooper models int4", "nothing was published"),
)
@spread("recipe", _ITEMS, _named_items)
def int4(
    recipe: Recipe,
    model: Version,
    accept_loss: Annotated[
        float | None, typer.Option(metavar="PERCENT", min=0, max=100, help="accept so much larger a perplexity of the texts")
    ] = None,
    models: Models = MODELS,
) -> int:
    """Publish a version again with its decoder in int4."""
    from scripts.export.published import find_version
    from scripts.export.published_int4 import publish_int4

    accepted = None if accept_loss is None else accept_loss / 100
    return _say_published(publish_int4(find_version(model, models), recipe, models, say, accepted), models)


@program(
    "hooper models fp16",
    """\
  hooper models fp16 topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models fp16 sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                  the rows that its recipe held out

The next version has the same weights, and beside its graph a variant that computes in fp16, for CUDA and TensorRT. It is
published where 99.5 % of its predictions are those of the version in fp32: on at most 1,000 of the items, drawn, with every
result rounded to fp16 on this processor, since no GPU is needed for it. `hooper train` and `models add` do this by themselves.
""",
    offline_errors("hooper models fp16", "nothing was published"),
)
@spread("recipe", _ITEMS, _named_items)
def fp16(recipe: Recipe, model: Version, models: Models = MODELS) -> int:
    """Publish a version again with fp16 arithmetic, for GPUs."""
    return _publish_variants(("fp16",), model, recipe, models)


@program(
    "hooper models reference",
    """\
  hooper models reference topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models reference sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                       the rows that its recipe held out

The published graph answers the items through the service's own code. Only `reference` in the version's manifest.json changes;
graph, tokenizer and card stay as they are, so it is the same version. A running service sees it when it loads it again.
""",
    offline_errors("hooper models reference", "nothing was changed"),
)
@spread("recipe", _ITEMS, _named_items)
def reference(recipe: Recipe, model: Version, models: Models = MODELS) -> int:
    """Add what held-out items were like to a published version, for its drift to be compared with."""
    from scripts.export.published import add_drift_reference, find_version

    folder = find_version(model, models)
    added = add_drift_reference(folder, recipe, say)
    figures = added.model_dump_json(indent=2, exclude={"label_shares"} if not added.label_shares else set())
    print(f"\n{folder / MANIFEST}: reference\n{figures}")
    return 0


@program(
    "hooper models calibrate",
    """\
  hooper models calibrate topics/1 --data dev.csv                      held-out texts with their labels
  hooper models calibrate sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                       the rows that its recipe held out

The next version has the same weights, and scores that are probabilities of being right: as `hooper train` fits them when it
publishes. Fitted on rows that training saw they would be worth nothing: name others. What was fitted is measured on either half
of the rows, fitted on the other; it is kept only where it helps there, and not fitted on fewer than 100 rows. The card says how
far scores are from probabilities, from which score on 95 % of the answers are right, and how many have such a score. Answers
stay what they are, and so do raw logits; golden answers, figures, card and drift reference are written anew.
""",
    offline_errors("hooper models calibrate", "nothing was published"),
)
@spread("recipe", _ITEMS, _named_items)
def calibrate(recipe: Recipe, model: Version, models: Models = MODELS) -> int:
    """Publish a version again with scores that are probabilities of being right."""
    from scripts.export.calibrate import publish_calibrated
    from scripts.export.published import find_version

    return _say_published(publish_calibrated(find_version(model, models), recipe, models, say), models)


@program(
    "hooper models measure",
    """\
  hooper models measure tickets/1 --data dev.csv                       its agreement in bf16
  hooper models measure sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                       on the rows that its recipe held out
  hooper models measure tickets/1 --max-tokens 512                     another limit, on built-in texts
  hooper models measure tickets/1 --max-tokens 512 --data dev.csv      on texts of its own kind, with labels or without

Without --max-tokens at most 1,000 of the items are answered in bf16, which processors of Intel's multiply fast: by OpenVINO
where this machine has it, else with weights and the result of every operator rounded. `parity` in the version's manifest.json
says how many predictions are those of fp32; where that is 99.5 % the service takes bf16. int8 and fp16 need files of their own:
`hooper models int8` and `fp16` publish them.

With it, texts are joined until they fill the limit. The published graph must read them in fp32, answer each alike whatever
lies beside it, and give its golden answers. Of each variant (int8, fp16) 99.5 % of the predictions on the texts that you give
must be those of fp32; on the built-in ones it must be as exact as on short texts. torch is not asked, and how good the model is
on long texts is not measured. `max_tokens`, `length_parity` and `engines` in the version's manifest.json change.

Nothing else changes: it is the same version. A running service sees it when it loads it again.
""",
    offline_errors("hooper models measure", "nothing was changed"),
)
@spread("recipe", _ITEMS, _recipe)
def measure(
    recipe: Recipe,
    model: Version,
    max_tokens: Annotated[
        int, typer.Option(metavar="N", help="longest input from now on, at most 8192; 0: as it is, and bf16 is measured")
    ] = 0,
    models: Models = MODELS,
) -> int:
    """Measure a published version's agreement in bf16, or give it another longest input."""
    from scripts.export.measure_length import measure_length
    from scripts.export.published import add_bf16_agreement, find_version

    folder = find_version(model, models)
    if max_tokens:
        changed = measure_length(folder, replace(recipe, max_tokens=max_tokens), say)
        print(f"\n{folder / MANIFEST}: max_tokens {changed.max_tokens}")
        return 0
    added = add_bf16_agreement(folder, recipe, say)
    print(f"\n{folder / MANIFEST}: parity in bf16\n{added.model_dump_json(indent=2)}")
    return 0
