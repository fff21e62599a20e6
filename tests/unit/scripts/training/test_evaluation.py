"""Items through encode, runner and decode, as the service does it, in batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidInput, TooLarge
from app.core.types import Row, RowOutput
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from scripts.training import evaluation
from scripts.training.evaluation import BUDGET, predict, token_batches
from tests.support.tiny_model import VOCABULARY, tiny_tokenizer

GOOD = VOCABULARY["good"]


class WordRunner:
    """Says `good` where the row holds the word; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Row]] = []

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        self.batches.append(rows)
        return [{"logits": np.array([0.0, 2.0 * (GOOD in row.input_ids) - 1], np.float32)} for row in rows]


def task() -> TextClassification:
    return TextClassification(tiny_tokenizer(), ("bad", "good"))


def items(count: int) -> list[ClassificationItem]:
    return [
        ClassificationItem("the film was " + "very " * (index % 7) + ("good" if index % 3 else "bad")) for index in range(count)
    ]


def test_each_item_gets_the_answer_to_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "CHUNK", 4)
    found = predict(task(), ClassificationOptions(), items(11), WordRunner())
    assert [answer.labels[0].label for answer in found.answers] == ["good" if index % 3 else "bad" for index in range(11)]
    assert [len(outputs) for outputs in found.outputs] == [1] * 11


def test_an_item_of_several_rows_is_decoded_from_all_of_them() -> None:
    long = ClassificationItem("the film was bad . " * 20 + "good")
    found = predict(task(), ClassificationOptions(truncation="window"), [long, *items(1)], WordRunner())
    assert len(found.outputs[0]) == len(found.encoded[0].rows) > 1
    assert found.answers[0].labels[0].label == "bad"


def test_rows_run_in_batches_within_the_budget() -> None:
    runner = WordRunner()
    predict(task(), ClassificationOptions(), items(900), runner)
    assert len(runner.batches) > 1
    assert all(len(batch) * max(row.num_tokens for row in batch) <= BUDGET for batch in runner.batches)


def test_an_item_that_cannot_be_encoded_stops_the_evaluation() -> None:
    with pytest.raises(InvalidInput):
        predict(task(), ClassificationOptions(), [ClassificationItem("")], WordRunner())


def test_no_items_give_no_answers() -> None:
    assert predict(task(), ClassificationOptions(), [], WordRunner()).answers == []


def test_many_long_pairs_are_read_though_no_request_could_hold_them_together() -> None:
    pairs = [ClassificationItem("x" * 300, "y" * 300)] * 8
    assert any(isinstance(entry, TooLarge) for entry in task().encode(pairs, ClassificationOptions()))
    assert len(predict(task(), ClassificationOptions(), pairs, WordRunner()).answers) == 8


def test_a_pair_that_is_too_long_by_itself_is_refused() -> None:
    with pytest.raises(TooLarge, match="the pair has"):
        predict(task(), ClassificationOptions(), [ClassificationItem("x" * 9000, "y" * 9000)], WordRunner())


def rows_of(lengths: list[int]) -> list[Row]:
    return [Row([0] * length, [0] * length) for length in lengths]


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_every_row_is_in_one_batch_and_only_a_lone_row_exceeds_the_budget(lengths: list[int], budget: int) -> None:
    batches = token_batches(rows_of(lengths), budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def test_rows_of_similar_length_share_a_batch() -> None:
    assert token_batches(rows_of([2, 30, 2, 30]), 60) == [[1, 3], [0, 2]]
