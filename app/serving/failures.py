"""Models that could not be loaded: they are told of, refused with the reason, and stop no other."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.core.artefact import first_published
from app.core.errors import HooperError, InvalidArtefact
from app.core.manifest import MANIFEST

_PATH = re.compile(r"(?<![\w.:/~])(?:~|\.{1,2})?(?:/[^/\s'\"`,;:()<>]+)+/?")
_HEAD_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class FailedModel:
    """A model of which no version is loaded, though one was to be."""

    name: str
    version: int | None
    """None where it is not known which was meant."""
    detail: str
    """Why, for a person, without a path of this machine."""
    task: str = ""
    """Empty where not even that could be read."""
    first_published: str = ""

    @property
    def id(self) -> str:
        return self.name if self.version is None else f"{self.name}/{self.version}"


def failed_model(name: str, version: int | None, folder: Path, error: Exception) -> FailedModel:
    """
    Args:
        error: what came of it, be it one that nobody expected.
    """
    detail = error.detail if isinstance(error, HooperError) else f"loading failed ({type(error).__name__})"
    numbers = [folder / str(version)] if version else []
    task = next(filter(None, map(_task_of, [*numbers, *_folders(folder)])), "")
    age = ""
    with suppress(InvalidArtefact):  # the folder itself may not be read
        age = first_published(folder)
    return FailedModel(name, version, without_paths(detail, folder), task, age)


def without_paths(detail: str, folder: Path) -> str:
    """The sentence with files called by their names alone: where they lie is nothing that a caller needs to know."""
    for spelled in sorted({folder.absolute(), folder.resolve(), folder}, key=lambda path: -len(str(path))):
        for path in (spelled, spelled.parent):
            if path.name:  # not the root, nor where we stand
                detail = re.sub(rf"{re.escape(str(path))}/(?:[1-9][0-9]*/)?", "", detail)
    return _PATH.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], detail)


def _folders(model: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(model.iterdir())
    return []


def _task_of(version: Path) -> str:
    """What a manifest says that its model does, also where it is broken otherwise, or cut off."""
    with suppress(OSError, ValueError):
        with (version / MANIFEST).open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
        match = re.search(r'"task"\s*:\s*("[a-z-]+")', head)
        return str(json.loads(match[1])) if match else ""
    return ""
