"""What a request costs is divided among the threads that took it, and what many cores carry follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench.request_cost import Cost, carried_by, cost_of, main, tokenizing_us
from scripts.bench.service import ThreadTimes
from tests.support.tiny_model import publish_tiny


def test_of_one_process_the_loop_is_the_front_end_and_all_else_the_engine() -> None:
    cost = cost_of([ThreadTimes(5000.0, 20, 1000.0, 30)], 10, 2.5)
    assert cost == Cost(500.0, 0.0, 100.0, front_end_wake_ups=2.0, engine_wake_ups=3.0, rows_per_batch=2.5)
    assert cost.total_us == 600.0


def test_of_several_processes_the_first_has_the_engine() -> None:
    cost = cost_of([ThreadTimes(500.0, 5, 1000.0, 30), ThreadTimes(3000.0, 10, 9.0, 1), ThreadTimes(4000.0, 20, 9.0, 1)], 10, 4)
    assert cost == Cost(700.0, 50.0, 100.0, front_end_wake_ups=3.0, engine_wake_ups=3.5, rows_per_batch=4)


def test_one_process_carries_what_one_core_does_however_many_there_are() -> None:
    cost = Cost(400.0, 0.0, 100.0, 1, 1, 1)
    assert carried_by(16, cost) == {"requests_per_s": 2000, "limit": "the event loop"}


def test_behind_front_ends_the_busiest_is_the_limit() -> None:
    cost = Cost(500.0, 60.0, 40.0, 1, 1, 1)
    assert carried_by(16, cost) == {"requests_per_s": 10_000, "engine_process": 10_000, "limit": "the engine process"}
    assert carried_by(5, cost) == {"requests_per_s": 8000, "engine_process": 10_000, "limit": "the front ends"}


def test_tokenizing_takes_some_time(tmp_path: Path) -> None:
    assert tokenizing_us(publish_tiny(tmp_path, "tiny"), ["a good film", "a bad one"]) > 0


@pytest.mark.slow
def test_both_ways_are_measured_on_a_real_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path, "tiny")
    small = ["--turns", "1", "--seconds", "1", "--callers", "1", "4", "--batch-ms", "1"]
    assert main(["--models", str(tmp_path), "--model", "tiny/1", *small]) == 0
    report = json.loads(capsys.readouterr().out)
    costs = report["costs"]
    assert all(100 < calls < 10_000 for calls in report["calls_for_a_request"].values())
    assert [(cost["kind"], cost["callers"]) for cost in costs] == [
        ("one process", 1), ("one process", 4), ("2 front ends", 1), ("2 front ends", 4)
    ]  # fmt: skip
    assert all(cost["front_end_us"] > 0 and cost["engine_thread_us"] > 0 and cost["rows_per_batch"] >= 1 for cost in costs)
    assert [cost["engine_loop_us"] > 0 for cost in costs] == [False, False, True, True]
