"""A child of the supervisor: how it is told to finish, and how its end is told."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from app.processes.child import Child, ChildConfig
from app.settings import Settings

MODULE = "tests.support.supervised_child"


def given(folder: Path, kind: str = "") -> ChildConfig:
    settings = Settings(root_path=kind, serve=("a", "b/2"), models=folder).model_dump(mode="json")
    return ChildConfig("front end 1", settings, str(folder), os.getpid())


def test_settings_arrive_as_they_were(tmp_path: Path) -> None:
    assert given(tmp_path).read_settings() == Settings(serve=("a", "b/2"), models=tmp_path)


async def test_a_child_that_is_told_to_finish_does(tmp_path: Path) -> None:
    child = await Child.start(MODULE, given(tmp_path))
    child.finish()
    ended = await child.ended()
    assert (ended.code, ended.failure, ended.how) == (0, "", "exit code 0")


async def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    child = await Child.start(MODULE, given(tmp_path, "/fails"))
    ended = await child.ended()
    assert (ended.code, ended.failure) == (2, "this machine has no such device")


async def test_the_end_of_a_child_that_was_killed_is_told(tmp_path: Path) -> None:
    child = await Child.start(MODULE, given(tmp_path, "/stays"))
    child.kill()
    assert (await child.ended()).how == "killed by signal 9"
    child.kill()  # once more does no harm


async def test_a_child_that_stands_still_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = await Child.start(MODULE, given(tmp_path, "/stands-still"), silence_s=0.2)
    assert (await child.ended()).code == -signal.SIGKILL
    assert "the front end 1 has stood still for 0.2 s and is killed" in caplog.text


async def test_a_child_whose_supervisor_is_gone_already_ends(tmp_path: Path) -> None:
    orphan = given(tmp_path, "/stays")
    child = await Child.start(MODULE, ChildConfig(orphan.name, orphan.settings, orphan.folder, parent=1))
    assert (await child.ended()).code == 0


async def test_a_child_whose_supervisor_ends_before_it_says_anything_ends(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec("python", "-m", MODULE, stdin=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
