"""What becomes of the feedback file while the service runs: removed, moved, replaced, restored. What was acknowledged is in the
file that was there, and what was forgotten stays so."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.core import feedback
from app.core.errors import NotStored, SetupError
from app.core.feedback import FeedbackFile, read, remove
from tests.support.corrections import CORRECTION, MEGABYTE, labelled, write_feedback
from tests.support.live_service import ROOT

NOBODY = 65534
"""A user without any rights."""
SHARED_MEMORY = Path("/dev/shm")
RELEASED = """
import os, sqlite3, sys
SCHEMA = '''CREATE TABLE corrections (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, version INTEGER NOT NULL, task TEXT NOT NULL, item TEXT NOT NULL,
    predicted TEXT NOT NULL, right TEXT NOT NULL, agrees INTEGER NOT NULL, request_id TEXT NOT NULL, at TEXT NOT NULL,
    source TEXT NOT NULL, comment TEXT NOT NULL
) STRICT;
CREATE INDEX of_model ON corrections (model, id);
PRAGMA application_id = 0x686F6F70;
PRAGMA user_version = 1;'''
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.executescript(SCHEMA)
for text in sys.argv[2:]:
    connection.execute(
        "INSERT INTO corrections VALUES (NULL, 'tiny', 1, 'text-classification', json_object('text', ?), "
        "json_object('labels', json_array(json_object('label', 'good', 'score', 0.9))), json_object('label', 'bad'), 0, "
        "'request', '2026-01-01T00:00:00.000+00:00', '', '')", (text,))
print("written", flush=True)
sys.stdin.read()
"""
"""How the first release wrote the file: with a write-ahead log, for as long as it ran."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    folder.mkdir()
    return folder / "feedback.db"


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def file(path: Path, changes: list[str]) -> Iterator[FeedbackFile]:
    with FeedbackFile(path, 64 * MEGABYTE, changes.append) as made:
        yield made


def texts(path: Path) -> list[str]:
    """After SQLite has found nothing wrong with the file."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return [part.item["text"] for part in read(path)]


def released(path: Path, *written_texts: str) -> subprocess.Popen[str]:
    """A service of the first release that has written, and still runs."""
    command = [sys.executable, "-c", RELEASED, str(path), *written_texts]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def ended(process: subprocess.Popen[str], *, is_killed: bool = False) -> None:
    if is_killed:
        process.kill()
    process.communicate()


def holding(folder: Path, words: bytes) -> list[str]:
    """Files that hold the words, whatever they are."""
    return [path.name for path in folder.rglob("*") if path.is_file() and words in path.read_bytes()]


def test_what_is_acknowledged_after_the_file_was_removed_is_in_the_new_one(
    file: FeedbackFile, path: Path, changes: list[str]
) -> None:
    for number in range(6):
        file.add([labelled(f"{number}" + "x" * MEGABYTE, "bad")])
    path.unlink()
    assert file.add([labelled("afterwards", "bad")]) == [1]
    assert texts(path) == ["afterwards"]
    assert [entry.name for entry in path.parent.iterdir()] == ["feedback.db"]
    assert changes == ["made"]


def test_what_is_acknowledged_after_the_file_was_moved_is_in_the_new_one(file: FeedbackFile, path: Path) -> None:
    file.add([labelled("before", "bad")])
    moved = path.rename(path.with_name("moved.db"))
    file.add([labelled("afterwards", "bad")])
    assert (texts(moved), texts(path)) == (["before"], ["afterwards"])


def test_what_is_acknowledged_after_another_file_took_its_place_is_in_that(
    file: FeedbackFile, path: Path, tmp_path: Path, changes: list[str]
) -> None:
    file.add([labelled("before", "bad")])
    write_feedback(tmp_path / "other.db", [labelled("of the other", "bad")]).replace(path)
    assert file.add([labelled("afterwards", "bad")]) == [2]
    assert texts(path) == ["of the other", "afterwards"]
    assert changes == ["replaced"]


def test_a_backup_that_is_copied_over_the_file_in_its_place_is_written_to(
    file: FeedbackFile, path: Path, tmp_path: Path
) -> None:
    file.add([labelled("in the backup", "bad")])
    backup = shutil.copyfile(path, tmp_path / "backup.db")
    for number in range(20):
        file.add([labelled(f"later {number}" + "x" * 5000, "bad")])
    inode = path.stat().st_ino
    shutil.copyfile(backup, path)
    assert path.stat().st_ino == inode
    file.add([labelled("afterwards", "bad")])
    assert texts(path) == ["in the backup", "afterwards"]


def test_where_a_link_is_turned_to_another_file_that_one_is_written_to(tmp_path: Path) -> None:
    first, second = (write_feedback(tmp_path / name / "real.db", []) for name in _folders(tmp_path, "first", "second"))
    link = tmp_path / "feedback.db"
    link.symlink_to(first)
    with FeedbackFile(link, MEGABYTE) as file:
        file.add([labelled("one", "bad")])
        link.unlink()
        link.symlink_to(second)
        file.add([labelled("two", "bad")])
    assert (texts(first), texts(second)) == (["one"], ["two"])


def test_a_link_to_nothing_becomes_a_link_to_a_file(tmp_path: Path) -> None:
    link = tmp_path / "feedback.db"
    link.symlink_to(tmp_path / "real.db")
    with FeedbackFile(link, MEGABYTE) as file:
        file.add([CORRECTION])
    assert link.is_symlink()
    assert texts(tmp_path / "real.db") == ["a good film"]


def test_where_the_folder_is_moved_and_made_again_the_new_one_is_written_to(
    file: FeedbackFile, path: Path, tmp_path: Path
) -> None:
    file.add([labelled("before", "bad")])
    path.parent.rename(tmp_path / "moved")
    with pytest.raises(NotStored, match="No such file"):
        file.add([labelled("nowhere", "bad")])
    path.parent.mkdir()
    file.add([labelled("afterwards", "bad")])
    assert (texts(tmp_path / "moved" / path.name), texts(path)) == (["before"], ["afterwards"])


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="needs a second file system")
def test_no_file_is_made_where_the_disk_was_taken_away(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as disk:
        if Path(disk).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second file system")
        place = tmp_path / "place"
        place.symlink_to(disk)
        with FeedbackFile(place / "feedback.db", MEGABYTE) as file:
            file.add([CORRECTION])
            place.unlink()
            place.mkdir()  # as a mount point is when its volume is gone
            with pytest.raises(NotStored, match="on another disk"):
                file.add([labelled("would be hidden", "bad")])
            assert list(place.iterdir()) == []
            place.rmdir()
            place.symlink_to(disk)
            assert file.add([CORRECTION]) == [2]


def _of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE corrections (id INTEGER)")
        other.commit()


def _of_a_later_release(path: Path) -> None:
    write_feedback(path, [CORRECTION])
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (lambda path: path.write_text("my notes\n" * 1000), "not a database"),
        (lambda path: path.write_bytes(b""), "is no feedback file"),
        (lambda path: path.mkdir(), "is no file"),
        (os.mkfifo, "is no file"),
        (_of_another_program, "is no feedback file"),
        (_of_a_later_release, "has the format 2"),
        (lambda path: path.symlink_to(path), "symbolic links|unable to open"),
    ],
    ids=["notes", "empty", "folder", "pipe", "program", "later", "loop"],
)
def test_what_is_no_feedback_file_is_left_alone_and_nothing_is_acknowledged(
    put: Callable[[Path], object], why: str, file: FeedbackFile, path: Path
) -> None:
    file.add([labelled("before", "bad")])
    path.unlink()
    put(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(NotStored, match=why) as refused:
        file.add([labelled("lost", "bad")])
    assert str(path.parent) not in refused.value.detail
    assert (path.read_bytes() if path.is_file() else None) == before
    path.rmdir() if path.is_dir() else path.unlink()
    file.add([labelled("afterwards", "bad")])
    assert texts(path) == ["afterwards"]


def test_a_folder_that_may_no_longer_be_written_is_told_and_later_goes_on() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        child = os.fork()
        if not child:
            os._exit(_meets_a_locked_folder(Path(folder)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [part.item["text"] for part in read(Path(folder) / "kept" / "feedback.db")] == ["before", "afterwards"]


def _meets_a_locked_folder(outer: Path) -> int:
    """What a process does that meets a folder without the right to write; its exit code."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    folder = outer / "kept"
    folder.mkdir()
    with FeedbackFile(folder / "feedback.db", MEGABYTE) as file:
        file.add([labelled("before", "bad")])
        folder.chmod(0o555)
        try:
            file.add([labelled("lost", "bad")])
        except NotStored as error:
            folder.chmod(0o755)
            file.add([labelled("afterwards", "bad")])
            return int("Permission denied" not in error.detail)
    return 2


MOVED_ABOUT = """
import sys
from pathlib import Path
from app.core.errors import NotStored
from app.core.feedback import FeedbackFile
from tests.support.corrections import labelled
with FeedbackFile(Path(sys.argv[1]), 2**24) as file:
    for number in range(60):
        try:
            file.add([labelled(f"text {number}", "bad")])
        except NotStored:
            continue
        print(number, flush=True)
"""


def test_nothing_acknowledged_is_lost_however_often_the_file_is_moved_away(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MOVED_ABOUT, str(path)]
    writer = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = []
    for line in writer.stdout:
        told.append(f"text {int(line)}")
        if path.exists():
            path.rename(path.with_name(f"{len(told)}.db"))
    writer.wait()
    writer.stdout.close()
    kept = [text for entry in path.parent.glob("*.db") for text in texts(entry)]
    assert len(told) > 30
    assert not set(told) - set(kept)


def test_a_file_of_the_first_release_is_read_written_and_kept_without_a_log(path: Path) -> None:
    ended(released(path, "old"))
    with FeedbackFile(path, MEGABYTE) as file:
        assert file.add([labelled("new", "bad")]) == [2]
        assert [entry.name for entry in path.parent.iterdir()] == ["feedback.db"]
    assert texts(path) == ["old", "new"]


def test_what_the_first_release_kept_before_a_kill_is_still_there(path: Path) -> None:
    ended(released(path, "one", "two"), is_killed=True)
    assert Path(f"{path}-wal").stat().st_size
    with FeedbackFile(path, MEGABYTE) as file:
        file.add([labelled("three", "bad")])
    assert texts(path) == ["one", "two", "three"]


def test_reading_a_file_of_the_first_release_leaves_it_as_it_is(path: Path) -> None:
    ended(released(path, "old"))
    before = path.read_bytes()
    assert [part.item["text"] for part in read(path)] == ["old"]
    assert path.read_bytes() == before


def test_a_service_of_the_first_release_may_still_run_beside_this_one(path: Path) -> None:
    old = released(path, "old")
    with FeedbackFile(path, MEGABYTE) as file:
        file.add([labelled("new", "bad")])
        assert [part.item["text"] for part in read(path)] == ["old", "new"]
        ended(old)
        file.add([labelled("afterwards", "bad")])
    assert texts(path) == ["old", "new", "afterwards"]
    assert [entry.name for entry in path.parent.iterdir()] == ["feedback.db"]


def test_a_log_that_was_left_behind_is_not_played_into_a_new_file(path: Path) -> None:
    ended(released(path, "a secret of mine"), is_killed=True)
    path.unlink()
    assert holding(path.parent, b"a secret of mine") == ["feedback.db-wal"]
    with FeedbackFile(path, MEGABYTE) as file:
        assert holding(path.parent, b"a secret of mine") == []
        file.add([labelled("afterwards", "bad")])
    assert texts(path) == ["afterwards"]


@pytest.mark.parametrize("act", ["add", "read", "remove"])
def test_a_log_that_was_left_behind_is_not_played_into_a_file_that_took_its_place(act: str, path: Path, tmp_path: Path) -> None:
    ended(released(path, "a secret of mine"), is_killed=True)
    write_feedback(tmp_path / "other.db", [labelled("of the other", "bad")]).replace(path)
    if act == "add":
        write_feedback(path, [labelled("afterwards", "bad")])
    elif act == "read":
        assert [part.item["text"] for part in read(path)] == ["of the other"]
    else:
        assert remove(path, request_id="nobody's") == 0
    assert texts(path) == ["of the other"] + ["afterwards"] * (act == "add")
    assert holding(path.parent, b"a secret of mine") == []


def killed_within_a_transaction(path: Path) -> None:
    """Leaves a journal, and pages of what was never committed."""
    child = os.fork()
    if not child:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 2")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE corrections SET comment = printf('%.*c', 200000, 'x')")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert Path(f"{path}-journal").stat().st_size > 512


@pytest.mark.parametrize("is_written", [True, False])
def test_what_a_killed_writer_left_half_done_is_undone(path: Path, is_written: bool) -> None:
    write_feedback(path, [labelled("kept", "bad")] * 3)
    killed_within_a_transaction(path)
    if is_written:
        write_feedback(path, [labelled("afterwards", "bad")])
    assert [(part.item["text"], part.comment) for part in read(path)][:3] == [("kept", "")] * 3
    assert texts(path) == ["kept"] * 3 + ["afterwards"] * is_written


def test_a_journal_that_was_left_behind_is_not_played_into_a_new_file(path: Path) -> None:
    write_feedback(path, [labelled("a secret of mine", "bad")] * 3)
    killed_within_a_transaction(path)
    path.unlink()
    write_feedback(path, [labelled("afterwards", "bad")])
    assert texts(path) == ["afterwards"]
    assert holding(path.parent, b"a secret of mine") == []


def test_a_journal_of_another_file_stops_every_use_until_it_is_gone(path: Path, tmp_path: Path) -> None:
    write_feedback(path, [labelled("a secret of mine", "bad")] * 3)
    other = write_feedback(
        tmp_path / "other.db", [labelled("of the other", "bad")] * 3
    )  # as many transactions: the counters agree
    killed_within_a_transaction(path)
    before = other.read_bytes()
    other.replace(path)
    for act in (lambda: write_feedback(path, [CORRECTION]), lambda: list(read(path)), lambda: remove(path)):
        with pytest.raises(SetupError, match="is another file's"):
            act()
    assert path.read_bytes() == before
    Path(f"{path}-journal").unlink()
    assert texts(path) == ["of the other"] * 3


def test_what_was_removed_does_not_come_back_while_another_process_writes(path: Path) -> None:
    write_feedback(path, [labelled("a secret of mine", "bad", request_id="mine")])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MOVED_ABOUT, str(path)]
    writer = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = [f"text {int(writer.stdout.readline())}"]
    assert remove(path, request_id="mine") == 1
    assert holding(path.parent, b"a secret of mine") == []
    told += [f"text {int(line)}" for line in writer.stdout]
    writer.wait()
    writer.stdout.close()
    assert texts(path) == told
    assert holding(path.parent, b"a secret of mine") == []


def test_a_reader_keeps_no_writer_waiting(file: FeedbackFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "BUSY_S", 0.01)
    file.add([labelled(str(number), "bad") for number in range(200)])
    reader = read(path)
    first = next(reader)
    file.add([labelled("meanwhile", "bad")])
    assert [entry.item["text"] for entry in (first, *reader)] == [str(number) for number in range(200)]


def _folders(outer: Path, *names: str) -> Iterator[str]:
    for name in names:
        (outer / name).mkdir()
        yield name
