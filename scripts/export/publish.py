"""A model becomes the next published version, which appears whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.core.artefact import next_release
from app.core.errors import HooperError, InvalidSettings
from app.core.manifest import NO_REFERENCE, UNKNOWN_FORMAT, DataFormat, Decoder, DriftReference, Manifest
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.base import Task
from app.tasks.tokenizer import Tokenizer
from scripts.export.optimize import MODEL, files_of
from scripts.export.verify import Reference
from scripts.tasks.spec import TrainingTask
from scripts.training.evaluation import RowRunner, drift_reference, predict
from scripts.training.recipe import Recipe

if TYPE_CHECKING:  # it imports torch, which judging a published version does without
    from scripts.export.verified_graph import VerifiedGraph

EVALUATION = "evaluation.json"
CARD = "README.md"
"""Name of the file with all figures of a version."""


@dataclass(frozen=True)
class VersionContents:
    """What the folder of a new version is made of."""

    name: str
    task: str
    description: str
    license: str
    base_model: str
    max_tokens: int
    tokenizer: str
    """JSON text of the tokenizer."""
    task_options: Mapping[str, Any]
    verified: VerifiedGraph
    evaluation: Mapping[str, Any]
    """All figures; its `headline` goes into the manifest."""
    golden: Sequence[Mapping[str, Any]]
    card: str
    reference: DriftReference = NO_REFERENCE
    """What the held-out items were like; without it, drift is compared with nothing."""
    data_format: DataFormat = UNKNOWN_FORMAT
    decoder: Decoder | None = None
    """Of a model that writes; `verified` is its encoder then."""
    decoder_files: Sequence[Path] = ()
    """The graph of the decoder's step, and its weights where they lie beside it, named as they are published."""
    target_tokenizer: str = ""
    """JSON text of the tokenizer that the decoder names."""


def contents_of(
    recipe: Recipe,
    base_model: str,
    definition: str,
    tokenizer: Tokenizer,
    verified: VerifiedGraph,
    reference: Reference,
    evaluation: Mapping[str, Any],
    card: str,
) -> VersionContents:
    """What a version with this graph is made of.

    Args:
        recipe: its name, description, licence and golden requests.
        definition: JSON text of the tokenizer.
        tokenizer: the same, with the length of the longest input.
        reference: what the graph was compared with.
        evaluation: what evaluation.json says.
    """
    training, options = reference.training, reference.training.serving_options()
    session = EncoderEngine(verified.file, verified.graph, choose_provider("cpu"))
    return VersionContents(
        name=recipe.name,
        task=training.name,
        description=recipe.description,
        license=recipe.license,
        base_model=base_model,
        max_tokens=tokenizer.max_tokens,
        tokenizer=definition,
        task_options=reference.task_options,
        verified=verified,
        evaluation=evaluation,
        golden=golden_answers(training, reference.task, training.golden_items(recipe), session),
        card=card,
        reference=drift_reference(reference.task, options, tokenizer, verified.predictions),
    )


def publish(contents: VersionContents, models: Path, serves: bool = True) -> Path:
    """Write the next version under `models/<name>` and make it visible by one rename.

    Args:
        serves: whether it serves from the next start on, in place of an earlier version.

    Returns:
        The version's folder.

    Raises:
        InvalidSettings: the name cannot be a model's.
        SetupError: the folder cannot be written; nothing is left behind.
    """
    verified = contents.verified
    with next_release(models, contents.name, serves) as release:
        _write_files(release.staging, contents)
        variants = {precision: file.name for precision, file in verified.variants.items()}
        manifest = Manifest(
            name=contents.name,
            version=release.version,
            task=contents.task,
            description=contents.description,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            license=contents.license,
            base_model=contents.base_model,
            max_tokens=contents.max_tokens,
            graph=verified.graph.model_copy(update={"file": MODEL, "variants": variants}),
            decoder=contents.decoder,
            task_options=dict(contents.task_options),
            parity=verified.parity,
            engines=dict(verified.engines),
            reference=contents.reference,
            data_format=contents.data_format,
            evaluation=dict(contents.evaluation["headline"]),
            files={},
        )
        release.seal(manifest)
    return release.folder


def golden_answers(
    training: TrainingTask, task: Task[Any, Any, Any], requests: Sequence[Mapping[str, Any]], runner: RowRunner
) -> list[dict[str, Any]]:
    """Requests with the published graph's own answers, as JSON: what every load of the model is checked against."""
    try:
        items = [training.item(request) for request in requests]
        predictions = predict(task, training.serving_options(), items, runner)
    except HooperError as error:
        raise InvalidSettings(f"a golden request cannot be answered: {error}") from error
    pairs = zip(requests, predictions.answers, strict=True)
    return [{"item": dict(request), "answer": dataclasses.asdict(answer)} for request, answer in pairs]


def _write_files(folder: Path, contents: VersionContents) -> None:
    verified = contents.verified
    for file in files_of(verified.file):
        shutil.copyfile(file, folder / file.name.replace(verified.file.name, MODEL))
    for file in verified.variants.values():
        shutil.copyfile(file, folder / file.name)
    for file in contents.decoder_files:
        shutil.copyfile(file, folder / file.name)
    texts = {
        "tokenizer.json": _without_padding(contents.tokenizer),
        "golden.json": as_json(contents.golden),
        EVALUATION: as_json(contents.evaluation),
        CARD: contents.card,
    }
    if contents.decoder is not None and contents.decoder.tokenizer:
        texts[contents.decoder.tokenizer] = _without_padding(contents.target_tokenizer)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _without_padding(definition: str) -> str:
    """The tokenizer without padding and truncation, which the service sets for itself; which side is cut stays."""
    tokenizer = json.loads(definition)
    truncation = tokenizer.get("truncation") or {}
    left = truncation if truncation.get("direction") == "Left" else None
    return json.dumps({**tokenizer, "padding": None, "truncation": left}, ensure_ascii=False)


def as_json(value: Any) -> str:
    """As the files of a version are written."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
