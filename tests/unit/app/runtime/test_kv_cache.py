"""The cache keeps its rows in front, loses none of what they hold, and says with numbers what can never fit."""

from __future__ import annotations

import random

import numpy as np
import pytest

from app.core.errors import InvalidSettings, TooLarge
from app.core.manifest import Decoder
from app.core.sequences import SamplingParams
from app.runtime.kv_cache import CacheSlots, KvCache, bytes_per_row, num_cache_rows
from tests.support.tiny_model import row

DECODER = Decoder(file="d.onnx", num_layers=2, num_heads=2, head_size=4, vocab_size=9, max_length=6)
FEATURES = 2 * 2 * 2 * 4
MAX_SOURCE_TOKENS = 5
ROW_BYTES = 2 * 2 * 2 * 4 * (6 + 5) * 4


def cache_of(num_rows: int) -> KvCache:
    return KvCache(DECODER, num_rows, MAX_SOURCE_TOKENS)


def source(number: int, num_tokens: int = 3) -> np.ndarray:
    return np.arange(num_tokens * FEATURES, dtype=np.float32).reshape(num_tokens, FEATURES) + 1000 * number


def write(cache: KvCache, slot: int, value: float) -> None:
    """Let a step write a token for every row of a slot: this number, and the beam's."""
    for beam, index in enumerate(cache.rows(slot)):
        cache.past[:, :, index, :, cache.past_lengths[index]] = value + beam / 10
        cache.past_lengths[index] += 1


def written(cache: KvCache, slot: int) -> list[list[float]]:
    """What each row's steps wrote, the same in every layer and head."""
    values = []
    for index in cache.rows(slot):
        part = cache.past[:, :, index, :, : cache.past_lengths[index]]
        assert (part == part[:1, :1, :1, :, :1]).all()
        values.append([round(float(number), 1) for number in part[0, 0, 0, :, 0]])
    return values


def test_a_source_lies_by_layer_kind_and_head() -> None:
    cache = cache_of(2)
    cache.add(7, source(1))
    (index,) = cache.rows(7)
    by_token = source(1).reshape(3, 2, 2, 2, 4)
    for layer, kind, head in np.ndindex(2, 2, 2):
        np.testing.assert_array_equal(cache.cross[layer, kind, index, head, :3], by_token[:, layer, kind, head])
    assert (cache.source_lengths[index], cache.past_lengths[index]) == (3, 0)


def test_the_last_rows_move_into_the_gaps_with_all_that_they_hold() -> None:
    cache = cache_of(5)
    for slot in range(5):
        cache.add(slot, source(slot, num_tokens=slot + 1))
        write(cache, slot, slot)
        cache.input_ids[cache.rows(slot)] = slot
    cache.release([0, 3])
    assert cache.num_used == 3
    assert sorted(index for slot in (1, 2, 4) for index in cache.rows(slot)) == [0, 1, 2]
    for slot in (1, 2, 4):
        (index,) = cache.rows(slot)
        assert written(cache, slot) == [[slot]]
        assert (cache.source_lengths[index], cache.input_ids[index, 0]) == (slot + 1, slot)
        expected = source(slot, slot + 1).reshape(-1, 2, 2, 2, 4).transpose(1, 2, 3, 0, 4)
        np.testing.assert_array_equal(cache.cross[:, :, index, :, : slot + 1], expected)


def test_rows_in_use_are_one_range_and_others_are_as_few_as_there_are_gaps() -> None:
    cache = cache_of(5)
    for slot in range(5):
        cache.add(slot, source(slot))
    assert cache.ranges(range(5)) == [range(5)]
    assert cache.ranges([4, 1, 0]) == [range(2), range(4, 5)]
    assert cache.ranges([]) == []


def test_beams_go_on_from_what_others_hold() -> None:
    cache = cache_of(6)
    cache.add(1, source(1))
    write(cache, 1, 5)
    cache.add(2, source(2))
    write(cache, 2, 6)
    cache.widen(1, 4)
    assert written(cache, 1) == [[5]] * 4
    write(cache, 1, 7)
    before = [[5, 7.0], [5, 7.1], [5, 7.2], [5, 7.3]]
    assert written(cache, 1) == before
    cache.reorder(1, [2, 2, 0, 2])
    assert written(cache, 1) == [before[source] for source in (2, 2, 0, 2)]
    assert len(set(cache.rows(1))) == 4
    assert written(cache, 2) == [[6]], "another sequence was written over"


def test_renaming_copies_nothing() -> None:
    cache = cache_of(3)
    cache.add(1, source(1))
    cache.widen(1, 3)
    write(cache, 1, 7)
    before = cache.past.copy()
    cache.reorder(1, [2, 0, 1])
    assert written(cache, 1) == [[7.2], [7.0], [7.1]]
    np.testing.assert_array_equal(cache.past, before)


def test_what_is_no_number_is_not_left_for_whoever_gets_the_row() -> None:
    cache = cache_of(1)
    cache.add(1, np.full((3, FEATURES), np.nan, np.float32))
    write(cache, 1, np.nan)
    cache.clear(1)
    assert np.isfinite(cache.past).all()
    assert np.isfinite(cache.cross).all()


def test_sequences_that_come_and_go_leave_every_row_free() -> None:
    cache, slots, rng = cache_of(8), CacheSlots(8, 6), random.Random(3)
    alive: dict[int, int] = {}
    for number in range(1000):
        width = rng.randint(1, 4)
        if width <= slots.num_free:
            slot = slots.allocate(width)
            cache.add(slot, source(0, num_tokens=1))
            cache.past[:, :, cache.rows(slot), :, 0] = number
            cache.past_lengths[cache.rows(slot)] = 1
            cache.widen(slot, width)
            alive[slot] = number
        for slot in [slot for slot in alive if rng.random() < 0.3]:
            assert {value for (value,) in written(cache, slot)} == {alive.pop(slot)}
            slots.free(slot)
            cache.release([slot])
        assert cache.num_used == 8 - slots.num_free
    for slot in alive:
        slots.free(slot)
    cache.release(alive)
    assert (cache.num_used, slots.num_free) == (0, 8)


# --- how many rows


def test_a_row_holds_the_longest_sequence_and_the_longest_source() -> None:
    cache = cache_of(3)
    assert bytes_per_row(DECODER, MAX_SOURCE_TOKENS) == ROW_BYTES
    assert (cache.past.nbytes + cache.cross.nbytes) == 3 * ROW_BYTES


@pytest.mark.parametrize(
    ("limit", "available", "expected"),
    [(3 * ROW_BYTES, 0, 3), (3 * ROW_BYTES - 1, 0, 2), (10**9, 0, 4), (0, 8 * ROW_BYTES, 2), (0, 10**9, 4), (0, None, 4)],
)
def test_there_are_as_many_rows_as_a_batch_holds_or_memory_allows(limit: int, available: int | None, expected: int) -> None:
    assert num_cache_rows(DECODER, MAX_SOURCE_TOKENS, 4, limit, available) == expected


def test_room_for_less_than_a_row_is_said_with_numbers() -> None:
    sentence = f"6 tokens and 5 of its source takes {ROW_BYTES:,} bytes of cache, and HOOPER_CACHE_BYTES allows 100"
    with pytest.raises(InvalidSettings, match=sentence):
        num_cache_rows(DECODER, MAX_SOURCE_TOKENS, 4, 100, 10**9)
    with pytest.raises(InvalidSettings, match=r"a quarter of the 400 bytes of memory that are free: 100"):
        num_cache_rows(DECODER, MAX_SOURCE_TOKENS, 4, 0, 400)


def test_what_never_fits_is_refused_with_numbers() -> None:
    slots = CacheSlots(2, 6)
    slots.check(row(1), SamplingParams(max_new_tokens=5, num_beams=2))
    with pytest.raises(TooLarge, match="3 beams need as many rows of the cache, which has 2"):
        slots.check(row(1), SamplingParams(max_new_tokens=5, num_beams=3))
    with pytest.raises(TooLarge, match="5 new tokens after the 2 that a sequence starts with are more than the 6"):
        slots.check(row(1), SamplingParams(max_new_tokens=5, decoder_input_ids=(1, 2)))


def test_a_cache_that_the_system_has_no_memory_for_is_said_with_numbers() -> None:
    with pytest.raises(InvalidSettings, match=r"no memory for a cache of 10000000000000 rows, [\d,]+ bytes; set"):
        KvCache(DECODER, 10**13, MAX_SOURCE_TOKENS)
