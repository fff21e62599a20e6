"""The processor's time of a step is told for every way to write, and counted by the runs that there were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.core.exit_codes import EXIT_SETUP
from scripts.bench.decode_steps import Taken, TimedSession, _per_step, main
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import publish_tiny


def test_each_way_is_told_for_each_number_of_texts(tmp_path: Path) -> None:
    folder, output = publish_tiny_decoder(tmp_path), tmp_path / "steps.json"
    options = [
        "--source-tokens",
        "5",
        "--source-ids",
        "20",
        "--sequences",
        "1",
        "3",
        "--new-tokens",
        "6",
        "--turns",
        "2",
        "--output",
        str(output),
    ]
    assert main(["--model", str(folder), *options]) == 0
    steps = json.loads(output.read_text(encoding="utf-8"))["steps"]
    ways = ("engine", "thread")
    assert [(step["texts"], step["way"]) for step in steps] == [(number, way) for number in (1, 3) for way in ways]


def test_what_texts_of_one_token_take_is_left_out_and_the_quickest_turn_counts() -> None:
    slow, quick = (Taken(0.001, 0.5, 1), Taken(0.031, 0.53, 11)), (Taken(0.002, 0.4, 1), Taken(0.021, 0.41, 11))
    assert _per_step([slow, quick]) == {"inside_us": 2000, "around_us": 1000}


def test_runs_are_counted() -> None:
    class Session:
        def run_with_iobinding(self, binding: object, options: object) -> None:
            sum(range(10_000))

    session = TimedSession(Session())  # type: ignore[arg-type]
    for _ in range(3):
        session.run_with_iobinding(None, None)
    assert session.num_runs == 3
    assert session.inside_s > 0


def test_a_model_that_does_not_write_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(publish_tiny(tmp_path))]) == EXIT_SETUP
    assert "reads and does not write" in capsys.readouterr().err
