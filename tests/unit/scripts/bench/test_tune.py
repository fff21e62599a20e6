"""Settings change only where that pays by more than noise, and what was taken is the base of what is tried next."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from scripts.bench.tune import MARGIN, SettingTrial, as_env_file, choices, tune

VALUES = {"TOKENS": ["512", "2048", "4096"], "THREADS": ["1"]}


def rates(settings: Mapping[str, str]) -> float:
    """A machine on which 2,048 tokens are best, and one thread is as good as two."""
    return {"512": 80.0, "2048": 130.0, "4096": 131.0}.get(settings.get("TOKENS", ""), 100.0) + 0.1 * len(settings)


def test_the_best_settings_are_found_and_noise_is_not_taken_for_better() -> None:
    asked = []

    def measure(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[float, float]:
        asked.append((dict(one), dict(other)))
        return rates(one), rates(other)

    trials, best = zip(*tune(VALUES, measure), strict=True)
    assert [trial.is_better for trial in trials] == [False, True, False, False]
    assert best[-1] == {"TOKENS": "2048"}
    assert asked[-1] == ({"TOKENS": "2048", "THREADS": "1"}, {"TOKENS": "2048"})


@pytest.mark.parametrize(("rate", "better"), [(100 * MARGIN, False), (100 * MARGIN + 0.1, True)])
def test_better_is_by_more_than_the_margin(rate: float, better: bool) -> None:
    assert SettingTrial("A", "1", rate, 100).is_better is better


def test_a_service_that_answered_nothing_is_beaten() -> None:
    assert SettingTrial("A", "1", 1.0, 0.0).is_better
    assert not SettingTrial("A", "1", 0.0, 0.0).is_better


@pytest.mark.parametrize(("cores", "threads"), [(1, []), (2, ["1"]), (16, ["15", "8"])])
def test_fewer_threads_than_cores_are_tried(cores: int, threads: list[str]) -> None:
    assert choices(cores)["HOOPER_ENGINE_THREADS"] == threads


@pytest.mark.parametrize(("cores", "streams"), [(1, ["1"]), (2, ["1", "2"]), (16, ["1", "2", "8", "16"])])
def test_batches_side_by_side_are_tried(cores: int, streams: list[str]) -> None:
    assert choices(cores)["HOOPER_ENGINE_STREAMS"] == streams


@pytest.mark.parametrize(("cores", "front_ends"), [(2, []), (4, ["2"]), (16, ["2", "4", "8"])])
def test_front_ends_are_tried_where_cores_are_left_for_them(cores: int, front_ends: list[str]) -> None:
    assert choices(cores)["HOOPER_FRONT_ENDS"] == front_ends


def test_what_was_found_is_an_env_file() -> None:
    assert as_env_file({"HOOPER_MAX_BATCH_TOKENS": "2048"}, "a machine").splitlines()[1:] == ["HOOPER_MAX_BATCH_TOKENS=2048"]
    assert "the defaults are best here" in as_env_file({}, "a machine")
