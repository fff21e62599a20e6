"""What SQLite leaves beside a database, and a lock for all who write in its folder.

SQLite plays a log back into whatever file bears the name, also into one that was made or put there since: texts that had been
deleted come back, or the new file is broken. So a log is compared with its file before SQLite sees either. The formats are
those of https://sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOGS = ("-journal", "-wal", "-shm")
POLL_S = 0.002
_MAGIC = bytes.fromhex("d9d505f920a163d7")
_ROLLBACK = b"\x01\x01"
"""Bytes 18 and 19 of a database that keeps a rollback journal; with a write-ahead log they are 2."""
_COUNTER = slice(24, 28)
"""Raised by each transaction."""
_PAGE = 65_536
"""Bytes of the largest page."""


@contextmanager
def sole_writer(folder: Path, patience_s: float) -> Iterator[int]:
    """Nobody else who asks for this is in the folder meanwhile, in this process or another. The lock leaves no file behind, and
    ends with its holder however that ends.

    Yields:
        A handle of the folder.

    Raises:
        TimeoutError: another does not let go of it.
        OSError: there is no such folder.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + patience_s
        while not _locked(handle):
            if time.monotonic() > until:
                raise TimeoutError("another process does not let go of it")
            time.sleep(POLL_S)
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def has_log(path: Path) -> bool:
    return any(Path(f"{path}{suffix}").exists() for suffix in LOGS)


def drop_logs(path: Path) -> None:
    """Forget the logs of a file that is gone."""
    for suffix in LOGS:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def is_strangers_journal(path: Path, identity: re.Pattern[bytes]) -> bool:
    """Whether the rollback journal beside a database is of another one, which lay there before. A write-ahead log beside a
    database that keeps none can only be that, and is dropped.

    Args:
        path: of the database. For a sole writer alone: a journal is then what a killed process left.
        identity: finds in a database's first page what no other database has there.
    """
    page = _first_bytes(path, _PAGE)
    if page[18:20] == _ROLLBACK:
        Path(f"{path}-wal").unlink(missing_ok=True)
        Path(f"{path}-shm").unlink(missing_ok=True)
    before = _page_before(Path(f"{path}-journal"))
    if before is None:
        return False
    if _search(identity, before) != _search(identity, page[: len(before)]):
        return True
    return _counter(page) - _counter(before) not in (0, 1)


def _page_before(journal: Path) -> bytes | None:
    """The database's first page as it was before the transaction that the journal would undo; None: it undoes none."""
    with suppress(FileNotFoundError), journal.open("rb") as stream:
        header = stream.read(28)
        if len(header) < 28 or header[:8] != _MAGIC:
            return None
        sector, page_bytes = struct.unpack(">II", header[20:28])
        stream.seek(sector)
        while len(record := stream.read(4 + page_bytes + 4)) == 4 + page_bytes + 4:
            if record[:4] == b"\x00\x00\x00\x01":
                return record[4 : 4 + page_bytes]
    return None


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(count)


def _search(identity: re.Pattern[bytes], page: bytes) -> bytes | None:
    match = identity.search(page)
    return match.group() if match else None


def _counter(page: bytes) -> int:
    return int.from_bytes(page[_COUNTER], "big")
