"""The supervisor: a process in every place, or the end of all of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from app.core.errors import InvalidSettings, SetupError
from app.processes import supervisor as supervisor_module
from app.processes.supervisor import (
    MAX_PAUSE_S,
    MAX_QUICK_EXITS,
    QUICK_EXIT_S,
    ExitStatus,
    RestartPolicy,
    Supervisor,
    supervise,
)
from app.settings import Settings
from tests.support.ipc_pair import until
from tests.support.live_service import free_port


@pytest.fixture(autouse=True)
def small_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "ENGINE", "tests.support.supervised_child")
    monkeypatch.setattr(supervisor_module, "FRONT_END", "tests.support.supervised_child")


def supervising(folder: Path, kind: str = "", **settings: object) -> Supervisor:
    return Supervisor(Settings(front_ends=2, root_path=kind, drain_s=0, **settings), folder, [])  # type: ignore[arg-type]


async def test_a_signal_ends_every_process(tmp_path: Path) -> None:
    supervisor = supervising(tmp_path)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(supervisor._children) == 3)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == ExitStatus(0, "")
    assert supervisor._children == {}


async def test_a_process_that_is_gone_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = supervising(tmp_path)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(supervisor._children) == 3)
    victim = supervisor._children["front end 2"]
    victim.kill()
    await until(lambda: supervisor._children.get("front end 2", victim) is not victim)
    assert "the front end 2 process is gone (killed by signal 9) and is started again" in caplog.text
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == ExitStatus()


async def test_what_keeps_a_process_from_starting_ends_the_service_with_its_sentence(tmp_path: Path) -> None:
    assert await supervising(tmp_path, "/fails").run() == ExitStatus(2, "this machine has no such device")


async def test_an_engine_process_that_dies_again_and_again_ends_the_service(tmp_path: Path) -> None:
    ending = await supervising(tmp_path, "/dies", engine_replacements=1).run()
    assert ending.code == 3
    assert "the last one ended with killed by signal 9" in ending.sentence


async def test_a_process_that_does_not_end_in_time_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor_module, "KILL_AFTER_S", 0.05)
    supervisor = supervising(tmp_path, "/stays")
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(supervisor._children) == 3)
    os.kill(os.getpid(), signal.SIGTERM)
    assert (await running).code == 0
    assert "the front end 1 process did not end in time and is killed" in caplog.text
    assert "the engine process did not end in time and is killed" in caplog.text


async def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    supervisor = supervising(tmp_path, "/stays")
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(supervisor._children) == 3)
    supervisor._on_signal(signal.SIGTERM)
    supervisor._on_signal(signal.SIGINT)
    assert (await running).code == 0


@pytest.mark.parametrize("other", [signal.SIGHUP, signal.SIGTERM])
async def test_a_terminal_that_closes_is_no_hurry_however_often_it_says_so(tmp_path: Path, other: signal.Signals) -> None:
    supervisor = supervising(tmp_path, "/stays")
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(supervisor._children) == 3)
    children = list(supervisor._children.values())
    os.kill(os.getpid(), signal.SIGHUP)
    await supervisor._over.wait()
    supervisor._on_signal(other)
    assert all(is_alive(child.pid) for child in children)
    supervisor._on_signal(signal.SIGTERM)
    supervisor._on_signal(signal.SIGTERM)
    assert (await running).code == 0


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


async def test_a_process_that_cannot_be_started_at_all_ends_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    ending = await supervising(tmp_path).run()
    assert ending.code == 3
    assert ending.sentence.endswith(" process cannot be started or watched (FileNotFoundError)")


def test_another_system_than_linux_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InvalidSettings, match="HOOPER_FRONT_ENDS: more than one needs Linux; leave it at 1 here"):
        supervise(Settings(front_ends=2))


def test_a_file_of_corrections_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="HOOPER_FEEDBACK needs HOOPER_FRONT_ENDS=1"):
        supervise(Settings(front_ends=2, feedback="corrections"))


def test_a_folder_with_too_long_a_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(SetupError, match="is too long for the path of a socket; set TMPDIR to a shorter one"):
        supervise(Settings(front_ends=2, port=free_port()))
    assert list(folder.iterdir()) == []


def test_without_a_folder_to_write_to_it_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nothing"))
    with pytest.raises(SetupError, match="there is no folder for what the processes share; set TMPDIR to one"):
        supervise(Settings(front_ends=2, port=free_port()))


def after(*lives_s: float) -> RestartPolicy:
    deaths = RestartPolicy()
    for lived_s in lives_s:
        deaths = deaths.after(lived_s)
    return deaths


def test_an_engine_process_is_started_again_so_many_times_however_long_it_lived() -> None:
    assert after(1e6, 1e6, 1e6).give_up_reason("engine", 3) == ""
    assert after(1e6, 1e6, 1e6, 1e6).give_up_reason("engine", 3) == (
        "the engine process has died 4 times, of which 3 are made good (HOOPER_ENGINE_REPLACEMENTS)"
    )


def test_a_front_end_is_started_again_for_as_long_as_it_lives_for_a_while() -> None:
    assert after(*[QUICK_EXIT_S] * 100).give_up_reason("front end 1", None) == ""


def test_a_front_end_that_dies_at_once_again_and_again_is_not_started_any_more() -> None:
    assert after(*[1.0] * (MAX_QUICK_EXITS - 1)).give_up_reason("front end 1", None) == ""
    assert after(*[1.0] * MAX_QUICK_EXITS).give_up_reason("front end 1", None) == (
        "front end 1 has died 5 times in a row within 10 s of its start"
    )
    assert after(*[1.0] * (MAX_QUICK_EXITS - 1), QUICK_EXIT_S, 1.0).give_up_reason("front end 1", None) == ""


def test_the_next_one_waits_longer_after_each_quick_death() -> None:
    assert after(QUICK_EXIT_S).pause_s == 0
    pauses = [after(*[1.0] * number).pause_s for number in range(1, 9)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (0.1, 0.2, MAX_PAUSE_S)
