"""The command that counts mutants: what it makes of what mutmut says."""

from __future__ import annotations

import inspect
from importlib import import_module
from operator import attrgetter

import pytest

from app.core.errors import SetupError
from scripts.reliability.mutation import (
    JUDGED,
    MutantChange,
    change_of,
    complaints,
    judged_changes,
    mutmut,
    place_of,
    scores,
    statuses_of,
)

RESULTS = """\
    app.batching.policy.xǁAdaptiveTokenBudgetǁof__mutmut_1: killed
    app.batching.policy.xǁAdaptiveTokenBudgetǁof__mutmut_2: survived
    app.batching.watchdog.x__ends__mutmut_3: timeout
    app.batching.watchdog.x__ends__mutmut_4: caught by type check
"""
SHOWN = """\
# app.batching.policy.x_offline_order__mutmut_7: survived
--- app/batching/policy.py
+++ app/batching/policy.py
@@ -9,5 +9,5 @@
-    floor = usual_width if layout == "packed" else 0
+    floor = usual_width if layout == "packed" else 1
     return sorted(range(len(lengths)), key=lambda index: -max(lengths[index], floor))
"""


def test_the_outcome_of_each_mutant_is_read() -> None:
    read = statuses_of(RESULTS)
    assert list(read.values()) == ["killed", "survived", "timeout", "caught by type check"]


@pytest.mark.parametrize(
    ("mutant", "module", "function"),
    [
        ("app.batching.policy.xǁAdaptiveTokenBudgetǁof__mutmut_12", "app.batching.policy", "AdaptiveTokenBudget.of"),
        ("app.batching.watchdog.xǁWatchdogǁ__init____mutmut_2", "app.batching.watchdog", "Watchdog.__init__"),
        ("app.batching.scheduler.xǁSchedulerǁ_leave__mutmut_3", "app.batching.scheduler", "Scheduler._leave"),
        ("app.runtime.layout.x__first_fit_decreasing__mutmut_1", "app.runtime.layout", "_first_fit_decreasing"),
        ("app.runtime.layout.x_bucket__mutmut_1", "app.runtime.layout", "bucket"),
    ],
)
def test_a_mutant_is_named_for_its_function(mutant: str, module: str, function: str) -> None:
    assert place_of(mutant) == (module, function)


def test_a_name_of_another_kind_is_refused() -> None:
    with pytest.raises(SetupError, match="not understood"):
        place_of("app.batching.policy.of")


def test_a_change_is_told_by_its_lines() -> None:
    assert change_of("app.batching.policy.x_offline_order__mutmut_7", SHOWN) == MutantChange(
        "app.batching.policy.offline_order",
        'floor = usual_width if layout == "packed" else 0',
        'floor = usual_width if layout == "packed" else 1',
    )


def statuses(*values: str) -> dict[str, str]:
    return {f"app.batching.memory.x_of__mutmut_{number}": status for number, status in enumerate(values)}


def test_whatever_is_neither_killed_nor_hangs_counts_against_the_tests() -> None:
    score = scores(statuses(*["killed"] * 5, "timeout", "survived", "no tests", "suspicious", "not checked"))["all"]
    assert score == {"mutants": 10, "killed": 5, "timeout": 1, "survived": 4, "score": 0.6}
    assert scores({})["all"]["score"] == 0.0


def test_each_module_is_held_to_the_floor_and_all_together() -> None:
    modules = scores(statuses_of(RESULTS))
    assert list(modules) == ["app.batching.policy", "app.batching.watchdog", "all"]
    assert [complaint.partition(";")[0] for complaint in complaints(modules)] == [
        "app.batching.policy: the tests notice 50.0% of 2 mutants",
        "app.batching.watchdog: the tests notice 50.0% of 2 mutants",
        "all: the tests notice 50.0% of 4 mutants",
    ]
    assert not complaints(scores(statuses(*["killed"] * 9, "survived")))
    assert complaints(scores({}))


def test_without_mutmut_the_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(SetupError, match="run `make mutation-test`"):
        mutmut("results")


@pytest.mark.parametrize("change", judged_changes(), ids=lambda change: change.where)
def test_a_judgement_is_about_code_that_is_there(change: MutantChange) -> None:
    parts = change.where.split(".")
    module = import_module(".".join(parts[:3]))
    source = inspect.getsource(attrgetter(".".join(parts[3:]))(module))
    assert change.was in " ".join(source.split()), f"{JUDGED} is about code that has changed"
