"""What a training says of itself where there is no terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from scripts.training import progress
from scripts.training.progress import FORECAST_AFTER, PLAIN_LINES, TrainingProgress, spoken_time


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (89 * 60, "89 min"), (90 * 60, "1 h 30 min"), (7500, "2 h 5 min")],
)
def test_a_time_is_said_in_the_unit_that_fits(seconds: float, expected: str) -> None:
    assert spoken_time(seconds) == expected


class OneTokenPerUpdate:
    """A workload in which each epoch has one token."""

    def until(self, epochs: float) -> float:
        return epochs


def run(max_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of so many updates, each of which takes a minute and has half of its rows right."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    told = TrainingProgress(OneTokenPerUpdate(), updates_per_epoch=1)  # type: ignore[arg-type]
    state: Any = SimpleNamespace(global_step=0, max_steps=max_steps, hooper_correct=(1, 2))
    told.on_train_begin(None, state, None)
    for step in range(1, max_steps + 1):
        clock.now_s += 60
        state.global_step = step
        told.on_log(None, state, None, {"loss": 0.5})
        told.on_step_end(None, state, None)
    told.on_train_end(None, state, None)


def test_a_log_file_gets_about_forty_lines_with_loss_accuracy_and_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(20 * PLAIN_LINES, monkeypatch)
    lines = [line for line in capsys.readouterr().err.splitlines() if "min left" in line and "%" in line]
    assert len(lines) == PLAIN_LINES
    assert (
        lines[PLAIN_LINES // 2 - 1]
        == f"training  50%  loss 0.5000, accuracy 0.500 on training rows, {10 * PLAIN_LINES:.1f} min left"
    )
    assert lines[-1].endswith("0.0 min left")


def test_what_the_whole_run_will_take_is_forecast_early_and_once_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(100, monkeypatch)
    first, second = [line for line in capsys.readouterr().err.splitlines() if "about" in line]
    assert f"about {spoken_time((99 - FORECAST_AFTER) * 60)} left for {99 - FORECAST_AFTER} updates" in first
    assert "left for 89 updates" in second
    assert "GiB, longest texts included" in first
