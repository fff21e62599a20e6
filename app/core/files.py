"""Files that appear whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
"""Mode of a file that its owner alone may read."""


@contextmanager
def atomic_writer(path: Path, mode: int = 0o666, partial: Path | None = None) -> Iterator[BinaryIO]:
    """A stream whose content gets the name `path` when the block ends without an error; after an error nothing of it stays.

    Args:
        path: an earlier file of this name is replaced in one step.
        mode: of the file, less the process's umask.
        partial: where it is written meanwhile, on the same disk; by default under a hidden name of its own beside `path`. One
            that is always the same is for a sole writer, who may be killed: no second file is left behind then.

    Raises:
        OSError: it cannot be written.
    """
    collision = os.O_EXCL if partial is None else os.O_TRUNC
    partial = partial or path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | collision | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # the content must be on the disk before its name is
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666, partial: Path | None = None) -> None:
    """As `atomic_writer`, for content that is there already; text is written as UTF-8."""
    with atomic_writer(path, mode, partial) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Return when the file, or the names in the folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
