"""A published version opened for measuring: its graph on the runtime that serves it, and the task that reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import InvalidArtefact, InvalidSettings
from app.core.manifest import MANIFEST, Manifest, read_manifest, verify_files
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import DeviceWish, choices_of_auto, choose_provider
from app.tasks.base import Task
from app.tasks.tokenizer import Tokenizer
from scripts.tasks import training_task
from scripts.tasks.spec import TrainingTask

VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Version:
    """One published version, ready to be asked."""

    folder: Path
    manifest: Manifest
    offline: TrainingTask
    task: Any
    """The production task."""
    session: EncoderEngine

    @property
    def name(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"


def published_task(folder: Path, manifest: Manifest, offline: TrainingTask) -> Task[Any, Any, Any]:
    """The task as a published version has it.

    Raises:
        InvalidArtefact: its tokenizer or its options are nonsense.
    """
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    try:
        return offline.serving_task(tokenizer, manifest.task_options)
    except InvalidArtefact as error:
        raise InvalidArtefact(f"{manifest.name}/{manifest.version}: {error.detail}") from error


def open_version(wish: str, models: Path, device: DeviceWish = "cpu") -> Version:
    """Read, verify and load what a person named: `name`, `name/version`, or a folder's path.

    Raises:
        InvalidSettings: there is no such version.
        InvalidArtefact: the folder is broken or altered.
    """
    folder = _folder(wish, models)
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    offline = training_task(manifest.task)
    task = published_task(folder, manifest, offline)
    provider = choose_provider(device)
    if device == "auto":
        provider = choices_of_auto(provider, manifest)[0]
    parity = manifest.parity.get(provider.precision)
    if provider.precision != "fp32" and not (parity and parity.passed):  # as the service does
        provider = provider.in_fp32("its own precision did not pass")
    return Version(folder, manifest, offline, task, EncoderEngine(folder / manifest.graph.file, manifest.graph, provider))


def _folder(wish: str, models: Path) -> Path:
    for folder in (models / wish, Path(wish).expanduser()):
        if (folder / MANIFEST).is_file():
            return folder
        numbers = [int(one.name) for one in folder.glob("*") if VERSION.fullmatch(one.name) and (one / MANIFEST).is_file()]
        if numbers:
            return folder / str(max(numbers))
    raise InvalidSettings(f"there is no model {wish} in {models}, nor a published folder of that path")
