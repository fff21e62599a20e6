"""The feedback file: corrections in SQLite. The one place that opens it, for the service, the commands and training.

SQLite keeps the promises that are needed here: a transaction is on the disk as a whole or not at all, and several processes
write one file in turn (https://sqlite.org/wal.html). The file must lie on a disk of the machine: the log is shared memory.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from app.core.correction import Correction, canonical
from app.core.errors import NotStored, SetupError

APPLICATION_ID = 0x686F6F70
"""`hoop`: tells this file from any other of SQLite."""
FORMAT = 1
BUSY_S = 5.0
"""How long one process waits for another's transaction; those take milliseconds."""
PAGE_BYTES = 4096
_COLUMNS = "id, model, version, task, item, predicted, right, agrees, request_id, at, source, comment"
_SCHEMA = f"""
CREATE TABLE corrections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL CHECK (length(model) BETWEEN 1 AND 64),
    version INTEGER NOT NULL CHECK (version >= 1),
    task TEXT NOT NULL CHECK (task IN ('text-classification', 'question-answering', 'summarization')),
    item TEXT NOT NULL CHECK (json_valid(item)),
    predicted TEXT NOT NULL CHECK (json_valid(predicted)),
    right TEXT NOT NULL CHECK (json_valid(right)),
    agrees INTEGER NOT NULL CHECK (agrees IN (0, 1)),
    request_id TEXT NOT NULL CHECK (length(request_id) BETWEEN 1 AND 64),
    at TEXT NOT NULL CHECK (datetime(at) IS NOT NULL),
    source TEXT NOT NULL,
    comment TEXT NOT NULL
) STRICT;
CREATE INDEX of_model ON corrections (model, id);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""


class FeedbackFile:
    """Writes corrections. For one thread at a time.

    Invariant: what `add` has returned is on the disk, and of what it raised for there is nothing.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open the file, or make it, readable by its owner alone.

        Args:
            path: of the file; its folder must be there.
            max_bytes: what the file may grow to, without the log beside it.

        Raises:
            SetupError: it cannot be opened or made, or is another kind of file.
        """
        self.path, self._max_bytes = path, max_bytes
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise _refused(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, corrections: Sequence[Correction]) -> list[int]:
        """Keep all of them or none.

        Returns:
            Their ids.

        Raises:
            NotStored: the disk or the file is full, another process does not let go of it, or it is broken.
        """
        try:
            if not self._is_at_its_path():
                self.close()
                self._open()
            with _transaction(self._connection):
                return [self._insert(one) for one in corrections]
        except (sqlite3.Error, OSError, SetupError) as error:
            raise NotStored(f"the correction was not kept: {_why(error)}") from error

    def close(self) -> None:
        self._connection.close()

    def _open(self) -> None:
        if not self.path.exists():
            _make(self.path)
        self._connection = _connect(self.path, "rw")
        self._connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives the loss of power, too
        self._connection.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // PAGE_BYTES)}")
        self._file = self.path.stat()

    def _is_at_its_path(self) -> bool:
        """A file that was deleted can still be written to, and nobody would ever read it."""
        with suppress(OSError):
            return os.path.samestat(self.path.stat(), self._file)
        return False

    def _insert(self, one: Correction) -> int:
        values = (
            one.model, one.version, one.task, canonical(one.item), canonical(one.predicted), canonical(one.right),
            int(one.agrees), one.request_id, one.at, one.source, one.comment,
        )  # fmt: skip
        cursor = self._connection.execute(
            f"INSERT INTO corrections ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
            values,
        )
        return cursor.lastrowid or 0


def read(path: Path, model: str | None = None) -> Iterator[Correction]:
    """The corrections in the order in which they were kept; of one model, or of all.

    Raises:
        SetupError: the file cannot be read.
    """
    where, values = ("WHERE model = ?", [model]) if model is not None else ("", [])
    try:
        with closing(_connect(path, "ro")) as connection:
            for row in connection.execute(f"SELECT {_COLUMNS} FROM corrections {where} ORDER BY id", values):  # noqa: S608
                yield _correction(row)
    except (sqlite3.Error, OSError) as error:
        raise _refused(path, error) from error


def remove(path: Path, model: str | None = None, request_id: str | None = None, before: str | None = None) -> int:
    """Delete corrections that are all of this, overwriting them on the disk.

    Args:
        path: of the file.
        model: of this model.
        request_id: of this request.
        before: kept before this time, as ISO 8601 writes it.

    Returns:
        How many there were.

    Raises:
        SetupError: the file cannot be written.
    """
    wishes = {"model = ?": model, "request_id = ?": request_id, "datetime(at) < datetime(?)": before}
    given = {words: value for words, value in wishes.items() if value is not None}
    where = f"WHERE {' AND '.join(given)}" if given else ""
    try:
        with closing(_connect(path, "rw")) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            with _transaction(connection):
                count = connection.execute(f"DELETE FROM corrections {where}", list(given.values())).rowcount  # noqa: S608
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log has held the texts, too
            return count
    except (sqlite3.Error, OSError) as error:
        raise _refused(path, error) from error


def _make(path: Path) -> None:
    """An empty file under its name, whole from the first moment: two processes may start at once."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600, as what SQLite puts beside it
    os.close(handle)
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        with suppress(FileExistsError):  # another process was first
            os.link(name, path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(name + suffix).unlink(missing_ok=True)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """
    Raises:
        sqlite3.Error: it cannot be opened.
        SetupError: it is another kind of file.
    """
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if kind != APPLICATION_ID:
            raise SetupError(f"{path} is no feedback file")
        if version != FORMAT:
            raise SetupError(f"{path} has the format {version}; this version of Hooper reads {FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # where the disk is full SQLite has rolled it back already
            connection.execute("ROLLBACK")
        raise


def _correction(row: Sequence[Any]) -> Correction:
    number, model, version, task, item, predicted, right, agrees, request_id, at, source, comment = row
    item, predicted, right = json.loads(item), json.loads(predicted), json.loads(right)
    return Correction(
        model, version, task, item, predicted, right, bool(agrees), request_id, at, source, comment, number
    )  # fmt: skip


def _refused(path: Path, error: sqlite3.Error | OSError) -> SetupError:
    if path.exists() and not path.is_file():
        return SetupError(f"the feedback file {path} is no file")
    if not path.exists() and path.parent.is_dir() and not isinstance(error, OSError):
        return SetupError(f"the feedback file {path} does not exist")
    return SetupError(f"the feedback file {path} cannot be opened: {_why(error)}")


def _why(error: Exception) -> str:
    """Without a word of what was to be kept: SQLite's messages name columns, never values."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return "the disk is full, or the file has grown to HOOPER_FEEDBACK_MAX_BYTES"
    return getattr(error, "strerror", None) or str(error)
