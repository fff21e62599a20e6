"""What is decided before a run's first update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.recipe import Recipe
from scripts.training.training_setup import MICRO_BATCH_TOKENS, Workload, micro_batch, set_up_training


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


def test_an_epoch_of_short_rows_reads_less() -> None:
    assert Workload.of([4, 10], [6, 12]).tokens == [10, 14]
    assert Workload.of([4, 10], []).tokens == [14]


def test_the_last_epoch_stands_for_all_later_ones() -> None:
    workload = Workload([10, 14])
    assert [workload.until(epoch) for epoch in (0, 0.5, 1, 1.5, 2, 4)] == [0, 5, 10, 17, 24, 52]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.floats(0, 9))
def test_tokens_and_epochs_are_two_names_of_one_thing(tokens: list[int], epochs: float) -> None:
    workload = Workload(tokens)
    assert workload.epochs_for(workload.until(epochs)) == pytest.approx(epochs, abs=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU compiles nothing for a width")
@pytest.mark.parametrize(("precision", "step"), [("bf16", 16), ("fp32", 1)])
def test_batches_in_bf16_on_a_cpu_have_few_widths(
    tiny_model: Any, training_rows: list[TrainingRow], precision: Any, step: int
) -> None:
    recipe = Recipe(data=["x"], batch_size=8, precision=precision)
    setup = set_up_training(recipe, TextClassificationTraining(), tiny_model("Bert"), training_rows)
    first = training_rows[:1]
    assert setup.collator(first)["input_ids"].shape[1] == -(-first[0].row.num_tokens // step) * step
