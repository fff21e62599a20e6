"""A document in, some of its sentences out: verbatim, in order, the best ones, none said twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import HooperError, InvalidInput, TooLarge
from app.core.types import Row
from app.tasks.base import Encoded
from app.tasks.extractive_summarization.task import (
    LATER,
    ExtractiveSummarization,
    Summary,
    SummaryItem,
    SummaryOptions,
    select,
    sentence_scores,
)
from tests.support.tiny_model import MAX_TOKENS, VOCABULARY, tiny_tokenizer

TASK = ExtractiveSummarization(tiny_tokenizer())
DOCUMENT = "The film was good. A bad film was not very good.\n\nVery bad films. Not a good film.  The end was bad."
SENTENCES = ["The film was good.", "A bad film was not very good.", "Very bad films.", "Not a good film.", "The end was bad."]
LONG = " ".join(f"The film number {index} was not very good." for index in range(40))


def encode(text: str = DOCUMENT, **options: Any) -> Encoded:
    (encoded,) = TASK.encode([SummaryItem(text)], SummaryOptions(**options))
    assert isinstance(encoded, Encoded)
    return encoded


def refusal(text: str, **options: Any) -> HooperError:
    (error,) = TASK.encode([SummaryItem(text)], SummaryOptions(**options))
    assert isinstance(error, HooperError)
    return error


def said(row: Row, logits: Sequence[float]) -> dict[str, Any]:
    """What a model says that gives every token the logit of its sentence."""
    return {"logits": np.repeat(np.float32(logits), np.diff(row.output_positions, append=row.num_tokens))[:, None]}


def summarize(logits: Sequence[float], text: str = DOCUMENT, **options: Any) -> Summary:
    """The summary when the sentences of the document have these logits in every window."""
    encoded = encode(text, **options)
    outputs = [said(row, [logits[i] for i in window]) for row, window in zip(encoded.rows, encoded.state.windows, strict=True)]
    return TASK.decode(encoded, outputs, SummaryOptions(**options))


def test_an_item_is_as_long_as_its_text() -> None:
    assert len(SummaryItem("good")) == 4


# encode


def test_sentences_share_a_row_each_behind_a_marker_of_its_own() -> None:
    encoded = encode("The film was good. A bad film.")
    (row,) = encoded.rows
    assert list(row.output_positions) == [0, 7]
    assert [row.input_ids[position] for position in row.output_positions] == [VOCABULARY["[CLS]"]] * 2
    assert list(row.input_ids).count(VOCABULARY["[SEP]"]) == 2
    assert encoded.num_tokens == row.num_tokens == 13


def test_a_long_document_is_read_in_windows_that_together_hold_every_sentence() -> None:
    encoded = encode(LONG)
    assert len(encoded.rows) > 2
    assert all(row.num_tokens <= MAX_TOKENS for row in encoded.rows)
    assert {i for window in encoded.state.windows for i in window} == set(range(40))
    assert [len(row.output_positions) for row in encoded.rows] == [len(window) for window in encoded.state.windows]
    assert not encoded.truncated
    assert len(encoded.state.windows[-1]) == len(encoded.state.windows[0])  # the last window is as full as the others


def test_token_types_tell_the_opening_from_the_rest() -> None:
    first, *later = encode(LONG).rows
    assert set(first.token_type_ids) == {0}
    assert all(set(row.token_type_ids) == {1} for row in later)


def test_only_the_opening_is_read_where_the_caller_wants_it_cut() -> None:
    encoded = encode(LONG, truncation="truncate")
    assert len(encoded.rows) == 1
    assert encoded.truncated
    assert len(encoded.state.spans) == len(encoded.rows[0].output_positions)


def test_a_long_document_is_refused_where_the_caller_wants_it_whole() -> None:
    error = refusal(LONG, truncation="error")
    assert isinstance(error, TooLarge)
    assert str(MAX_TOKENS) in error.detail


def test_a_sentence_longer_than_a_row_is_read_in_part_and_the_cut_is_told() -> None:
    encoded = encode("good " * 100)
    assert encoded.truncated
    assert all(row.num_tokens <= MAX_TOKENS for row in encoded.rows)


@pytest.mark.parametrize("text", ["", " \n", "good \ud800 film"])
def test_what_holds_nothing_is_refused(text: str) -> None:
    error = refusal(text)
    assert isinstance(error, InvalidInput)
    assert error.field == "text"


# decode


def test_the_best_sentences_come_verbatim_in_the_documents_order() -> None:
    summary = summarize([0.0, -3.0, 2.0, 1.0, 3.0], min_sentences=3)
    assert [sentence.text for sentence in summary.sentences] == [SENTENCES[2], SENTENCES[3], SENTENCES[4]]
    assert all(DOCUMENT[sentence.start : sentence.end] == sentence.text for sentence in summary.sentences)
    assert summary.summary == " ".join([SENTENCES[2], SENTENCES[3], SENTENCES[4]])
    # it stands in the second window alone: sentences there must be better to be kept
    assert summary.sentences[2].score == pytest.approx(1 / (1 + np.exp(-3.0 - LATER)))


@pytest.mark.parametrize("count", [1, 2, 4, 50])
def test_at_most_so_many_sentences_are_chosen_and_exactly_so_many_where_that_is_wished(count: int) -> None:
    logits = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(summarize(logits, max_sentences=count).sentences) <= count
    assert len(summarize(logits, max_sentences=count, min_sentences=count).sentences) == min(count, 5)


TEN = [" ".join(f"{letter}{index}" for index in range(10)) for letter in "abcdef"]
"""Sentences of ten words that have none in common."""


def test_a_sentence_is_kept_only_where_the_expected_f1_of_the_words_rises() -> None:
    scores = np.array([0.1, 0.9, 0.1, 0.8, 0.1, 0.1], np.float32)
    options = SummaryOptions(max_sentences=3)
    # 9 / (10 + 20) = 0.30 alone, (9 + 0.7 * 8) / (20 + 20) = 0.37 with the second, 15.1 / (30 + 20) = 0.30 with a third
    assert select(TEN, scores, options, usual_words=20) == [1, 3]
    # 9 / (10 + 2) = 0.75 alone, 14.6 / (20 + 2) = 0.66 with the second
    assert select(TEN, scores, options, usual_words=2) == [1]
    assert select(TEN, scores, SummaryOptions(max_sentences=3, min_sentences=3), usual_words=2) == [0, 1, 3]


def test_who_allows_more_sentences_wants_a_longer_summary() -> None:
    scores = np.array([0.9, 0.6, 0.6, 0.6, 0.5, 0.5], np.float32)
    kept = [len(select(TEN, scores, SummaryOptions(max_sentences=count), usual_words=20)) for count in (2, 3, 6)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


def test_of_two_equally_good_sentences_the_one_that_says_more_is_kept() -> None:
    assert select(["one two", TEN[0], "three"], np.full(3, 0.5, np.float32), SummaryOptions(max_sentences=1), 30) == [1]


def test_one_that_repeats_a_chosen_one_is_passed_over() -> None:
    texts = ["He said it was very good.", "It was very good, he said.", "They went home."]
    assert select(texts, np.array([0.9, 0.8, 0.1]), SummaryOptions(2, 2), 50) == [0, 2]
    assert select(["Yes.", "yes", "No."], np.array([0.5, 0.9, 0.1]), SummaryOptions(3, 3), 50) == [1, 2]


def test_a_text_of_marks_alone_has_a_summary_too() -> None:
    assert select(["!!!", "???"], np.array([0.0, 0.0]), SummaryOptions(), 50) == [0]


def test_logits_of_a_sentence_in_two_windows_are_averaged() -> None:
    encoded = encode(LONG)
    windows = encoded.state.windows
    (shared, *_) = set(windows[0]) & set(windows[1])
    heights = [3.0, 1.0, *[-9.0] * (len(windows) - 2)]
    outputs = [
        said(row, [-9.0 if i != shared else height for i in window])
        for row, window, height in zip(encoded.rows, windows, heights, strict=True)
    ]
    (best,) = TASK.decode(encoded, outputs, SummaryOptions(max_sentences=1)).sentences
    assert best.text == f"The film number {shared} was not very good."
    assert best.score == pytest.approx(1 / (1 + np.exp(-(3.0 + 1.0 + LATER) / 2)))


def test_a_sentence_is_scored_by_the_mean_over_its_tokens() -> None:
    encoded = encode("The film was good. A bad film.")
    (row,) = encoded.rows
    logits = np.zeros((row.num_tokens, 1), np.float32)
    logits[3] = 14.0  # of the seven tokens of the first sentence
    scores = sentence_scores(encoded, [{"logits": logits}])
    assert scores == pytest.approx([1 / (1 + np.exp(-2.0)), 0.5])


def test_a_document_of_one_sentence_is_its_own_summary() -> None:
    assert summarize([-5.0], "Good film").summary == "Good film"


@given(
    text=st.lists(st.sampled_from([*"ago d.\n-", "film ", "é", "🙂", "。"]), min_size=1).map("".join), seed=st.integers(0, 999)
)
def test_whatever_the_model_says_a_summary_is_made_of_the_document(text: str, seed: int) -> None:
    (encoded,) = TASK.encode([SummaryItem(text)], SummaryOptions())
    if isinstance(encoded, HooperError):
        assert not text.strip()
        return
    random = np.random.default_rng(seed)
    outputs = [{"logits": random.normal(0, 3, (row.num_tokens, 1)).astype(np.float32)} for row in encoded.rows]
    summary = TASK.decode(encoded, outputs, SummaryOptions())
    assert 1 <= len(summary.sentences) <= 3
    assert all(text[sentence.start : sentence.end] == sentence.text for sentence in summary.sentences)
    starts = [sentence.start for sentence in summary.sentences]
    assert starts == sorted(starts)


def test_200_kilobytes_are_summed_up() -> None:
    text = " ".join(f"Sentence {index} of a long film was good." for index in range(5500))
    encoded = encode(text)
    assert len(text) > 200_000
    outputs = [{"logits": np.zeros((row.num_tokens, 1), np.float32)} for row in encoded.rows]
    assert len(TASK.decode(encoded, outputs, SummaryOptions()).sentences) >= 1


def test_the_last_window_reaches_back_until_it_is_full() -> None:
    windows = encode("The film. " * 15).state.windows
    assert [len(window) for window in windows] == [6] * len(windows)
    assert windows[-1] == range(9, 15)


# golden answers


def golden_difference(published: Sequence[float], now: Sequence[float], tolerance: float = 0.02) -> str:
    """What is said of sentences with these logits where the published summary was made of those."""
    expected = json.loads(json.dumps(asdict(summarize(published))))
    encoded = encode()
    outputs = [said(row, [now[i] for i in window]) for row, window in zip(encoded.rows, encoded.state.windows, strict=True)]
    return TASK.golden_difference(encoded, outputs, expected, tolerance)


CHOSEN = [2.0, 1.9, -3.0, -3.0, 1.8]


def test_a_golden_summary_has_the_sentences_and_scores_that_it_had() -> None:
    assert golden_difference(CHOSEN, CHOSEN) == ""
    assert "scores 0.7311, was 0.8808" in golden_difference(CHOSEN, [1.0, 1.9, -3.0, -3.0, 1.8])


def test_a_nearly_tied_sentence_may_be_chosen_in_place_of_another() -> None:
    def chosen(logit: float) -> list[str]:
        return [sentence.text for sentence in summarize([*CHOSEN[:3], logit, CHOSEN[4]]).sentences]

    first = chosen(-3.0)
    near = next(float(logit) for logit in np.arange(-3.0, 9.0, 0.25) if chosen(logit) != first)
    tie = next(float(logit) for logit in np.arange(near - 0.25, 9.0, 0.01) if chosen(logit) != first)
    before, after, far = ([*CHOSEN[:3], logit, CHOSEN[4]] for logit in (tie - 0.02, tie + 0.02, tie + 2.0))
    assert chosen(before[3]) != chosen(after[3])
    assert golden_difference(before, after) == golden_difference(after, before) == ""
    assert golden_difference(before, far).startswith("sentences ")


def test_sentences_may_be_split_otherwise_than_when_a_version_was_published() -> None:
    expected = asdict(summarize(CHOSEN))
    expected["sentences"][0] |= {"text": "film was good.", "start": 4}
    encoded = encode()
    outputs = [said(row, [CHOSEN[i] for i in window]) for row, window in zip(encoded.rows, encoded.state.windows, strict=True)]
    assert TASK.golden_difference(encoded, outputs, expected, 0.02) == ""
    expected["sentences"][0] |= {"start": 999, "end": 1010}
    assert TASK.golden_difference(encoded, outputs, expected, 0.02) != ""


GERMAN = "Am 3. Quartal war es gut. Am Ende nicht."


def test_sentences_end_as_in_the_language_of_the_model_unless_the_options_or_the_item_say_another() -> None:
    german = ExtractiveSummarization(tiny_tokenizer(), language="de")

    def count(task: ExtractiveSummarization, item: SummaryItem, options: SummaryOptions) -> int:
        (encoded,) = task.encode([item], options)
        assert isinstance(encoded, Encoded)
        return len(encoded.state.spans)

    plain, english, own = SummaryItem(GERMAN), SummaryOptions(language="en"), SummaryOptions()
    assert (count(TASK, plain, own), count(german, plain, own)) == (3, 2)
    assert (count(german, plain, english), count(TASK, plain, SummaryOptions(language="de"))) == (3, 2)
    assert count(german, SummaryItem(GERMAN, "de"), english) == 2
