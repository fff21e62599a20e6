"""Whether a process that died is started again."""

from __future__ import annotations

from app.processes.restarts import LONGEST_PAUSE_S, MOST_QUICK, QUICK_S, Deaths


def after(*lives_s: float) -> Deaths:
    deaths = Deaths()
    for lived_s in lives_s:
        deaths = deaths.after(lived_s)
    return deaths


def test_an_engine_process_is_started_again_so_many_times_however_long_it_lived() -> None:
    assert after(1e6, 1e6, 1e6).too_many_because("engine", 3) == ""
    assert after(1e6, 1e6, 1e6, 1e6).too_many_because("engine", 3) == (
        "the engine process has died 4 times, of which 3 are made good (HOOPER_ENGINE_REPLACEMENTS)"
    )


def test_a_front_end_is_started_again_for_as_long_as_it_lives_for_a_while() -> None:
    assert after(*[QUICK_S] * 100).too_many_because("front end 1", None) == ""


def test_a_front_end_that_dies_at_once_again_and_again_is_not_started_any_more() -> None:
    assert after(*[1.0] * (MOST_QUICK - 1)).too_many_because("front end 1", None) == ""
    assert after(*[1.0] * MOST_QUICK).too_many_because("front end 1", None) == (
        "front end 1 has died 5 times in a row within 10 s of its start"
    )
    assert after(*[1.0] * (MOST_QUICK - 1), QUICK_S, 1.0).too_many_because("front end 1", None) == ""


def test_the_next_one_waits_longer_after_each_quick_death() -> None:
    assert after(QUICK_S).pause_s == 0
    pauses = [after(*[1.0] * number).pause_s for number in range(1, 9)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (0.1, 0.2, LONGEST_PAUSE_S)
