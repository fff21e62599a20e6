"""The command that asks a million times: a short run of it, and that it would notice what it promises to notice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.bench.service import Address
from scripts.reliability.footprint import Footprint
from scripts.reliability.soak import Soak, complaints, memory_growth
from scripts.reliability.soak_load import Counts
from scripts.reliability.soak_requests import Request, draw
from tests.support.live_service import ROOT
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
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_requests_of_every_kind_are_answered_as_they_should_be_and_nothing_stays_open(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    ran = subprocess.run(command(models, 600, output), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr  # memory is not flat after so few
    told = json.loads(output.read_text())
    assert told["sent"] == 600 == sum(told["kinds"].values())
    assert told["failed"] == 0, told["failures"]
    assert len(told["kinds"]) == 7
    assert len(told["looks"]) == 100
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


async def test_a_service_that_is_gone_is_said_to_be() -> None:
    with pytest.raises(SetupError, match="has ended after 0 requests"):
        await Soak(Address("127.0.0.1", 1), os.getpid(), 1, 0).run(10, 1)


def test_the_same_seed_draws_the_same_requests_of_all_sizes() -> None:
    drawn = draw(3, 1000)
    assert drawn == draw(3, 1000) != draw(4, 1000)
    assert len({one.kind for one in drawn}) == 7
    assert min(len(one.message) for one in drawn) < 200 < 2000 < max(len(one.message) for one in drawn)


def test_an_answer_that_should_have_been_another_has_failed() -> None:
    counts = Counts()
    counts.count(Request("good", b""), 200)
    counts.count(Request("wrong", b"", status=422), 422)
    counts.count(Request("left", b"", leaves=True), 0)
    assert counts.failed == 0
    counts.count(Request("wrong", b"", status=422), 200)
    counts.count(Request("good", b""), 0)
    assert (counts.failed, counts.failures) == (2, ["wrong: 200, not 422", "good: 0, not 200"])
    assert counts.kinds == Counter(good=2, wrong=2, left=1)


def look(requests: int, rss_mb: float, private_mb: float = 90.0) -> Footprint:
    return Footprint(requests, rss_mb, 95.0, private_mb, open_files=20, threads=9)


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
    run = Soak(Address("x", 1), 1, 1, 0, Counts(failed=failed), warmed_up=look(1, 1))
    run.ended = replace(look(2, 1), open_files=open_files, threads=threads)
    found = complaints(run, growth)
    assert len(found) == len(told)
    assert all(one.startswith(start) for one, start in zip(found, told, strict=True))


def test_a_footprint_is_the_kernels() -> None:
    own = Footprint.of(os.getpid(), 5)
    assert own.requests == 5
    assert own.rss_mb >= own.pss_mb >= own.private_mb > 10
    assert own.open_files > 2
    with Path(os.devnull).open():
        assert Footprint.of(os.getpid(), 6).open_files == own.open_files + 1
