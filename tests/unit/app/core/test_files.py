"""A file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.files import PRIVATE, atomic_writer, write_atomically


def test_a_file_is_replaced_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_writer(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("partial", [None, "file.partial"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_is_there_and_nothing_else(
    tmp_path: Path, error: BaseException, partial: str | None
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_writer(path, partial=tmp_path / partial if partial else None):
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_has_left_under_the_same_name_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_text("a longer text that was cut")
    write_atomically(tmp_path / "file", "new", partial=tmp_path / "file.partial")
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file.partial").exists()


@pytest.mark.parametrize(("mode", "expected"), [(0o666, 0o644), (PRIVATE, 0o600)])
def test_a_file_is_readable_for_whom_it_is_said_to_be(tmp_path: Path, mode: int, expected: int) -> None:
    write_atomically(tmp_path / "file", b"new", mode)
    assert (tmp_path / "file").stat().st_mode & 0o777 == expected
