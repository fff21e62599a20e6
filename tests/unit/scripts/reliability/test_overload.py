"""The command that offers more than can be done: a short run of it, and that it would notice what it promises to notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.bench.load import LoadResult, Sample
from scripts.bench.service import Address
from scripts.reliability.overload import QueueBound, complaints, generate_open, goodput_kept, outcome_counts
from tests.support.live_service import ROOT
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import publish_tiny


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("writes", [False, True])
def test_every_request_of_the_steps_is_accounted_for_and_the_curve_is_drawn(tmp_path: Path, writes: bool) -> None:
    publish_tiny(tmp_path / "models", "beside" if writes else "tiny")
    if writes:
        publish_tiny_decoder(tmp_path / "models", "tiny", max_tokens=128)
    output, image = tmp_path / "overload.json", tmp_path / "overload.svg"
    command = [sys.executable, "-m", "scripts.reliability.overload", "--models", tmp_path / "models", "--model", "tiny"]
    command += ["--beside", "beside", "--new-tokens", "16", "--batch-rows", "4"] if writes else []
    ran = subprocess.run(
        [*command, "--waiting-rows", "16", "--seconds", "1", "--steps", "0.5", "3", "--output", output, "--image", image],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode in (0, 1), ran.stderr  # how much is left is a matter of the machine's other work
    told = json.loads(output.read_text())
    half, triple = told["steps"]
    assert (half["times"], triple["times"]) == (0.5, 3.0)
    for entry in told["steps"]:
        assert entry["offered"] == entry["answered"] + entry["turned_away"] + entry["others"] > 0
        assert entry["others"] == entry["without_plausible_retry_after"] == entry["health"]["failed"] == 0
    assert ("new_tokens_per_s" in told, "beside" in half, told["rows_per_request"]) == (writes, writes, 1.0)
    assert "prefers-color-scheme" in image.read_text()


def test_the_bound_is_what_the_fuller_of_the_two_limits_takes_to_be_worked_off() -> None:
    limits = {"waiting_rows": 100, "waiting_tokens": 10_000, "batch_rows": 10, "batch_tokens": 1000}
    assert QueueBound(**limits, tokens_per_row=10).seconds(rows_per_s=60) == pytest.approx(2.0)
    assert QueueBound(**limits, tokens_per_row=1000).seconds(rows_per_s=60) == pytest.approx(0.2)


def test_requests_are_counted_by_what_came_of_them() -> None:
    samples = [
        Sample(0.1, 200),
        Sample(0.1, 429, 2.0),
        Sample(0.1, 429, 61.0),
        Sample(0.1, 429),
        Sample(0.1, 503),
        Sample(0.1, 0),
    ]
    told = outcome_counts(LoadResult(samples, 1.0))
    assert (told["offered"], told["answered"], told["turned_away"], told["others"]) == (6, 1, 3, 2)
    assert told["without_plausible_retry_after"] == 2
    assert told["retry_after_s"] == {"2": 1, "61": 1}


def test_half_of_a_full_queue_is_what_retry_after_should_tell() -> None:
    limits = {"waiting_rows": 100, "waiting_tokens": 10_000, "batch_rows": 10, "batch_tokens": 1000}
    assert QueueBound(**limits, tokens_per_row=10).retry_s(rows_per_s=10) == pytest.approx(5.0)
    assert QueueBound(**limits, tokens_per_row=1000).retry_s(rows_per_s=2) == pytest.approx(2.5)
    assert [QueueBound(**limits, tokens_per_row=10).retry_s(rate) for rate in (0.1, 1000)] == [60.0, 1.0]


STEP = {
    "times": 3.0, "others": 0, "answered_later": 0, "without_plausible_retry_after": 0, "goodput_per_s": 90.0,
    "retry_after_median_s": 4.0, "retry_after_expected_s": 3.6, "health": {"failed": 0, "asked": 9},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"goodput_per_s": 89.0}, "0.89 of that at the capacity"),
        ({"others": 2}, "2 requests were answered neither"),
        ({"answered_later": 2}, "2 answers came later"),
        ({"without_plausible_retry_after": 1}, "Retry-After"),
        ({"health": {"failed": 1, "asked": 9}}, "health failed 1 of 9"),
        ({"retry_after_median_s": 11.0}, "11 s in the middle, where 3.6 s"),
        ({"retry_after_median_s": 1.0}, "1 s in the middle, where 3.6 s"),
        ({"retry_after_median_s": None}, None),
        ({"beside": {"failed": 2, "asked": 9}}, "the model beside it failed 2 of 9"),
    ],
)
def test_what_was_not_as_promised_is_told(change: dict[str, Any], told: str | None) -> None:
    found = complaints([STEP | {"times": 1.0, "goodput_per_s": 100.0}, STEP | change])
    assert (told in found[0]) if told else (found == [])


def test_what_is_kept_is_the_mean_of_steps_that_were_taken_twice() -> None:
    steps = [
        STEP | {"times": times, "goodput_per_s": goodput}
        for times, goodput in ((1.0, 90.0), (3.0, 80.0), (3.0, 100.0), (1.0, 110.0))
    ]
    assert goodput_kept(steps) == 0.9


def test_nothing_is_said_of_what_is_kept_where_one_of_the_two_steps_was_left_out() -> None:
    assert goodput_kept([STEP]) is None


def test_the_generator_says_what_a_load_cost_it() -> None:
    result, seconds = generate_open(Address("127.0.0.1", 1), [b"x"], 200, 0.05)
    assert set(result.statuses) == {0}
    assert seconds > 0
