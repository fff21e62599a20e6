"""A version disappears whole; how one appears is tested where it is published, in test_publish.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.core import release
from app.core.errors import SetupError
from app.core.release import next_release, withdraw


def test_what_was_filled_is_found_under_the_next_number(tmp_path: Path) -> None:
    for number in (1, 2):
        with next_release(tmp_path, "films") as made:
            (made.staging / "file").write_text(str(number))
            assert not made.folder.exists()
        assert (made.version, made.folder) == (number, tmp_path / "films" / str(number))
        assert (made.folder / "file").read_text() == str(number)


def test_what_was_begun_and_failed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), next_release(tmp_path / "models", "films"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_withdrawn_version_is_out_of_sight_before_its_files_are_deleted(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    remove = shutil.rmtree

    def look(path: Any) -> None:
        seen.append((models / "tiny" / "1").exists())
        remove(path)

    monkeypatch.setattr(release.shutil, "rmtree", look)
    withdraw(models / "tiny" / "1")
    assert seen == [False]
    assert not list(models.iterdir())


def test_a_version_that_is_not_there_cannot_be_withdrawn(models: Path) -> None:
    with pytest.raises(SetupError, match="cannot be removed: No such file"):
        withdraw(models / "tiny" / "7")
    assert [path.name for path in (models / "tiny").iterdir()] == ["1"]
