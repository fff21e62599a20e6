"""Rates of keys over several processes: each key has one bucket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.api.rates import KeyNewTokens, KeyRates, SharedBuckets
from app.core.errors import RateLimited

KEYS = ("a", "b")
TAKE = """
import sys
from pathlib import Path
from app.api.rates import KeyRates, SharedBuckets
from app.core.errors import RateLimited
rates = KeyRates(1000, lambda: 5.0, SharedBuckets(Path(sys.argv[1]), ("a", "b")))
taken = 0
try:
    while True:
        rates.take("b")
        taken += 1
except RateLimited:
    print(taken)
"""


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def two(path: Path, per_minute: int) -> Iterator[tuple[KeyRates, KeyRates, Clock]]:
    clock = Clock()
    with closing(SharedBuckets(path, KEYS)) as own, closing(SharedBuckets(path, KEYS)) as others:
        yield KeyRates(per_minute, clock, own), KeyRates(per_minute, clock, others), clock


def test_what_one_process_counts_the_others_know(tmp_path: Path) -> None:
    with two(tmp_path / "rates", 3) as (one, other, _):
        one.take("a")
        other.take("a")
        one.take("a")
        with pytest.raises(RateLimited, match="this key may make 3 requests a minute, and has made them") as refused:
            other.take("a")
        assert refused.value.retry_after_s == 20
        other.take("b")  # which has a bucket of its own


def test_a_bucket_fills_again(tmp_path: Path) -> None:
    with two(tmp_path / "rates", 1) as (one, other, clock):
        one.take("a")
        clock.now_s += 60
        other.take("a")
        with pytest.raises(RateLimited):
            one.take("a")


def test_without_a_limit_nothing_is_counted(tmp_path: Path) -> None:
    with two(tmp_path / "rates", 0) as (one, _, _):
        for _ in range(100):
            one.take("a")
    assert (tmp_path / "rates").read_bytes() == b""


def test_a_key_that_is_listed_twice_has_one_bucket(tmp_path: Path) -> None:
    with closing(SharedBuckets(tmp_path / "rates", ("a", "b", "a"))) as buckets:
        rates = KeyRates(1, Clock(), buckets)
        rates.take("a")
        with pytest.raises(RateLimited):
            rates.take("a")


def test_what_is_written_by_one_process_is_paid_for_in_the_others(tmp_path: Path) -> None:
    with closing(SharedBuckets(tmp_path / "tokens", KEYS)) as own, closing(SharedBuckets(tmp_path / "tokens", KEYS)) as others:
        clock = Clock()
        one, other = KeyNewTokens(60, clock, own), KeyNewTokens(60, clock, others)
        one.check("a")
        one.count("a", 100)
        with pytest.raises(RateLimited, match="this key may have 60 new tokens a minute written") as refused:
            other.check("a")
        assert refused.value.retry_after_s == pytest.approx(41)
        other.check("b")
        clock.now_s += 42
        other.check("a")


def test_processes_that_ask_at_the_same_time_get_no_more_together_than_one_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE, str(tmp_path / "rates")]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(entry.communicate()[0]) for entry in asking) == 1000
