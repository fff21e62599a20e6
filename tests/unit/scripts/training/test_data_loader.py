"""How rows reach the trainer: neighbours of similar length, in an order that a resumed run sees again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.types import Row
from scripts.export.layouts import padded_graph
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.data_loader import Collator, EpochStart, LengthGroups


@given(st.lists(st.integers(1, 99), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_every_row_comes_once_an_epoch(lengths: list[int], batch_size: int, epoch: int) -> None:
    groups = LengthGroups(lengths, batch_size, seed=1)
    groups.start_epoch(epoch)
    assert sorted(groups) == list(range(len(lengths))) == list(range(len(groups)))


def test_each_epoch_has_its_own_order_and_the_seed_repeats_it() -> None:
    lengths = [index % 17 for index in range(300)]

    def order(seed: int, epoch: int) -> list[int]:
        groups = LengthGroups(lengths, 4, seed)
        groups.start_epoch(epoch)
        return list(groups)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_a_batch_holds_rows_of_similar_length() -> None:
    lengths = list(range(200))
    order = list(LengthGroups(lengths, 10, seed=1))
    batches = [order[start : start + 10] for start in range(0, 200, 10)]
    assert all(max(batch) - min(batch) == 9 for batch in batches)


@pytest.fixture
def collator(tiny_model: Any) -> Collator:
    graph = padded_graph(tiny_model("Bert"), "row")
    return Collator(TextClassificationTraining(), graph, [4, 6])


def test_a_batch_is_padded_to_its_longest_row_and_masked(tiny_model: Any) -> None:
    graph = padded_graph(tiny_model("Bert"), "row")
    made = Collator(TextClassificationTraining(), graph, [])(
        [TrainingRow(Row([2, 3], [0, 0]), 1), TrainingRow(Row([2, 5, 3], [0] * 3), 0)]
    )
    assert made["input_ids"].tolist() == [[2, 3, 0], [2, 5, 3]]
    assert made["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert made["labels"].tolist() == [1, 0]


@pytest.mark.parametrize(("num_tokens", "width"), [(3, 8), (8, 8), (9, 16), (17, 20), (20, 20)])
def test_widths_are_few_where_each_one_is_compiled(tiny_model: Any, num_tokens: int, width: int) -> None:
    graph = padded_graph(tiny_model("Bert"), "row")
    collator = Collator(TextClassificationTraining(), graph, [], width_step=8, max_width=20)
    made = collator([TrainingRow(Row([5] * num_tokens, [0] * num_tokens), 0), TrainingRow(Row([2, 3], [0, 0]), 1)])
    assert made["input_ids"].shape == made["attention_mask"].shape == (2, width)
    assert made["attention_mask"].sum(1).tolist() == [num_tokens, 2]
    assert collator.num_tokens == num_tokens + 2


def test_each_epoch_has_its_length_and_the_last_one_stays(collator: Collator) -> None:
    row = TrainingRow(Row(list(range(20)), [0] * 20), 0)
    widths = []
    for epoch in range(4):
        collator.start_epoch(epoch)
        widths.append(collator([row])["input_ids"].shape[1])
    assert widths == [4, 6, 6, 6]


@pytest.mark.parametrize(("progress", "epoch"), [(None, 0), (0.0, 0), (0.4, 0), (0.9999999999, 1), (1.0, 1), (2.7, 2)])
def test_a_resumed_epoch_is_told_by_its_number(progress: float | None, epoch: int) -> None:
    told: list[int] = []
    listener: Any = SimpleNamespace(start_epoch=told.append)
    EpochStart(listener).on_epoch_begin(None, SimpleNamespace(epoch=progress), None)
    assert told == [epoch]


def test_labels_of_a_multi_label_batch_are_a_matrix(tiny_model: Any) -> None:
    graph = padded_graph(tiny_model("Bert"), "row")
    row = Row([2, 3], [0, 0])
    made = Collator(TextClassificationTraining(), graph, [])([TrainingRow(row, [1.0, 0.0]), TrainingRow(row, [1.0, 1.0])])
    np.testing.assert_array_equal(made["labels"].numpy(), [[1, 0], [1, 1]])
