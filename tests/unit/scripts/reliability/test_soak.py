"""The command that asks a million times: a short run of it, and that it would notice what it promises to notice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scripts.reliability.soak import Look, SoakResult, complaints, memory_growth
from tests.support.live_service import ROOT
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import KINDS, publish_tiny_task


def command(models: Path, requests: int, output: Path) -> list[str]:
    options = {"models": models, "requests": requests, "output": output, "image": output.with_suffix(".svg"), "device": "cpu"}
    named = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "scripts.reliability.soak", *named]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for task in KINDS:
        publish_tiny_task(folder, task, task)
    publish_tiny_decoder(folder, max_tokens=128)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_requests_of_every_kind_are_answered_as_they_should_be_and_nothing_stays_open(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    ran = subprocess.run(command(models, 600, output), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr  # memory is not flat after so few
    told = json.loads(output.read_text())
    assert 600 <= told["sent"] == sum(told["kinds"].values()) < 600 + 2 * 32
    assert told["failed"] == 0, told["failures"]
    assert len(told["kinds"]) == 12
    assert told["cache_rows_used"] == 0
    assert 99 <= len(told["looks"]) <= 110
    assert told["ended"]["open_files"] <= told["warmed_up"]["open_files"]
    assert "<svg" in output.with_suffix(".svg").read_text()


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell starts background jobs, such as CI, with Ctrl-C ignored, and so would what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_what_was_measured_is_kept_where_it_is_interrupted(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    with subprocess.Popen(command(models, 20_000, output), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "200 requests" in process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        process.stderr.read()
    assert process.returncode == 130
    told = json.loads(output.read_text())
    assert told["interrupted"]
    assert 200 <= told["sent"] < 20_000
    assert told["ended"] is None


def test_runs_are_added_up() -> None:
    result = SoakResult()
    for kinds in ({"a": 2}, {"a": 1, "b": 4}):
        look_fields = asdict(look(sum(kinds.values()), 100))
        result.add({"sent": sum(kinds.values()), "failed": 1, "kinds": kinds, "failures": ["x"], "looks": [look_fields]})
    assert (result.sent, result.failed, result.kinds, result.failures) == (7, 2, {"a": 3, "b": 4}, ["x", "x"])
    assert [each.requests for each in result.looks] == [2, 5]


def look(requests: int, rss_mb: float, private_mb: float = 90.0) -> Look:
    return Look(requests, rss_mb, 95.0, private_mb, open_files=20, threads=9)


def test_memory_is_compared_with_what_it_was_after_the_warm_up() -> None:
    looks = [look(10, 50), look(100, 100), look(200, 101), look(300, 104, 80)]
    assert memory_growth(looks, 100) == {"rss_mb": pytest.approx(0.0297), "private_mb": pytest.approx(-0.1111)}
    assert memory_growth(looks[:2], 100) is None


@pytest.mark.parametrize(
    ("failed", "growth", "open_files", "threads", "told"),
    [
        (0, {"rss_mb": 0.05}, 20, 9, []),
        (3, {"rss_mb": 0.0}, 20, 9, ["3 requests failed"]),
        (0, {"rss_mb": 0.06}, 20, 9, ["rss_mb moved by 6.0 %"]),
        (0, {"private_mb": -0.06}, 20, 9, ["private_mb moved by -6.0 %"]),
        (0, None, 21, 10, ["21 open files in the end, 20", "10 threads in the end, 9"]),
        (0, None, 19, 8, []),
    ],
)
def test_what_was_not_as_promised_is_told(
    failed: int, growth: dict[str, float] | None, open_files: int, threads: int, told: list[str]
) -> None:
    ended = replace(look(2, 1), open_files=open_files, threads=threads)
    found = complaints(SoakResult(failed=failed, warmed_up=look(1, 1), ended=ended), growth)
    assert len(found) == len(told)
    assert all(match.startswith(start) for match, start in zip(found, told, strict=True))


def test_a_footprint_is_the_kernels() -> None:
    own = Look.of(os.getpid(), 5)
    assert own.requests == 5
    assert own.rss_mb >= own.pss_mb >= own.private_mb > 10
    assert own.open_files > 2
    with Path(os.devnull).open():
        assert Look.of(os.getpid(), 6).open_files == own.open_files + 1
