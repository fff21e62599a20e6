"""What a model's folder says beyond its versions: which of them serves after a start, and since when the name is published."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.core.errors import InvalidArtefact
from app.core.manifest import MANIFEST, VERSION, read_manifest

SERVING = "serving.json"
PUBLISHED = "published"
"""Why a version serves that nobody chose: it was the latest when it was published."""
BY_HAND = "written by hand"


@dataclass(frozen=True, slots=True)
class Serving:
    """The version of a model that is loaded at a start."""

    version: int
    why: str
    """What made it so: `published`, `loaded`, `promoted`, that another one was removed, or who writes no reason."""
    at: str = ""
    """When, in ISO 8601: of two records the later one counts."""


def versions_in(folder: Path) -> list[int]:
    """Numbers of the versions that are published in a model's folder, ascending.

    Raises:
        InvalidArtefact: the folder may not be read.
    """
    try:
        if not folder.is_dir():
            return []
        return sorted(int(one.name) for one in folder.iterdir() if VERSION.fullmatch(one.name) and (one / MANIFEST).is_file())
    except OSError as error:
        raise InvalidArtefact(f"{folder} cannot be read: {error.strerror or error}") from error


def first_published(folder: Path) -> str:
    """Since when the model in this folder is published, in ISO 8601: what its oldest readable version says; else nothing."""
    for number in versions_in(folder):
        with suppress(InvalidArtefact):
            manifest = read_manifest(folder / str(number))
            return manifest.first_published or manifest.created
    return ""


def instant(text: str) -> datetime:
    """A time in ISO 8601, of UTC where it names no zone; what is none is later than everything."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def oldest(first_published: Mapping[str, str]) -> str:
    """Of models, with the time since when each is published, the one that was published first; of several the first by name."""
    return min(first_published, key=lambda name: (instant(first_published[name]), name))


def read_serving(folder: Path) -> Serving | None:
    """What the folder's record says; None where there is none.

    Raises:
        InvalidArtefact: it cannot be read, or is none.
    """
    path = folder / SERVING
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("it is no plain file")
        body = json.loads(path.read_text(encoding="utf-8"))
        version, why, at = body["version"], body.get("why") or BY_HAND, body.get("at", "")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ValueError("its `version` is no number from 1")
        return Serving(version, str(why), str(at))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArtefact(
            f"{path} cannot be read ({reason}); load a version by its number, or remove the file: then the latest serves"
        ) from error


def write_serving(folder: Path, version: int, why: str) -> None:
    """Put the record into the folder, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    serving = Serving(version, why, datetime.now(UTC).isoformat(timespec="milliseconds"))
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{SERVING}-", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(serving)) + "\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # mkstemp lets only its maker read it
            os.fsync(file.fileno())
        Path(name).replace(folder / SERVING)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class ServingRecords:
    """The records of all models: in the repository, and in another folder where one is named for a read-only repository."""

    def __init__(self, models: Path, state: str = "") -> None:
        self._roots = [Path(state).expanduser(), models] if state else [models]

    def read(self, name: str) -> Serving | None:
        """The latest record of this model.

        Raises:
            InvalidArtefact: one cannot be read.
        """
        found = [one for root in self._roots if (one := read_serving(root / name)) is not None]
        return max(found, key=lambda one: instant(one.at) if one.at else datetime.min.replace(tzinfo=UTC), default=None)

    def write(self, name: str, version: int, why: str) -> bool:
        """Whether it could be written, and so lasts."""
        for root in self._roots:
            with suppress(OSError):
                write_serving(root / name, version, why)
                return True
        return False
