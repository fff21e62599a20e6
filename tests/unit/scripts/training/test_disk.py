"""Room on disks and folders that cannot be written, known before a run begins."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.training.disk import check_writable, disk_needs, disk_room
from scripts.training.recipe import Recipe

RECIPE = Recipe(data=["x"], name="films", storage="fp16")


def test_room_is_for_three_checkpoints_the_model_and_the_graph() -> None:
    needs = disk_needs(RECIPE, 1_000_000)
    assert needs[Path("runs/films")] == 3 * 3 * 4_000_000 + 4_000_000
    assert needs[Path("models/films")] == 2_000_000
    assert disk_needs(replace(RECIPE, lora_rank=4), 1_000_000)[Path("runs/films")] == 4_000_000


def test_folders_of_one_disk_share_its_room(tmp_path: Path) -> None:
    needs = {tmp_path / "a" / "b": 10, tmp_path: 5}
    (room,) = disk_room(needs)
    assert (room.folders, room.needed_bytes, room.is_enough) == (tuple(needs), 15, True)
    (room,) = disk_room({tmp_path: 10**18})
    assert not room.is_enough
    assert str(room).startswith(f"at most about 1000000000.0 GB in {tmp_path}; ")


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable(replace(RECIPE, runs=str(tmp_path / "runs"), models=str(tmp_path)))
    with pytest.raises(SetupError, match=r"file/films cannot be written: .*file is no folder"):
        check_writable(replace(RECIPE, runs=str(tmp_path), models=str(tmp_path / "file")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root is refused nothing")
def test_a_folder_without_permission_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(SetupError, match=r"runs/films cannot be written: Permission denied"):
        check_writable(replace(RECIPE, runs=str(tmp_path / "runs"), models=str(tmp_path)))
