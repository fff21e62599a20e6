"""How often a key may ask, by a clock that the test moves."""

from __future__ import annotations

import pytest

from app.api.rates import Bucket, KeyNewTokens, KeyRates, refilled, wait_s
from app.core.errors import RateLimited


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def num_taken(rates: KeyRates, key: str = "a") -> int:
    """How many requests are let through at this moment."""
    for number in range(1000):
        try:
            rates.take(key)
        except RateLimited:
            return number
    return 1000


def test_a_minutes_requests_may_be_made_at_once_and_then_one_as_each_falls_due() -> None:
    clock = Clock()
    rates = KeyRates(30, clock)
    assert num_taken(rates) == 30
    clock.now_s += 1.9
    assert num_taken(rates) == 0
    clock.now_s += 0.2
    assert num_taken(rates) == 1
    clock.now_s += 3600
    assert num_taken(rates) == 30


def test_whoever_is_turned_away_is_told_how_long_to_stay_away_and_is_then_let_in() -> None:
    clock = Clock()
    rates = KeyRates(6, clock)
    num_taken(rates)
    with pytest.raises(RateLimited, match="this key may make 6 requests a minute") as refused:
        rates.take("a")
    assert refused.value.retry_after_s == pytest.approx(10)
    clock.now_s += refused.value.retry_after_s + 1e-6
    rates.take("a")


def test_being_turned_away_costs_nothing() -> None:
    clock = Clock()
    rates = KeyRates(60, clock)
    num_taken(rates)
    for _ in range(100):
        num_taken(rates)
    clock.now_s += 1.01
    assert num_taken(rates) == 1


def test_one_key_takes_nothing_from_another() -> None:
    rates = KeyRates(5, Clock())
    assert num_taken(rates, "a") == 5
    assert num_taken(rates, "b") == 5


def test_without_a_limit_nobody_is_counted() -> None:
    assert num_taken(KeyRates(0, Clock())) == 1000


def test_a_bucket_never_holds_more_than_a_minutes_requests() -> None:
    assert refilled(Bucket(3, 0), 1e9, 10) == Bucket(10, 1e9)
    assert refilled(Bucket(3, 0), 6, 10) == Bucket(4, 6)
    assert wait_s(Bucket(0.5, 0), 60) == 0.5
    assert wait_s(Bucket(5, 0), 60) == 0


# --- new tokens


def test_a_text_that_is_begun_is_finished_and_the_next_waits_until_it_is_paid_for() -> None:
    clock = Clock()
    tokens = KeyNewTokens(60, clock)
    tokens.check("a")
    tokens.count("a", 100)  # it became longer than what is left
    with pytest.raises(RateLimited, match="this key may have 60 new tokens a minute written") as refused:
        tokens.check("a")
    assert refused.value.retry_after_s == pytest.approx(41)
    tokens.check("b")
    clock.now_s += refused.value.retry_after_s + 1e-6
    tokens.check("a")


def test_what_was_not_used_is_kept_for_a_minute_alone() -> None:
    clock = Clock()
    tokens = KeyNewTokens(60, clock)
    clock.now_s += 3600
    tokens.count("a", 59)
    tokens.check("a")
    tokens.count("a", 1)
    with pytest.raises(RateLimited):
        tokens.check("a")


def test_without_a_limit_and_without_a_key_anything_may_be_written() -> None:
    for tokens, key in ((KeyNewTokens(0), "a"), (KeyNewTokens(1), None)):
        tokens.count(key, 1_000_000)
        tokens.check(key)
