"""A context longer than a row is read in windows that overlap, and each span counts in one of them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from app.core.errors import TooLarge
from app.core.types import RowOutput
from app.tasks.base import Encoded
from app.tasks.question_answering.task import (
    AnswerOptions,
    QuestionAnswering,
    QuestionItem,
    QuestionReading,
)
from app.tasks.tokenizer import Tokenizer
from tests.support.question_spans import QUESTION, TASK, encode, outputs, refusal
from tests.support.tiny_model import MAX_TOKENS, VOCABULARY, tokenizer_json


def test_a_short_context_is_one_row_with_the_question_first() -> None:
    encoded = encode("the film was good .")
    (row,) = encoded.rows
    words = [VOCABULARY[word] for word in ("was", "the", "film", "good")]
    assert list(row.input_ids[:7]) == [VOCABULARY["[CLS]"], *words, VOCABULARY["[UNK]"], VOCABULARY["[SEP]"]]
    assert list(row.token_type_ids) == [0] * 7 + [1] * (row.num_tokens - 7)
    assert encoded.num_tokens == row.num_tokens
    assert not encoded.truncated


@pytest.mark.parametrize("stride", [0, 3, 8])
def test_windows_cover_a_long_context_and_share_as_many_tokens_as_wished(stride: int) -> None:
    encoded = encode("good bad " * 40, stride=stride)
    reading: QuestionReading = encoded.state
    assert max(row.num_tokens for row in encoded.rows) <= MAX_TOKENS
    covered = [[begin for begin, _ in reading.context.offsets[window.start : window.stop]] for window in reading.windows]
    assert {begin for entry in covered for begin in entry} == {begin for begin, _ in _words("good bad " * 40)}
    for entry, other in itertools.pairwise(covered):
        assert len(set(entry) & set(other)) == stride
    assert encoded.num_tokens == sum(row.num_tokens for row in encoded.rows)
    assert not encoded.truncated


def _words(text: str) -> list[tuple[int, int]]:
    return [(i, i + len(word)) for i, word in ((text.index(w, n), w) for n, w in _numbered(text))]


def _numbered(text: str) -> list[tuple[int, str]]:
    found, position = [], 0
    for word in text.split():
        position = text.index(word, position)
        found.append((position, word))
        position += len(word)
    return found


def test_a_stride_wider_than_half_a_window_is_taken_as_half() -> None:
    assert len(encode("good bad " * 40, stride=1000).rows) == len(encode("good bad " * 40, stride=12).rows)


def test_only_the_first_window_is_read_where_the_caller_wants_it_cut() -> None:
    encoded = encode("good bad " * 40, truncation="truncate")
    assert len(encoded.rows) == 1
    assert encoded.truncated


def test_the_end_of_a_context_is_read_where_the_tokenizer_cuts_beginnings() -> None:
    cut = {"direction": "Left", "max_length": 32, "strategy": "LongestFirst", "stride": 0}
    task = QuestionAnswering(Tokenizer(json.dumps({**json.loads(tokenizer_json()), "truncation": cut}), MAX_TOKENS))
    context = "good bad " * 40 + "film"
    (encoded,) = task.encode([QuestionItem(QUESTION, context)], AnswerOptions(truncation="truncate"))
    assert isinstance(encoded, Encoded)
    (row,) = encoded.rows
    assert row.input_ids[-2] == VOCABULARY["film"]
    assert encoded.truncated
    (read,) = task.encode([QuestionItem(QUESTION, context)], AnswerOptions())
    assert isinstance(read, Encoded)
    assert [row.input_ids for row in read.rows] == [row.input_ids for row in encode(context).rows]


def test_a_long_context_is_refused_where_the_caller_wants_it_whole() -> None:
    error = refusal("good bad " * 40, truncation="error")
    assert isinstance(error, TooLarge)
    assert str(MAX_TOKENS) in error.detail


def many_windows(num_words: int = 70, stride: int = 12, **options: Any) -> Encoded:
    """Of one token a word; a word's number is its token's."""
    return encode(" ".join(["good"] * num_words), stride=stride, **options)


def point(encoded: Encoded, by_window: Mapping[int, Sequence[tuple[int, int, float]]]) -> list[RowOutput]:
    """Logits that say something else in each window, of spans of the context's tokens."""
    made = outputs(encoded, [])
    reading: QuestionReading = encoded.state
    for number, spans in by_window.items():
        shift = reading.first_context - reading.windows[number].start
        for first, last, height in spans:
            logits = made[number]["logits"]
            logits[first + shift, 0] = max(logits[first + shift, 0], height)
            logits[last + shift, 1] = max(logits[last + shift, 1], height)
    return made


def found_in(encoded: Encoded, logits: Sequence[RowOutput], **options: Any) -> list[tuple[int, int, float]]:
    """First and last word of each answer, and its score."""
    answers = TASK.decode(encoded, logits, AnswerOptions(**options)).answers
    return [(answer.start // 5, answer.end // 5, answer.score) for answer in answers]


@pytest.mark.parametrize(
    ("stride", "length"),
    [
        pytest.param(*both, marks=() if both in {(1, 1), (3, 2), (5, 4), (12, 3)} else pytest.mark.slow)
        for both in itertools.product([1, 2, 3, 5, 8, 12], [1, 2, 3, 4])
    ],
)
def test_a_span_counts_in_the_window_where_it_has_most_context(stride: int, length: int) -> None:
    encoded = many_windows(stride=stride)
    reading: QuestionReading = encoded.state
    num_tokens = len(reading.context)
    for first in range(num_tokens - length + 1):
        last = first + length - 1

        def context(window: range, first: int = first, last: int = last) -> float:
            before = first - window.start if window.start else math.inf
            behind = window.stop - 1 - last if window.stop < num_tokens else math.inf
            return min(before, behind)

        holding = [i for i, window in enumerate(reading.windows) if first in window and last in window]
        for said in holding:  # one window points at the span, the others see nothing there
            counts = said == max(holding, key=lambda i: context(reading.windows[i]))
            found = found_in(encoded, point(encoded, {said: [(first, last, 9.0)]}), max_answer_tokens=length)
            assert ((first, last) in [(a, b) for a, b, score in found if score > 0.9]) == counts


def test_the_whole_answer_wins_against_one_that_a_border_cuts() -> None:
    encoded = many_windows()
    border, begins = encoded.state.windows[0].stop - 1, encoded.state.windows[1].start
    cut, whole = (border, border), (border, border + 2)
    assert begins < border
    logits = point(encoded, {0: [(*cut, 12.0)], 1: [(*whole, 4.0)]})
    ((first, last, score), *others) = found_in(encoded, logits, top_k=3)
    assert (first, last) == whole
    assert 0.5 < score < 0.99
    assert all(a > last or b < first for a, b, _ in others)


def test_what_fills_all_that_two_windows_share_gives_way_to_what_goes_on_in_the_later() -> None:
    encoded = many_windows(stride=2)
    begins, border = encoded.state.windows[1].start, encoded.state.windows[0].stop - 1
    cut, whole = (begins, border), (begins, border + 2)
    logits = point(encoded, {0: [(*cut, 12.0)], 1: [(*whole, 4.0)]})
    assert found_in(encoded, logits)[0][:2] == whole
    alone = point(encoded, {0: [(*cut, 12.0)], 1: [(*cut, 4.0)]})  # of equals, the earlier window counts
    (best,) = found_in(encoded, alone)
    assert best[:2] == cut
    assert best[2] > 0.99


def test_an_explanation_reads_the_window_in_which_the_answer_counts() -> None:
    context = "good " * 20 + "not bad " + "good " * 30
    encoded = encode(context, stride=12)
    reading: QuestionReading = encoded.state
    border = reading.windows[0].stop - 1
    words = {border: "not", border + 1: "bad"}
    context = " ".join(words.get(i, "good") for i in range(50))
    encoded = encode(context, stride=12)
    logits = point(encoded, {0: [(border, border, 12.0)], 1: [(border, border + 1, 4.0)]})
    item = QuestionItem(QUESTION, context)
    passage = TASK.passage(item, encoded, logits, None)
    assert passage.target == "not bad"
    assert passage.row == encoded.rows[1]
    window = encoded.state.windows[1]
    shown = [(word.start, word.end) for word in passage.words if word.field == "context"]
    assert shown == list(encoded.state.context.offsets[window.start : window.stop])
    assert passage.log_odds(logits[1]) > 0 > passage.log_odds(logits[1] | {"logits": -logits[1]["logits"]})


def test_the_word_that_a_truncated_context_ends_in_is_kept_whole() -> None:
    context = "good " * 20 + "films" * 40
    encoded = encode(context, truncation="truncate")
    (window,) = encoded.state.windows
    logits = point(encoded, {0: [(window.stop - 1, window.stop - 1, 9.0)]})
    (best,) = TASK.decode(encoded, logits, AnswerOptions(truncation="truncate")).answers
    assert best.answer == "films" * 40
