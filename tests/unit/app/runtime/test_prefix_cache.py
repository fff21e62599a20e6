"""PrefixCache: pages of a text, given back to whoever owns them, in rows that nobody else needs."""

from __future__ import annotations

import random

import numpy as np
import pytest

from app.core.types import Array, Ints
from app.runtime.prefix_cache import PREFIX_SHARE, PrefixCache

SIZE = 4
"""Tokens of a page."""
ROWS, CAPACITY = 8, 18
NUM_PAGES = ROWS * (CAPACITY // SIZE) // PREFIX_SHARE


@pytest.fixture
def past() -> Array:
    return np.zeros((2, 2, ROWS, 3, CAPACITY, 5), np.float32)


@pytest.fixture
def prefixes(past: Array) -> PrefixCache:
    return PrefixCache(past, SIZE)


def text(*numbers: int, start: int = 0) -> Ints:
    return np.arange(start, start + sum(numbers), dtype=np.int64)


def content(token_ids: Ints) -> Array:
    """What a model would make of these tokens: of each, a number that depends on all before it."""
    return np.cumsum((token_ids + 1) * 7919 % 1009).astype(np.float32)[:, None]


def read(prefixes: PrefixCache, past: Array, token_ids: Ints, owner: str = "a", row: int = 0, num_used: int = 1) -> int:
    """Read a text as the engine does, and check what the row holds then: how many tokens were reused."""
    past[:, :, row] = -1
    num_reused = stop = prefixes.reuse(owner, token_ids, row, 0)
    while stop < len(token_ids):
        start, stop = stop, min(len(token_ids), stop + SIZE)
        past[:, :, row, :, start:stop] = content(token_ids)[start:stop]
        if stop - start == SIZE:
            prefixes.keep(owner, token_ids[:stop], row, num_used)
    assert (past[:, :, row, :, : len(token_ids)] == content(token_ids)).all()
    return num_reused


def test_what_was_read_is_not_read_again_up_to_a_whole_page(prefixes: PrefixCache, past: Array) -> None:
    assert read(prefixes, past, text(11)) == 0
    for size, expected in ((11, 8), (9, 8), (8, 4), (7, 4), (4, 0), (1, 0), (18, 8)):
        assert read(prefixes, past, text(size)) == expected, size
    assert read(prefixes, past, text(18)) == 16


def test_texts_that_begin_otherwise_share_what_is_the_same(prefixes: PrefixCache, past: Array) -> None:
    read(prefixes, past, text(12))
    assert read(prefixes, past, np.concatenate([text(6), text(6, start=50)])) == 4
    assert read(prefixes, past, text(12, start=1)) == 0
    assert read(prefixes, past, np.concatenate([text(3, start=90), text(9, start=3)])) == 0  # the same tokens behind others


def test_each_owner_has_its_own(prefixes: PrefixCache, past: Array) -> None:
    read(prefixes, past, text(12), owner="a")
    assert read(prefixes, past, text(12), owner="b") == 0
    assert read(prefixes, past, text(12), owner="b") == 8


def test_it_keeps_a_share_of_the_cache_in_the_last_rows(prefixes: PrefixCache, past: Array) -> None:
    for number in range(40):
        read(prefixes, past, text(17, start=100 * number))
    assert {page.row for page in prefixes._kept.values()} == {ROWS - 1, ROWS - 2}
    assert len(prefixes._kept) == NUM_PAGES
    assert prefixes.num_bytes == NUM_PAGES * 2 * 2 * 3 * SIZE * 5 * 4 <= past.nbytes // PREFIX_SHARE
    assert prefixes.num_evicted == 40 * 4 - NUM_PAGES


def test_the_least_recently_used_text_goes_first_and_its_end_before_its_beginning(prefixes: PrefixCache, past: Array) -> None:
    first, second, third = (text(17, start=start) for start in (0, 100, 200))
    for each in (first, second, first):
        read(prefixes, past, each)
    read(prefixes, past, third[:9])  # two pages of it in place of two of the second
    assert [prefixes.reuse("a", each, 0, 0) for each in (first, second, third)] == [16, 8, 8]


def test_a_text_that_is_longer_than_what_is_kept_does_not_put_out_its_own_beginning(past: Array) -> None:
    small = PrefixCache(past[:, :, :2], SIZE)  # two pages
    for _ in range(2):
        read(small, past[:, :, :2], text(18))
        assert small.reuse("a", text(18), 0, 0) == 8
    assert small.num_evicted == 0


def test_a_row_that_is_taken_loses_its_pages_alone(prefixes: PrefixCache, past: Array) -> None:
    first, second = text(17), text(17, start=100)
    read(prefixes, past, first)  # in the last row
    read(prefixes, past, second)
    for row in range(1, ROWS - 1):
        prefixes.give_way(row)
    past[:, :, 1 : ROWS - 1] = -2  # by others
    assert [read(prefixes, past, each, num_used=ROWS - 1) for each in (first, second)] == [16, 0]
    assert [read(prefixes, past, each, num_used=ROWS - 1) for each in (second, first)] == [16, 0], "one row has room for one"
    prefixes.give_way(ROWS - 1)
    past[:, :, 1:] = -2
    assert [read(prefixes, past, each, num_used=ROWS) for each in (first, second, first)] == [0, 0, 0]
    assert prefixes.num_bytes == 0
    assert [read(prefixes, past, each) for each in (first, first)] == [0, 16], "there is room again"


def test_what_is_no_number_is_not_kept_nor_what_follows_it(prefixes: PrefixCache, past: Array) -> None:
    past[:] = 1
    past[1, 1, 0, 2, 5, 3] = np.nan
    for stop in (4, 8, 12):
        prefixes.keep("a", text(stop), 0, 1)
    assert prefixes.reuse("a", text(18), 1, 0) == 4


def test_a_cache_without_pages_keeps_nothing(past: Array) -> None:
    for none in (PrefixCache(past, 0), PrefixCache(past, CAPACITY + 1)):
        none.give_way(0)
        assert (none.reuse("a", text(8), 0, 0), none.num_bytes) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_read_is_what_it_would_be(prefixes: PrefixCache, past: Array, seed: int) -> None:
    rng, num_used, num_reused = random.Random(seed), 1, 0
    stems = [text(18, start=100 * number) for number in range(4)]
    for _ in range(120):
        wanted = rng.randint(1, ROWS)
        for row in range(num_used, wanted):
            prefixes.give_way(row)
            past[:, :, row] = -3
        num_used = wanted
        stem = rng.choice(stems)
        token_ids = np.concatenate([stem[: rng.randint(0, 14)], text(rng.randint(1, 4), start=1000 + rng.randrange(3))])
        num_reused += read(prefixes, past, token_ids, rng.choice("ab"), rng.randrange(num_used), num_used)
        assert all(page.row >= num_used for page in prefixes._kept.values())
        assert len(prefixes._kept) == len(set(prefixes._kept.values())) <= NUM_PAGES
    assert num_reused
