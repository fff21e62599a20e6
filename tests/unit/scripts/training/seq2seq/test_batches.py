"""Batches of pairs: so many tokens each, few shapes, each row once, and the same ones for a resumed run."""

from __future__ import annotations

import random

import torch

from app.core.types import Row
from scripts.tasks.spec import TrainingRow
from scripts.training.seq2seq.batches import IGNORED_LABEL, ContinuationCollator, Seq2SeqCollator, TokenBatches, rounded

GENERATOR = random.Random(5)
SHAPES = [(GENERATOR.randint(3, 40), GENERATOR.randint(3, 40)) for _ in range(500)]


def width(batch: list[int]) -> int:
    return max(max(rounded(source), rounded(target)) for source, target in (SHAPES[index] for index in batch))


def test_an_epoch_has_each_row_once_and_a_batch_at_most_so_many_tokens() -> None:
    batches = list(TokenBatches(SHAPES, 256, 0, seed=1))
    assert sorted(index for batch in batches for index in batch) == list(range(len(SHAPES)))
    assert all(len(batch) * width(batch) <= 256 for batch in batches)
    assert len(batches) == len(TokenBatches(SHAPES, 256, 0, seed=1))


def test_all_batches_of_a_width_but_the_last_have_as_many_rows() -> None:
    order = TokenBatches(SHAPES, 256, 0, seed=1)
    partial = [batch for batch in order if len(batch) != order.num_rows(width(batch))]
    assert len(partial) <= 1


def test_an_order_is_a_function_of_seed_and_epoch() -> None:
    first, again, other = (TokenBatches(SHAPES, 256, 0, seed) for seed in (1, 1, 2))
    assert list(first) == list(again) != list(other)
    first.start_epoch(1)
    assert list(first) != list(again)
    again.start_epoch(1)
    assert list(first) == list(again)
    assert len(list(first)) == len(first)


def test_the_first_epoch_begins_with_the_widest_batch() -> None:
    batches = list(TokenBatches(SHAPES, 256, 0, seed=1))
    assert width(batches[0]) == max(map(width, batches))


def test_a_batch_has_at_most_so_many_rows_and_a_long_row_comes_alone() -> None:
    assert max(len(batch) for batch in TokenBatches(SHAPES, 256, 4, seed=1)) == 4
    assert [len(batch) for batch in TokenBatches([(300, 5)], 256, 0, seed=1)] == [1]


def test_padding_is_masked_in_sources_and_ignored_in_targets() -> None:
    collate = Seq2SeqCollator(pad_token_id=7)
    rows = [TrainingRow(Row([1, 2, 3], [0] * 3), [4, 5]), TrainingRow(Row([1] * 9, [0] * 9), [6] * 3)]
    batch = collate(rows)
    assert batch["input_ids"].shape == (2, 16)
    assert batch["labels"].shape == (2, 8)
    assert batch["input_ids"][0].tolist() == [1, 2, 3, *[7] * 13]
    assert batch["attention_mask"].sum(1).tolist() == [3, 9]
    assert batch["labels"][0].tolist() == [4, 5, *[IGNORED_LABEL] * 6]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert collate.num_tokens == 17
    assert round(collate.padding_share, 4) == round(1 - 17 / 48, 4)


def test_without_an_encoder_prompt_and_completion_are_one_row_whose_prompt_is_not_learnt() -> None:
    collate = ContinuationCollator(pad_token_id=7)
    batch = collate([TrainingRow(Row([1, 2, 3], [0] * 3), [4, 5]), TrainingRow(Row([9], [0]), [6])])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, *[7] * 4], [9, *[7] * 7]]
    assert batch["attention_mask"].sum(1).tolist() == [4, 1]
    ignored = IGNORED_LABEL
    assert batch["labels"].tolist() == [[ignored, ignored, 4, 5, *[ignored] * 4], [6, *[ignored] * 7]]
    assert collate.num_tokens == 5
    assert round(collate.padding_share, 4) == round(1 - 5 / 16, 4)


def test_no_batch_is_wider_than_the_model_reads() -> None:
    collate = Seq2SeqCollator(0, max_width=10)
    assert collate([TrainingRow(Row([1] * 9, [0] * 9), [2])])["input_ids"].shape == (1, 10)
