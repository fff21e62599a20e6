"""A new version of a model appears whole or not at all: made here, or published elsewhere before."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.core.archive import copy, is_archive, unpack
from app.core.artefact import STAGING, Release, next_release
from app.core.errors import HooperError, InvalidSettings, SetupError
from app.core.manifest import (
    MANIFEST,
    NO_REFERENCE,
    DriftReference,
    EngineTrial,
    Graph,
    Manifest,
    Parity,
    describe_file,
    read_manifest,
    verify_files,
)
from app.core.types import Device, Precision, TaskName
from app.tasks.base import Task
from scripts.export.optimize import files_of
from scripts.tasks.spec import TrainingTask
from scripts.training.evaluation import RowRunner, predict

MODEL, INT8_MODEL, FP16_MODEL = "model.onnx", "model.int8.onnx", "model.fp16.onnx"
"""The others read their weights out of the first."""
TOKENIZER, GOLDEN, EVALUATION, CARD = "tokenizer.json", "golden.json", "evaluation.json", "README.md"


@dataclass(frozen=True)
class Artefact:
    """What a version folder is made of; its number is settled when it is published."""

    name: str
    task: TaskName
    description: str
    license: str
    base_model: str
    max_tokens: int
    graph_file: Path
    graph: Graph
    tokenizer: str
    """JSON text of the tokenizer."""
    task_options: Mapping[str, Any]
    parity: Mapping[str, Parity]
    evaluation: Mapping[str, Any]
    """All figures; its `headline` goes into the manifest."""
    golden: Sequence[Mapping[str, Any]]
    card: str
    reference: DriftReference = NO_REFERENCE
    """What the held-out items were like; without it, drift is told beside nothing."""
    engines: Mapping[Device, EngineTrial] = field(default_factory=dict)
    """What each engine made of the graph; of others nothing is known."""
    variants: Mapping[Precision, Path] = field(default_factory=dict)
    """Files of forms made for one precision; each is bound to `graph_file`, and is called so when it is published."""


def publish(artefact: Artefact, models: Path) -> Path:
    """Write the next version under `models/<name>` and make it visible by one rename.

    Returns:
        The version's folder.

    Raises:
        InvalidSettings: the name cannot be a model's.
        SetupError: the folder cannot be written; nothing is left behind.
    """
    with next_release(models, artefact.name) as release:
        _fill(release, artefact)
    return release.folder


def golden_answers(
    offline: TrainingTask, task: Task[Any, Any, Any], requests: Sequence[Mapping[str, Any]], runner: RowRunner
) -> list[dict[str, Any]]:
    """Requests with the published graph's own answers, as JSON: what every load of the model is checked against."""
    try:
        predictions = predict(task, offline.serving_options(), [offline.item(one) for one in requests], runner)
    except HooperError as error:
        raise InvalidSettings(f"a golden request cannot be answered: {error}") from error
    pairs = zip(requests, predictions.answers, strict=True)
    return [{"item": dict(request), "answer": dataclasses.asdict(answer)} for request, answer in pairs]


def _fill(release: Release, artefact: Artefact) -> None:
    folder = release.staging
    for file in files_of(artefact.graph_file):
        shutil.copyfile(file, folder / file.name.replace(artefact.graph_file.name, MODEL))
    for file in artefact.variants.values():
        shutil.copyfile(file, folder / file.name)
    _write(folder / TOKENIZER, _unpadded(artefact.tokenizer))
    _write(folder / GOLDEN, _json(artefact.golden))
    _write(folder / EVALUATION, _json(artefact.evaluation))
    _write(folder / CARD, artefact.card)
    manifest = Manifest(
        name=artefact.name,
        version=release.version,
        task=artefact.task,
        description=artefact.description,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        first_published=release.first_published,
        license=artefact.license,
        base_model=artefact.base_model,
        max_tokens=artefact.max_tokens,
        graph=artefact.graph.model_copy(
            update={"file": MODEL, "variants": {precision: file.name for precision, file in artefact.variants.items()}}
        ),
        task_options=dict(artefact.task_options),
        parity=dict(artefact.parity),
        engines=dict(artefact.engines),
        reference=artefact.reference,
        evaluation=dict(artefact.evaluation["headline"]),
        files={path.name: describe_file(path) for path in sorted(folder.iterdir())},
    )
    _write(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    verify_files(folder, read_manifest(folder))


def _unpadded(definition: str) -> str:
    """The tokenizer without padding and truncation, which the service sets for itself; which side is cut stays."""
    read = json.loads(definition)
    cut = read.get("truncation") or {}
    truncation = cut if cut.get("direction") == "Left" else None
    return json.dumps({**read, "padding": None, "truncation": truncation}, ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def is_published(source: Path) -> bool:
    """Whether this is a version that was published before, and no checkpoint."""
    return is_archive(source) or (source / MANIFEST).is_file()


def import_artefact(source: Path, models: Path, name: str = "") -> Path:
    """Check every file against the manifest, then publish under the manifest's name, or another.

    Returns:
        The version's folder.

    Raises:
        InvalidArtefact: the source is not what its manifest says, or holds what no published version holds.
        SetupError: the repository cannot be written.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=models) as place:
            checked = Path(place)
            manifest = unpack(source, checked) if is_archive(source) else copy(source, checked)
            with next_release(models, name or manifest.name) as release:
                changes = {
                    "name": name or manifest.name,
                    "version": release.version,
                    "first_published": release.first_published,  # here, wherever it was published before
                }
                renamed = manifest.model_copy(update=changes)
                for file in manifest.files:
                    (checked / file).rename(release.staging / file)
                (release.staging / MANIFEST).write_text(renamed.model_dump_json(indent=2) + "\n", encoding="utf-8")
            return release.folder
    except OSError as error:
        raise SetupError(f"{models} cannot be written: {error.strerror or error}") from error
