"""An output in the making, which outlives the process that writes it: a killed run is resumed by the same command.

`OUTPUT.partial` holds what has been answered, `OUTPUT.journal` says how much of it counts and what it answers. The order of
steps is what makes a kill harmless at any moment: rows reach the disk before the journal counts them, the journal is replaced
in one step, and whatever the partial file holds beyond it is cut off when the next run begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from app.core.errors import SetupError
from app.core.files import sync, write_atomically

PARTIAL, JOURNAL, WRITING = ".partial", ".journal", ".writing"
EVERY_S = 1.0
"""Seconds between two entries of the journal: about as much work is lost to a kill."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of the partial file counts."""

    num_rows: int = 0
    num_failed: int = 0
    """Of them, those that were answered with an error."""
    num_bytes: int = 0
    is_complete: bool = False


class ResumableWriter:
    """Rows that were answered, appended to the partial file; see `resumable_writer`.

    Invariant: the journal never counts a byte that is not on the disk.
    """

    def __init__(self, target: Path, job: Mapping[str, Any], file: BinaryIO, mark: Mark) -> None:
        """
        Args:
            job: what is answered, as JSON: only the same job resumes this output.
            file: the partial file, open for appending.
            mark: where an earlier run has stopped.
        """
        self._target, self._job, self._file = target, job, file
        self.mark = mark
        self._last = time.monotonic()
        self._cut()

    def write(self, block: bytes, num_rows: int, num_failed: int) -> None:
        """Append rows; they count from the journal's next entry on."""
        data = gzip.compress(block, 6, mtime=0) if self._target.suffix == ".gz" else block
        self._file.write(data)
        old = self.mark
        self.mark = Mark(old.num_rows + num_rows, old.num_failed + num_failed, old.num_bytes + len(data))
        if time.monotonic() - self._last >= EVERY_S:
            self.save()

    def save(self) -> None:
        """Have everything that was written count."""
        self._file.flush()
        os.fsync(self._file.fileno())
        _write_journal(self._target, self._job, self.mark)
        self._last = time.monotonic()

    def finish(self, convert: Callable[[Path, Path], None] | None = None) -> None:
        """Give the output its name.

        Args:
            convert: makes the output (second) of the partial file (first), where they are not the same.
        """
        self.mark = replace(self.mark, is_complete=True)
        self.save()
        partial = _sibling(self._target, PARTIAL)
        if convert is None:
            partial.replace(self._target)
        else:
            writing = _sibling(self._target, WRITING)
            convert(partial, writing)
            sync(writing)
            writing.replace(self._target)
            partial.unlink()
        sync(self._target.parent)
        _sibling(self._target, JOURNAL).unlink()

    def _cut(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size < self.mark.num_bytes:
            partial = _sibling(self._target, PARTIAL)
            raise SetupError(
                f"{partial} has {size} bytes, its journal counts {self.mark.num_bytes}; say --restart to begin again"
            )
        self._file.truncate(self.mark.num_bytes)


@contextlib.contextmanager
def resumable_writer(
    target: Path, job: Mapping[str, Any], *, overwrite: bool, restart: bool
) -> Iterator[ResumableWriter | Mark]:
    """Begin an output, or resume that of the same job.

    Args:
        job: what is answered, as JSON.
        overwrite: whether an output of this name may be replaced, once the new one is whole.
        restart: begin again, whatever an earlier run has left.

    Yields:
        The writer; of an earlier run that was stopped when the output had its name already, the mark.

    Raises:
        SetupError: the output exists, what is left is of another job, another run is writing it, or it cannot be written.
    """
    journal, partial = _sibling(target, JOURNAL), _sibling(target, PARTIAL)
    with _os_errors(target):
        mark = None if restart else _read_journal(journal, job)
        if target.exists() and not overwrite and not (mark and mark.is_complete):
            raise SetupError(f"{target} exists; say --overwrite to replace it")
        if mark is not None and mark.is_complete and not partial.exists() and target.exists():
            journal.unlink()
            yield mark
            return
        with _locked(partial, target) as file:
            if mark is None and not restart and os.fstat(file.fileno()).st_size:
                raise SetupError(f"{partial} is in the way, and no journal says what it is; say --restart to begin again")
            if mark is None:
                _write_journal(target, job, Mark())
            # once more, now that no other run can change it
            yield ResumableWriter(target, job, file, _read_journal(journal, job) or Mark())


def is_own(target: Path, path: Path) -> bool:
    """Whether a path is one of the files that are written for the target."""
    names = (target, *(_sibling(target, suffix) for suffix in (PARTIAL, JOURNAL, WRITING)))
    return any(os.path.realpath(name) == os.path.realpath(path) or _is_same(name, path) for name in names)


@contextlib.contextmanager
def _locked(partial: Path, target: Path) -> Iterator[BinaryIO]:
    """The partial file, open for appending, for one process at a time; a killed one's lock ends with it."""
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another run is writing {target}") from None
        if not partial.exists() or not os.path.samestat(os.fstat(file.fileno()), partial.stat()):
            raise SetupError(f"another run has just finished {target}")
        yield file


def _read_journal(journal: Path, job: Mapping[str, Any]) -> Mark | None:
    try:
        journaled = json.loads(journal.read_text(encoding="utf-8"))
        mark = Mark(**journaled["mark"])
        other = [name for name, value in json.loads(json.dumps(job)).items() if journaled["job"].get(name) != value]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(f"{journal} cannot be read ({type(error).__name__}); say --restart to begin again") from error
    if other:
        raise SetupError(f"{journal} is of a run with another {other[0]}; say --restart to begin again")
    return mark


def _write_journal(target: Path, job: Mapping[str, Any], mark: Mark) -> None:
    journal = _sibling(target, JOURNAL)
    write_atomically(journal, json.dumps({"job": job, "mark": asdict(mark)}), partial=journal.with_name(f"{journal.name}.new"))


@contextlib.contextmanager
def _os_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "; what was answered is kept, and the same command resumes it" if _sibling(target, JOURNAL).exists() else ""
        raise SetupError(f"{target} cannot be written: {error.strerror or error}{hint}") from error


def _sibling(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False
