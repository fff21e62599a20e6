"""The feedback file: whole or not at all, whoever writes it and whatever the disk does."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from app.core import feedback
from app.core.errors import NotStored, SetupError
from app.core.feedback import FeedbackFile, read, remove
from tests.support.corrections import CORRECTION, MEGABYTE, labelled, write_feedback
from tests.support.live_service import ROOT

NOBODY = 65534
"""A user without any rights."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


@pytest.fixture
def file(path: Path) -> Iterator[FeedbackFile]:
    with FeedbackFile(path, MEGABYTE) as made:
        yield made


def texts(path: Path) -> list[str]:
    return [part.item["text"] for part in read(path)]


def test_what_was_added_is_read_as_it_was(file: FeedbackFile, path: Path) -> None:
    odd = replace(CORRECTION, item={"text": "\x00 'quotes' 数字 🙂\n"}, source="support", comment='it\'s "ironic"')
    assert file.add([CORRECTION, odd]) == [1, 2]
    assert list(read(path)) == [replace(CORRECTION, id=1), replace(odd, id=2)]


def test_one_models_corrections_are_read_alone(file: FeedbackFile, path: Path) -> None:
    file.add([CORRECTION, replace(CORRECTION, model="other")])
    assert [part.model for part in read(path, "other")] == ["other"]


def test_only_the_owner_may_read_the_file_and_what_stands_beside_it(file: FeedbackFile, path: Path) -> None:
    file.add([CORRECTION])
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert modes == {"feedback.db": 0o600}


def test_it_goes_on_where_it_was_closed_and_no_id_is_given_twice(path: Path) -> None:
    write_feedback(path, [CORRECTION])
    remove(path)
    with FeedbackFile(path, MEGABYTE) as again:
        assert again.add([CORRECTION]) == [2]


def test_all_of_a_request_is_kept_or_none(file: FeedbackFile, path: Path) -> None:
    file.add([CORRECTION])
    with pytest.raises(NotStored, match="CHECK constraint failed"):
        file.add([labelled("first", "bad"), replace(CORRECTION, version=0)])
    assert texts(path) == ["a good film"]
    file.add([labelled("afterwards", "bad")])
    assert texts(path) == ["a good film", "afterwards"]


def test_a_full_file_keeps_nothing_more_and_what_it_has(path: Path) -> None:
    with FeedbackFile(path, 65_536) as file:
        file.add([CORRECTION])
        with pytest.raises(NotStored, match="is full"):
            file.add([labelled("small", "bad"), labelled("x" * MEGABYTE, "bad")])
        assert texts(path) == ["a good film"]
        file.add([labelled("small", "bad")])
    assert texts(path) == ["a good film", "small"]


def test_a_disk_that_takes_no_more_bytes_is_told_and_nothing_is_half_written(path: Path) -> None:
    child = os.fork()
    if not child:
        os._exit(_meets_a_full_disk(path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert texts(path) == ["a good film", "after the disk had room again"]


def _meets_a_full_disk(path: Path) -> int:
    """What the process does that may write no file beyond a size; its exit code."""
    file = FeedbackFile(path, 64 * MEGABYTE)
    file.add([CORRECTION])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        file.add([labelled(str(number) + "x" * 50_000, "bad") for number in range(20)])
    except NotStored:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        file.add([labelled("after the disk had room again", "bad")])
        return 0
    return 1


def test_a_file_that_another_process_holds_is_waited_for_and_then_refused(
    file: FeedbackFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "BUSY_S", 0.01)
    with FeedbackFile(path, MEGABYTE) as hasty, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotStored, match="locked"):
            hasty.add([CORRECTION])
        other.execute("ROLLBACK")
        assert hasty.add([CORRECTION]) == [1]


WRITER = """
import sys
from pathlib import Path
from app.core.feedback import FeedbackFile
from tests.support.corrections import labelled
with FeedbackFile(Path(sys.argv[1]), 2**24) as file:
    for number in range(50):
        file.add([labelled(f"{sys.argv[2]} {number}", "bad")])
        print(number, flush=True)
"""


def start_writer(path: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_and_write_one_file_at_once(path: Path) -> None:
    writers = {name: start_writer(path, name) for name in ("one", "other")}
    for writer in writers.values():
        writer.communicate()
        assert writer.returncode == 0
    found = texts(path)
    assert len(found) == 100
    for name in writers:  # each in its own order
        assert [text for text in found if text.startswith(name)] == [f"{name} {number}" for number in range(50)]


def test_nothing_that_was_acknowledged_is_lost_by_a_kill(path: Path) -> None:
    writer = start_writer(path, "one")
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(10)]
    writer.kill()
    told += writer.stdout.readlines()
    writer.wait()
    writer.stdout.close()
    found = texts(path)
    assert found == [f"one {number}" for number in range(len(found))]
    assert len(found) >= len([entry for entry in told if entry.endswith("\n")])
    with FeedbackFile(path, MEGABYTE) as again:
        assert again.add([CORRECTION]) == [len(found) + 1]


def test_a_file_that_was_deleted_under_the_service_is_made_again(file: FeedbackFile, path: Path) -> None:
    file.add([CORRECTION])
    for entry in path.parent.iterdir():
        entry.unlink()
    assert file.add([labelled("afterwards", "bad")]) == [1]
    assert texts(path) == ["afterwards"]


def test_a_folder_that_is_gone_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with FeedbackFile(folder / "feedback.db", MEGABYTE) as file:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        with pytest.raises(NotStored, match="was not kept"):
            file.add([CORRECTION])
        folder.mkdir()
        assert file.add([CORRECTION]) == [1]


def test_a_folder_that_may_not_be_written_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        child = os.fork()
        if not child:
            os._exit(_may_not_write(Path(folder)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert list(Path(folder).iterdir()) == []


def _may_not_write(folder: Path) -> int:
    """What a process does that has no rights in the folder; its exit code."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        FeedbackFile(folder / "feedback.db", MEGABYTE)
    except SetupError as error:
        return int("Permission denied" not in error.detail)
    return 2


@pytest.mark.parametrize("place", ["missing/feedback.db", "."])
def test_a_place_where_no_file_can_be_is_refused_in_one_sentence(tmp_path: Path, place: str) -> None:
    with pytest.raises(SetupError, match="the feedback file"):
        FeedbackFile(tmp_path / place, MEGABYTE)
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_file_is_left_alone(path: Path) -> None:
    path.write_text("my notes", encoding="utf-8")
    with pytest.raises(SetupError, match="not a database"):
        FeedbackFile(path, MEGABYTE)
    assert path.read_text(encoding="utf-8") == "my notes"
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE corrections (id INTEGER)")
    with pytest.raises(SetupError, match="is no feedback file"):
        list(read(path))


def test_a_file_of_a_later_format_is_not_touched(path: Path) -> None:
    write_feedback(path, [CORRECTION])
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(SetupError, match="has the format 2"):
        FeedbackFile(path, MEGABYTE)


def test_a_file_that_is_not_there_is_not_made_by_reading_it(path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        list(read(path))
    with pytest.raises(SetupError, match="does not exist"):
        remove(path)
    assert not path.exists()


def test_what_is_removed_is_gone_from_the_disk_too_while_the_service_runs(file: FeedbackFile, path: Path) -> None:
    file.add([labelled("a secret of mine", "bad", request_id="mine"), labelled("kept", "bad")])
    assert remove(path, request_id="mine") == 1
    assert texts(path) == ["kept"]
    assert not [entry.name for entry in path.parent.iterdir() if b"a secret of mine" in entry.read_bytes()]
    file.add([labelled("afterwards", "bad")])
    assert texts(path) == ["kept", "afterwards"]


def test_what_is_removed_is_what_all_wishes_say(path: Path) -> None:
    old, new = "2026-01-01T00:00:00.000+00:00", "2026-02-01T00:00:00.000+00:00"
    write_feedback(
        path, [labelled("old", "bad", at=old), labelled("new", "bad", at=new), labelled("other", "bad", at=old, model="o")]
    )
    assert remove(path, model="tiny", before="2026-01-15T00:00:00+00:00") == 1
    assert texts(path) == ["new", "other"]
    assert remove(path) == 2


def test_where_the_disk_has_no_room_to_overwrite_what_was_removed_that_is_told(path: Path) -> None:
    write_feedback(path, [labelled("a secret of mine", "bad", request_id="mine"), *[labelled("x" * 50_000, "bad")] * 20])
    child = os.fork()
    if not child:
        os._exit(_removes_on_a_full_disk(path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert remove(path, request_id="mine") == 0
    assert b"a secret of mine" not in path.read_bytes()


def _removes_on_a_full_disk(path: Path) -> int:
    """What the process does that may write no file beyond a size; its exit code."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = path.stat().st_size  # enough to delete, and too little for the journal of all pages that are written anew
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        remove(path, request_id="mine")
    except SetupError as error:
        return int("has 1 corrections less, but may still hold their texts" not in error.detail)
    return 2
