"""How many rows of an update are computed at once."""

from __future__ import annotations

import pytest

from scripts.training.training_setup import MICRO_BATCH_TOKENS, micro_batch


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [([16] * 60, 32), ([128] * 60, 32), ([129] * 60, 16), ([512] * 60, 8), ([8192] * 3, 1), ([5], 32)],
)
def test_rows_of_like_length_are_as_many_as_the_caches_hold(lengths: list[int], rows: int) -> None:
    assert micro_batch(32, lengths) == rows


def test_a_few_long_texts_among_short_ones_do_not_make_all_updates_small() -> None:
    lengths = [16] * 999 + [512]
    rows = micro_batch(32, lengths)
    assert rows == 16
    assert rows * 512 <= 2 * MICRO_BATCH_TOKENS


@pytest.mark.parametrize("batch_size", [1, 6, 7, 32])
def test_an_update_is_made_of_whole_parts(batch_size: int) -> None:
    assert batch_size % micro_batch(batch_size, [300, 512]) == 0
