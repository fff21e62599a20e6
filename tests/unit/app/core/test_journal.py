"""What SQLite leaves beside a database, told apart from what lay there before; and one writer at a time."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from app.core.journal import LOGS, drop_logs, has_log, is_strangers_journal, sole_writer

IDENTITY = re.compile(rb"identity_[0-9a-f]{8}")


def database(path: Path, identity: str = "identity_00000001") -> Path:
    """A database with a table of this name, which stands in its first page."""
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {identity} (text)")
        connection.execute(f"INSERT INTO {identity} VALUES ('first')")
    connection.close()
    return path


def interrupted(path: Path, identity: str = "identity_00000001") -> None:
    """Leave the journal of a transaction that was never ended beside a database that has not been written to."""
    copy = path.with_name("copy.sqlite")
    shutil.copy(path, copy)
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")  # so that pages go to the disk, and the journal before them
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"INSERT INTO {identity} VALUES (hex(zeroblob(40000)))")
    connection.execute("CREATE TABLE more (x)")
    connection.execute("INSERT INTO more VALUES (hex(zeroblob(40000)))")
    shutil.copy(f"{copy}-journal", f"{path}-journal")
    connection.execute("ROLLBACK")
    connection.close()


def taken_away(path: Path) -> bytes:
    """The journal, which SQLite must not see meanwhile: it would play it back."""
    journal = Path(f"{path}-journal")
    content = journal.read_bytes()
    journal.unlink()
    return content


def test_a_folder_has_one_writer_at_a_time_and_keeps_nothing_of_the_lock(tmp_path: Path) -> None:
    with sole_writer(tmp_path, 0), pytest.raises(TimeoutError, match="another process"), sole_writer(tmp_path, 0):
        pass
    with sole_writer(tmp_path, 0):
        assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_an_error_in_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_writer(tmp_path, 0):
        raise KeyError
    with sole_writer(tmp_path, 0) as handle:
        assert handle > 2


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), sole_writer(tmp_path / "none", 0):
        pass


@pytest.mark.parametrize("suffix", LOGS)
def test_every_kind_of_log_is_seen_and_dropped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "kept.sqlite"
    assert not has_log(path)
    Path(f"{path}{suffix}").touch()
    assert has_log(path)
    drop_logs(path)
    assert not has_log(path)
    drop_logs(path)


def test_without_a_journal_or_with_an_empty_one_there_is_no_strangers(tmp_path: Path) -> None:
    path = database(tmp_path / "kept.sqlite")
    assert not is_strangers_journal(path, IDENTITY)
    Path(f"{path}-journal").write_bytes(b"\0" * 512)  # as SQLite leaves it where journals persist
    assert not is_strangers_journal(path, IDENTITY)


def test_the_journal_of_a_killed_transaction_is_the_databases_own(tmp_path: Path) -> None:
    path = database(tmp_path / "kept.sqlite")
    interrupted(path)
    assert not is_strangers_journal(path, IDENTITY)


def test_the_journal_of_another_database_is_a_strangers(tmp_path: Path) -> None:
    path = database(tmp_path / "kept.sqlite")
    interrupted(path)
    journal = taken_away(path)
    path.unlink()
    database(path, "identity_00000002")
    Path(f"{path}-journal").write_bytes(journal)
    assert is_strangers_journal(path, IDENTITY)


def test_a_journal_older_than_the_last_transaction_is_a_strangers(tmp_path: Path) -> None:
    path = database(tmp_path / "kept.sqlite")
    interrupted(path)
    journal = taken_away(path)
    for _ in range(2):
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT INTO identity_00000001 VALUES ('later')")
        connection.close()
    Path(f"{path}-journal").write_bytes(journal)
    assert is_strangers_journal(path, IDENTITY)


def test_a_write_ahead_log_beside_a_database_that_keeps_none_is_dropped(tmp_path: Path) -> None:
    path = database(tmp_path / "kept.sqlite")
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").write_bytes(b"of another one")
    assert not is_strangers_journal(path, IDENTITY)
    assert not has_log(path)
