"""An artefact is one published version of a model: a folder `models/<name>/<version>` that appears whole or not at all.

Beside its versions a model's folder keeps `serving.json`, which says what serves after a start.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.core.errors import InvalidArtefact, InvalidSettings, SetupError
from app.core.files import sync, write_atomically
from app.core.manifest import (
    MANIFEST,
    NAME_PATTERN,
    VERSION,
    Manifest,
    describe_file,
    read_manifest,
    refuse_unlisted,
    verify_files,
)

STAGING = ".staging-"
REMOVED = ".removed-"
READABLE = 0o755
SERVING = "serving.json"
PUBLISHED = "published"
"""Why a version serves that nobody chose: it was the latest when it was published."""
KEPT = "kept"
"""Why a version goes on serving: a later one was published without taking its place."""
BY_HAND = "written by hand"


# --- opening and looking up


@dataclass(frozen=True, slots=True)
class Artefact:
    """One published version: its folder, and what it says of itself."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"

    @property
    def first_published(self) -> str:
        """Since when its name is published, in ISO 8601."""
        return self.manifest.first_published or first_published(self.folder.parent) or self.manifest.created


def open_artefact(folder: Path) -> Artefact:
    """Read a published version wherever it lies, and compare every file with its checksum.

    Raises:
        InvalidArtefact: the folder is broken or altered, or holds a file that is not listed.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    refuse_unlisted(folder, manifest)
    return Artefact(folder, manifest)


def versions_in(folder: Path) -> list[int]:
    """Numbers of the versions that are published in a model's folder, ascending.

    Raises:
        InvalidArtefact: the folder may not be read.
    """
    try:
        if not folder.is_dir():
            return []
        return sorted(int(path.name) for path in folder.iterdir() if VERSION.fullmatch(path.name) and is_version(path))
    except OSError as error:
        raise InvalidArtefact(f"{folder} cannot be read: {error.strerror or error}") from error


def is_version(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def latest_version(folder: Path) -> Path | None:
    """Folder of the latest version in a model's folder, or the folder itself where it is a version; else None."""
    if is_version(folder):
        return folder
    versions = versions_in(folder)
    return folder / str(versions[-1]) if versions else None


def first_published(folder: Path) -> str:
    """Since when the model in this folder is published, in ISO 8601: what its oldest readable version says; else nothing."""
    for number in versions_in(folder):
        with suppress(InvalidArtefact):
            manifest = read_manifest(folder / str(number))
            return manifest.first_published or manifest.created
    return ""


def oldest(first_published: Mapping[str, str]) -> str:
    """Of models, with the time since when each is published, the one that was published first; of several the first by name."""
    return min(first_published, key=lambda name: (instant(first_published[name]), name))


def instant(text: str) -> datetime:
    """A time in ISO 8601, of UTC where it names no zone; what is none is later than everything."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


# --- publishing, changing and removing


@dataclass(frozen=True, slots=True)
class Release:
    """A version in the making: it is filled in `staging`, and lies in `folder` once it is whole."""

    staging: Path
    folder: Path
    first_published: str
    """For its manifest: since when the name is published."""

    @property
    def version(self) -> int:
        return int(self.folder.name)

    def add_files(self, source: Artefact) -> None:
        """Copy what the manifest of another version lists."""
        for name in source.manifest.files:
            shutil.copyfile(source.folder / name, self.staging / name)

    def seal(self, manifest: Manifest) -> Manifest:
        """Write the manifest of this version, with a checksum of each file that is not listed.

        Raises:
            InvalidArtefact: a file that it lists is missing, or is another one by now.
        """
        new = {path.name for path in self.staging.iterdir()} - {MANIFEST, *manifest.files}
        files = {**manifest.files, **{name: describe_file(self.staging / name) for name in sorted(new)}}
        update = {"version": self.version, "first_published": self.first_published, "files": files}
        sealed = manifest.model_copy(update=update)
        (self.staging / MANIFEST).write_text(sealed.as_json(), encoding="utf-8")
        verify_files(self.staging, sealed)
        return sealed


@contextlib.contextmanager
def next_release(models: Path, name: str, serves: bool = True) -> Iterator[Release]:
    """An empty folder that becomes the next version under `models/name` by one rename when the block ends.

    Args:
        serves: whether the version serves from the next start on; without it the one that serves now does. A name's first
            version always serves.

    Raises:
        InvalidSettings: the name cannot be a model's.
        SetupError: the folder cannot be written; nothing is left behind.
    """
    check_name(name)
    parent = models / name
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    staging: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / str(next_version(parent))
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=parent))
        since = first_published(parent) or datetime.now(UTC).isoformat(timespec="milliseconds")
        yield Release(staging, folder, since)
        staging.chmod(READABLE)  # mkdtemp lets only its maker in
        if not serves:  # before it can be seen: a start in between must not take it
            _keep_serving(parent)
        _reveal(staging, folder)
        if serves:
            with suppress(OSError):  # it is published all the same
                write_serving(parent, int(folder.name), PUBLISHED)
    except OSError as error:
        raise SetupError(f"{parent} cannot be written: {error.strerror or error}") from error
    finally:  # however it ended, nothing half-written stays
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(missing)


def replace_manifest(artefact: Artefact, manifest: Manifest) -> None:
    """Change what a version says of itself; its other files stay, and so it is the same version.

    Who reads the folder meanwhile finds the old manifest or the new one, and no third file: it is written elsewhere.

    Raises:
        SetupError: it cannot be written.
    """
    path = artefact.folder / MANIFEST
    try:
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=artefact.folder.parent) as staging:
            write_atomically(path, manifest.as_json(), partial=Path(staging) / MANIFEST)
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror or error}") from error


def withdraw(folder: Path) -> None:
    """Remove a published version: by one rename out of everybody's sight, then from the disk.

    Raises:
        SetupError: the folder cannot be removed.
    """
    try:
        grave = Path(tempfile.mkdtemp(prefix=REMOVED, dir=folder.parent))
        try:
            folder.rename(grave / folder.name)
        finally:
            shutil.rmtree(grave)
        if not versions_in(folder.parent):
            (folder.parent / SERVING).unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"{folder} cannot be removed: {error.strerror or error}") from error
    _remove_empty([folder.parent])


def check_name(name: str) -> None:
    """
    Raises:
        InvalidSettings: the name cannot be a model's.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidSettings(
            f"{name!r} cannot be a model's name: lower-case letters, digits, '.', '_' and '-', at most 64, not '.' first"
        )


def next_version(parent: Path) -> int:
    """One more than the highest number in the folder, whatever gaps there are: also than one that is broken."""
    numbers = [int(path.name) for path in parent.glob("*") if re.fullmatch(r"[0-9]+", path.name)]
    return max(numbers, default=0) + 1


def _reveal(staging: Path, target: Path) -> None:
    for path in [*staging.iterdir(), staging]:
        sync(path)
    if target.exists():  # rename would replace an empty folder without a word
        raise SetupError(f"{target} appeared while it was being written; publish again")
    staging.rename(target)
    sync(target.parent)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty: something was published
            folder.rmdir()


# --- which version serves


@dataclass(frozen=True, slots=True)
class Serving:
    """The version of a model that is loaded at a start."""

    version: int
    why: str
    """What made it so: `published`, `kept`, `loaded`, `promoted`, that another one was removed, or who writes no reason."""
    at: str = ""
    """When, in ISO 8601: of two records the later one counts."""


def read_serving(folder: Path) -> Serving | None:
    """The record in a model's folder, or None.

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
    _write_record(folder, Serving(version, why, datetime.now(UTC).isoformat(timespec="milliseconds")))


def _write_record(folder: Path, record: Serving) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SERVING, json.dumps(asdict(record)) + "\n")


def serving_version(folder: Path, record: Serving | None) -> int | None:
    """The version of a model that a start loads: the one that was loaded, promoted or published last, else the latest. A folder
    that was put beside a published version since then is a later publication. None where the model has no version.

    Args:
        record: which version serves, if that is written down.

    Raises:
        InvalidArtefact: the version that the record names is gone: another one is not taken for it.
    """
    versions = versions_in(folder)
    if not versions or record is None or (record.why == PUBLISHED and versions[-1] > record.version):
        return versions[-1] if versions else None
    if record.version not in versions:
        raise InvalidArtefact(
            f"the {SERVING} of {folder.name} names version {record.version} ({record.why}), which is not there; load another"
            " version by its number, or remove the file: then the latest serves"
        )
    return record.version


def _keep_serving(folder: Path) -> None:
    """Write down that the version which serves now goes on serving, whatever is published after it.

    Raises:
        OSError: it cannot be written.
        InvalidArtefact: the record that is there cannot be read, or names a version that is gone.
    """
    record = read_serving(folder)
    version = serving_version(folder, record)
    if version is None or (record is not None and record.why != PUBLISHED):
        return
    # as old as it was: in another folder a service may have noted since then which version it loaded, which counts for more
    _write_record(folder, Serving(version, KEPT, record.at if record else ""))


class ServingRecords:
    """The records of all models: in the repository, and in another folder where one is named for a read-only repository."""

    def __init__(self, models: Path, state: str = "") -> None:
        self._roots = [Path(state).expanduser(), models] if state else [models]

    def read(self, name: str) -> Serving | None:
        """The latest record of this model.

        Raises:
            InvalidArtefact: one cannot be read.
        """
        records = [record for root in self._roots if (record := read_serving(root / name)) is not None]
        earliest = datetime.min.replace(tzinfo=UTC)
        return max(records, key=lambda record: instant(record.at) if record.at else earliest, default=None)

    def write(self, name: str, version: int, why: str) -> bool:
        """Whether it could be written, and so lasts."""
        for root in self._roots:
            with suppress(OSError):
                write_serving(root / name, version, why)
                return True
        return False
