"""A release: a new version of a model appears whole or not at all, and an old one disappears the same way."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.core.errors import InvalidSettings, SetupError
from app.core.manifest import NAME_PATTERN
from app.core.served import PUBLISHED, SERVING, first_published, versions_in, write_serving

STAGING = ".staging-"
REMOVED = ".removed-"
READABLE = 0o755


@dataclass(frozen=True, slots=True)
class Release:
    """A version in the making: filled in `staging`, found in `folder` once it is whole."""

    staging: Path
    folder: Path
    first_published: str
    """For its manifest: since when the name is published."""

    @property
    def version(self) -> int:
        return int(self.folder.name)


@contextlib.contextmanager
def next_release(models: Path, name: str) -> Iterator[Release]:
    """An empty folder that becomes the next version under `models/name` by one rename when the block ends.

    Raises:
        InvalidSettings: the name cannot be a model's.
        SetupError: the folder cannot be written; nothing is left behind.
    """
    check_name(name)
    parent = models / name
    made = _missing_folders(parent)
    staging: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / str(next_version(parent))
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=parent))
        since = first_published(parent) or datetime.now(UTC).isoformat(timespec="milliseconds")
        yield Release(staging, folder, since)
        staging.chmod(READABLE)  # mkdtemp lets only its maker in
        _reveal(staging, folder)
        with contextlib.suppress(OSError):  # it is published all the same
            write_serving(parent, int(folder.name), PUBLISHED)
    except OSError as error:
        raise SetupError(f"{parent} cannot be written: {error.strerror or error}") from error
    finally:  # however it ended, nothing half-written stays
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(made)


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
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidSettings(
            f"{name!r} cannot be a model's name: lower-case letters, digits, '.', '_' and '-', at most 64, not '.' first"
        )


def next_version(parent: Path) -> int:
    """One more than the highest version in the folder, whatever gaps there are."""
    numbers = [int(path.name) for path in parent.glob("*") if re.fullmatch(r"[0-9]+", path.name)]
    return max(numbers, default=0) + 1


def _reveal(staging: Path, target: Path) -> None:
    for path in [*staging.iterdir(), staging]:
        _sync(path)
    if target.exists():  # rename would replace an empty folder without a word
        raise SetupError(f"{target} appeared while it was being written; publish again")
    staging.rename(target)
    _sync(target.parent)


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
