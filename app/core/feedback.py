"""The feedback file: corrections in SQLite. The one place that opens it, for the service, the commands and training.

SQLite keeps the promises that are needed here: a transaction is on the disk as a whole or not at all, and several processes
write one file in turn. It is opened anew for each request, and keeps a rollback journal: so there is no state that outlives a
file which somebody removes, moves or replaces, and no log beside it (ADR 26). The file must lie on a disk of the machine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

from app.core.correction import Correction, canonical
from app.core.errors import NotStored, SetupError
from app.core.journal import drop_logs, has_log, is_strangers_journal, sole_writer

APPLICATION_ID = 0x686F6F70
"""`hoop`: tells this file from any other of SQLite."""
FORMAT = 1
BUSY_S = 5.0
"""How long one process waits for another's transaction; those take milliseconds."""
PAGE_BYTES = 4096
TRIES = 5
"""How often a correction is written where the file is replaced each time."""
READ_AT_ONCE = 64
"""Corrections that a reader takes while writers wait."""
Change = Literal["made", "replaced"]
"""What was found at the path: nothing, so that a new file was made, or another file than before."""
_COLUMNS = "id, model, version, task, item, predicted, right, agrees, request_id, at, source, comment"
_IDENTITY = re.compile(rb"-- file [0-9a-f]{32}")
_SCHEMA = f"""
CREATE TABLE corrections ( -- file {{identity}}
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL CHECK (length(model) BETWEEN 1 AND 64),
    version INTEGER NOT NULL CHECK (version >= 1),
    task TEXT NOT NULL CHECK (length(task) BETWEEN 1 AND 64),
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
"""SQLite keeps the comment: it stands in the first page, and tells the file from any other."""
_TASKS_OF_0_1_0 = re.compile(r"CHECK \(task IN \([^)]*\)\)")
"""Release 0.1.0 listed its tasks in the table."""


class _Unfit(Exception):
    """What lies at the path cannot be written; says why, without the path: callers read it."""


class _Gone(_Unfit):
    """What was written is no longer at its path: a reason to try again."""


class FeedbackFile:
    """Writes corrections.

    Invariant: what `add` has returned is on the disk, in the file that was at the path then, and of what it raised for there
    is nothing in it.
    """

    def __init__(self, path: Path, max_bytes: int, on_change: Callable[[Change], None] = lambda _: None) -> None:
        """Look whether the file can be written, or make it, readable by its owner alone.

        Args:
            path: of the file; its folder must be there.
            on_change: is told when the file is found to be gone, or another one in its place.

        Raises:
            SetupError: it cannot be opened or made, or is another kind of file.
        """
        self.path, self._max_bytes, self._on_change = path, max_bytes, on_change
        self._device: int | None = None
        """Of the folder, when the service started."""
        self._file: os.stat_result | None = None
        """The file that was written last."""
        try:
            with self._opened():
                self._file = self.path.stat()
        except (sqlite3.Error, OSError, _Unfit) as error:
            raise _setup_error(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, corrections: Sequence[Correction]) -> list[int]:
        """Keep all of them or none.

        Returns:
            Their ids.

        Raises:
            NotStored: the disk or the file is full, another process does not let go of it, it is broken, or something else
                has taken its place.
        """
        for _ in range(TRIES):
            try:
                return self._added(corrections)
            except _Gone:
                continue
            except (sqlite3.Error, OSError, _Unfit) as error:
                if _code(error) != sqlite3.SQLITE_READONLY_DBMOVED:  # SQLite saw it first, and wrote nothing
                    raise NotStored(f"the correction was not kept: {_why(error)}") from error
        raise NotStored("the correction was not kept: the feedback file is replaced again and again")

    def close(self) -> None:
        """Nothing is held between two requests."""

    def _added(self, corrections: Sequence[Correction]) -> list[int]:
        with self._opened() as connection:
            at_path = self.path.stat()
            with _transaction(connection):
                _admit_tasks(connection, {correction.task for correction in corrections})
                ids = [_insert(connection, correction) for correction in corrections]
            # While the connection is open its inode is no other file's, so that equal numbers mean the same file.
            if not _is_at(self.path, at_path):
                raise _Gone("was moved away meanwhile")
            if self._file is not None and not os.path.samestat(self._file, at_path):
                self._on_change("replaced")
            self._file = at_path
            return ids

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file at the path, made where there is none, for this writer alone."""
        path = _real(self.path)
        with sole_writer(path.parent, BUSY_S) as folder:
            if not _is_at(path.parent, os.fstat(folder)):
                raise _Gone("was moved away meanwhile")
            self._make_missing(path, folder)
            _check_logs(path)
            with closing(_connect(path, "rw")) as connection:
                _prepare(connection)
                connection.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // PAGE_BYTES)}")
                yield connection

    def _make_missing(self, path: Path, folder: int) -> None:
        device = os.fstat(folder).st_dev
        if not path.exists():
            if self._device not in (None, device):
                # A volume was taken away; what is written now would be hidden when it is back.
                raise _Unfit("its folder is on another disk than when the service started, and has no such file")
            _make(path, folder)
            if self._device is not None:
                self._on_change("made")
                self._file = None
        elif not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
            raise PermissionError(13, "Permission denied")
        self._device = self._device or device


def read(path: Path, model: str | None = None) -> Iterator[Correction]:
    """The corrections in the order in which they were kept, up to the last one of this moment; of one model, or of all.

    Raises:
        SetupError: the file cannot be read.
    """
    where, values = ("AND model = ?", [model]) if model is not None else ("", [])
    some = f"SELECT {_COLUMNS} FROM corrections WHERE id > ? AND id <= ? {where} ORDER BY id LIMIT {READ_AT_ONCE}"  # noqa: S608
    try:
        with closing(_connect_reading(_real(path))) as connection:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM corrections").fetchone()
            before = 0
            while rows := connection.execute(some, [before, last, *values]).fetchall():  # and no lock between two
                before = rows[-1][0]
                yield from map(_correction, rows)
    except (sqlite3.Error, OSError, _Unfit) as error:
        raise _setup_error(path, error) from error


def remove(path: Path, model: str | None = None, request_id: str | None = None, before: str | None = None) -> int:
    """Delete corrections that are all of this, overwriting them on the disk.

    Args:
        before: kept before this time, as ISO 8601 writes it.

    Returns:
        How many there were.

    Raises:
        SetupError: the file cannot be written.
    """
    conditions = {"model = ?": model, "request_id = ?": request_id, "datetime(at) < datetime(?)": before}
    conditions = {condition: value for condition, value in conditions.items() if value is not None}
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    real = _real(path)
    try:
        with sole_writer(real.parent, BUSY_S):
            _check_logs(real)
            with closing(_connect(real, "rw")) as connection:
                _prepare(connection)
                with _transaction(connection):
                    count = connection.execute(f"DELETE FROM corrections {where}", list(conditions.values())).rowcount  # noqa: S608
                _overwrite(connection, count)
                return count
    except (sqlite3.Error, OSError, _Unfit) as error:
        raise _setup_error(path, error) from error


def _overwrite(connection: sqlite3.Connection, count: int) -> None:
    """Whatever the file and a log of an earlier release still hold of what was deleted."""
    try:
        connection.execute("VACUUM")
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise _Unfit(f"has {count:,} corrections less, but may still hold their texts: {_why(error)}; remove again") from error
    if is_busy:
        raise _Unfit(f"has {count:,} corrections less, but its log is in use and may still hold their texts; remove again")


def _make(path: Path, folder: int) -> None:
    """An empty file under its name, whole from the first moment, and without what a file of that name has left behind."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600, as what SQLite puts beside it
    os.close(handle)
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.executescript(f"BEGIN; {_SCHEMA.format(identity=secrets.token_hex(16))} COMMIT;")
        drop_logs(path)
        with suppress(FileExistsError):  # somebody has put one there
            os.link(name, path)
        os.fsync(folder)
    finally:
        drop_logs(Path(name))
        Path(name).unlink(missing_ok=True)


def _check_logs(path: Path) -> None:
    """
    Raises:
        _Unfit: SQLite would play a journal back into the file that is another file's.
    """
    if has_log(path) and path.is_file() and is_strangers_journal(path, _IDENTITY):
        raise _Unfit("has a journal beside it (-journal) that is another file's; move that away")


def _connect_reading(path: Path) -> sqlite3.Connection:
    """What a killed process left half-written is undone, where that may be."""
    may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if may_write and has_log(path):
        with sole_writer(path.parent, BUSY_S):
            _check_logs(path)
            return _connect(path, "rw")
    return _connect(path, "rw" if may_write else "ro")


def _connect(path: Path, mode: Literal["rw", "ro"]) -> sqlite3.Connection:
    """
    Raises:
        sqlite3.Error: it cannot be opened.
        _Unfit: it is another kind of file.
    """
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for its other end
        raise _Unfit("is no file")
    uri = f"{path.as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if kind != APPLICATION_ID:
            raise _Unfit("is no feedback file")
        if version != FORMAT:
            raise _Unfit(f"has the format {version}; this version of Hooper reads {FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """For writing: what was acknowledged survives the loss of power, what was deleted is overwritten, and no log is kept."""
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA secure_delete = ON")
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):  # made by an earlier release
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY:  # a service of that release runs: its log serves both until it ends
                raise


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


def _admit_tasks(connection: sqlite3.Connection, tasks: set[str]) -> None:
    """Let a file of release 0.1.0 take tasks that came later, by the procedure of https://sqlite.org/lang_altertable.html for
    changes of the schema that concern no content. Within a transaction; that release still reads the file."""
    (schema,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'corrections'").fetchone()
    listed = _TASKS_OF_0_1_0.search(schema)
    if listed is None or all(f"'{task}'" in listed[0] for task in tasks):
        return
    (version,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, '') WHERE name = 'corrections'", [f" {listed[0]}"])
    connection.execute(f"PRAGMA schema_version = {version + 1}")
    connection.execute("PRAGMA writable_schema = RESET")


def _insert(connection: sqlite3.Connection, correction: Correction) -> int:
    values = (
        correction.model, correction.version, correction.task, canonical(correction.item), canonical(correction.predicted),
        canonical(correction.right), int(correction.agrees), correction.request_id, correction.at, correction.source,
        correction.comment,
    )  # fmt: skip
    cursor = connection.execute(
        f"INSERT INTO corrections ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        values,
    )
    return cursor.lastrowid or 0


def _correction(row: Sequence[Any]) -> Correction:
    number, model, version, task, item, predicted, right, agrees, request_id, at, source, comment = row
    item, predicted, right = json.loads(item), json.loads(predicted), json.loads(right)
    return Correction(
        model, version, task, item, predicted, right, bool(agrees), request_id, at, source, comment, number
    )  # fmt: skip


def _real(path: Path) -> Path:
    """Where the file lies: SQLite puts its journal beside a link's target."""
    return Path(os.path.realpath(path))


def _is_at(path: Path, status: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(path.stat(), status)
    return False


def _setup_error(path: Path, error: Exception) -> SetupError:
    if path.exists() and not path.is_file():
        return SetupError(f"the feedback file {path} is no file")
    if isinstance(error, _Unfit):
        return SetupError(f"the feedback file {path} {error}")
    if not path.exists() and path.parent.is_dir() and not isinstance(error, OSError):
        return SetupError(f"the feedback file {path} does not exist")
    return SetupError(f"the feedback file {path} cannot be opened: {_why(error)}")


def _why(error: Exception) -> str:
    """Without a path, and without a word of what was to be kept: SQLite's messages name columns, never values."""
    if isinstance(error, _Unfit):
        return f"the feedback file {error}"
    if _code(error) == sqlite3.SQLITE_FULL:
        return "the disk is full, or the file has grown to HOOPER_FEEDBACK_MAX_BYTES"
    return getattr(error, "strerror", None) or str(error)


def _code(error: Exception) -> int | None:
    return getattr(error, "sqlite_errorcode", None)
