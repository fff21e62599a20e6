"""A model becomes the next published version, which appears whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.core.artefact import next_release
from app.core.errors import HooperError, InvalidSettings
from app.core.manifest import NO_REFERENCE, DriftReference, EngineTrial, Graph, Manifest, Parity
from app.core.types import Device, Precision, TaskName
from app.tasks.base import Task
from scripts.export.optimize import files_of
from scripts.tasks.spec import TrainingTask
from scripts.training.evaluation import RowRunner, predict

MODEL, INT8_MODEL, FP16_MODEL = "model.onnx", "model.int8.onnx", "model.fp16.onnx"
"""The others read their weights out of the first."""


@dataclass(frozen=True)
class VersionContents:
    """What the folder of a new version is made of."""

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
    """What the held-out items were like; without it, drift is compared with nothing."""
    engines: Mapping[Device, EngineTrial] = field(default_factory=dict)
    """What each engine made of the graph; of others nothing is known."""
    variants: Mapping[Precision, Path] = field(default_factory=dict)
    """Files of variants for one precision; each is bound to `graph_file`, and keeps its name."""


def publish(contents: VersionContents, models: Path) -> Path:
    """Write the next version under `models/<name>` and make it visible by one rename.

    Returns:
        The version's folder.

    Raises:
        InvalidSettings: the name cannot be a model's.
        SetupError: the folder cannot be written; nothing is left behind.
    """
    with next_release(models, contents.name) as release:
        _write_files(release.staging, contents)
        variants = {precision: file.name for precision, file in contents.variants.items()}
        manifest = Manifest(
            name=contents.name,
            version=release.version,
            task=contents.task,
            description=contents.description,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            license=contents.license,
            base_model=contents.base_model,
            max_tokens=contents.max_tokens,
            graph=contents.graph.model_copy(update={"file": MODEL, "variants": variants}),
            task_options=dict(contents.task_options),
            parity=dict(contents.parity),
            engines=dict(contents.engines),
            reference=contents.reference,
            evaluation=dict(contents.evaluation["headline"]),
            files={},
        )
        release.seal(manifest)
    return release.folder


def golden_answers(
    offline: TrainingTask, task: Task[Any, Any, Any], requests: Sequence[Mapping[str, Any]], runner: RowRunner
) -> list[dict[str, Any]]:
    """Requests with the published graph's own answers, as JSON: what every load of the model is checked against."""
    try:
        items = [offline.item(request) for request in requests]
        predictions = predict(task, offline.serving_options(), items, runner)
    except HooperError as error:
        raise InvalidSettings(f"a golden request cannot be answered: {error}") from error
    pairs = zip(requests, predictions.answers, strict=True)
    return [{"item": dict(request), "answer": dataclasses.asdict(answer)} for request, answer in pairs]


def _write_files(folder: Path, contents: VersionContents) -> None:
    for file in files_of(contents.graph_file):
        shutil.copyfile(file, folder / file.name.replace(contents.graph_file.name, MODEL))
    for file in contents.variants.values():
        shutil.copyfile(file, folder / file.name)
    texts = {
        "tokenizer.json": _without_padding(contents.tokenizer),
        "golden.json": _as_json(contents.golden),
        "evaluation.json": _as_json(contents.evaluation),
        "README.md": contents.card,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _without_padding(definition: str) -> str:
    """The tokenizer without padding and truncation, which the service sets for itself; which side is cut stays."""
    tokenizer = json.loads(definition)
    truncation = tokenizer.get("truncation") or {}
    kept = truncation if truncation.get("direction") == "Left" else None
    return json.dumps({**tokenizer, "padding": None, "truncation": kept}, ensure_ascii=False)


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
