"""publish: a new version of a model appears whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.core.errors import HooperError, InvalidSettings, SetupError
from app.core.manifest import MANIFEST, NAME_PATTERN, Graph, Manifest, Parity, describe_file, read_manifest, verify_files
from app.core.types import TaskName
from app.tasks.base import Task
from scripts.offline.evaluate import RowRunner, predict
from scripts.offline.tasks.base import OfflineTask

STAGING = ".staging-"
MODEL, TOKENIZER, GOLDEN, EVALUATION, CARD = "model.onnx", "tokenizer.json", "golden.json", "evaluation.json", "README.md"
READABLE = 0o755


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


def publish(artefact: Artefact, models: Path) -> Path:
    """Write the next version under `models/<name>` and make it visible by one rename.

    Returns:
        The version's folder.

    Raises:
        SetupError: the folder cannot be written; nothing is left behind.
    """
    check_name(artefact.name)
    parent = models / artefact.name
    made = _missing_folders(parent)
    staging: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        version = next_version(parent)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=parent))
        _fill(staging, artefact, version)
        staging.chmod(READABLE)  # mkdtemp lets only its maker in
        return _reveal(staging, parent / str(version))
    except OSError as error:
        raise SetupError(f"{parent} cannot be written: {error.strerror or error}") from error
    finally:  # however it ended, nothing half-written stays
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(made)


def check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidSettings(
            f"{name!r} cannot be a model's name: lower-case letters, digits, '.', '_' and '-', at most 64, not '.' first"
        )


def next_version(parent: Path) -> int:
    """One more than the highest version in the folder, whatever gaps there are."""
    numbers = [int(path.name) for path in parent.glob("*") if re.fullmatch(r"[0-9]+", path.name)]
    return max(numbers, default=0) + 1


def golden_answers(
    offline: OfflineTask, task: Task[Any, Any, Any], requests: Sequence[Mapping[str, Any]], runner: RowRunner
) -> list[dict[str, Any]]:
    """Requests with the published graph's own answers, as JSON: what every load of the model is checked against."""
    try:
        predictions = predict(task, offline.serving_options(), [offline.item(one) for one in requests], runner)
    except HooperError as error:
        raise InvalidSettings(f"a golden request cannot be answered: {error}") from error
    pairs = zip(requests, predictions.answers, strict=True)
    return [{"item": dict(request), "answer": dataclasses.asdict(answer)} for request, answer in pairs]


def _fill(folder: Path, artefact: Artefact, version: int) -> None:
    shutil.copyfile(artefact.graph_file, folder / MODEL)
    _write(folder / TOKENIZER, _unpadded(artefact.tokenizer))
    _write(folder / GOLDEN, _json(artefact.golden))
    _write(folder / EVALUATION, _json(artefact.evaluation))
    _write(folder / CARD, artefact.card)
    manifest = Manifest(
        name=artefact.name,
        version=version,
        task=artefact.task,
        description=artefact.description,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        license=artefact.license,
        base_model=artefact.base_model,
        max_tokens=artefact.max_tokens,
        graph=artefact.graph.model_copy(update={"file": MODEL}),
        task_options=dict(artefact.task_options),
        parity=dict(artefact.parity),
        evaluation=dict(artefact.evaluation["headline"]),
        files={path.name: describe_file(path) for path in sorted(folder.iterdir())},
    )
    _write(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    verify_files(folder, read_manifest(folder))


def _reveal(staging: Path, target: Path) -> Path:
    for path in [*staging.iterdir(), staging]:
        _sync(path)
    if target.exists():  # rename would replace an empty folder without a word
        raise SetupError(f"{target} appeared while it was being written; publish again")
    staging.rename(target)
    _sync(target.parent)
    return target


def _unpadded(definition: str) -> str:
    """The tokenizer without padding and truncation, which the service sets for itself."""
    return json.dumps({**json.loads(definition), "padding": None, "truncation": None}, ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    """Have the file or folder on the disk before its name is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _missing_folders(folder: Path) -> list[Path]:
    return [one for one in (folder, *folder.parents) if not one.exists()]


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty: something was published
            folder.rmdir()
