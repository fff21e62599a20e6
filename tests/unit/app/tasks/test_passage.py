"""Passages: the caller's own words, hidden or shown, and the log-odds of a target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.core.errors import HooperError, InvalidInput
from app.core.types import RowOutput
from app.tasks.base import Encoded
from app.tasks.extractive_summarization.task import ExtractiveSummarization, SummaryItem, SummaryOptions
from app.tasks.passage import Passage, mask_of
from app.tasks.question_answering.task import AnswerOptions, QuestionAnswering, QuestionItem
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification, log_odds
from tests.support.tiny_model import VOCABULARY, logits_of, tiny_tokenizer

HARD = [
    "The\tfilm\r\nwas good.",
    "The 🙂👩\u200d👩\u200d👧 film",
    "Cafe\u0301 film",
    "好 film。good",
    "it isn't\u00a0good",
    "🙂good films",
    "good\x00 film",
]


def classified(item: ClassificationItem, target: str | None = None, **options: Any) -> Passage:
    task = TextClassification(tiny_tokenizer(), ["bad", "good"])
    encoded = only(task.encode([item], ClassificationOptions(**options)))
    return task.passage(item, encoded, [{"logits": logits_of(row)} for row in encoded.rows], target)


def only(encoded: list[Encoded | HooperError]) -> Encoded:
    (one,) = encoded
    assert isinstance(one, Encoded)
    return one


def keep(passage: Passage, *texts: str) -> np.ndarray:
    return np.array([word.text in texts for word in passage.words])


@pytest.mark.parametrize("text", HARD)
def test_words_are_the_callers_own_characters(text: str) -> None:
    found = classified(ClassificationItem(text)).words
    assert [text[match.start : match.end] for match in found] == [match.text for match in found]
    assert all(match.field == "text" and match.positions for match in found)
    positions = [position for match in found for position in match.positions]
    assert positions == sorted(set(positions))


def test_every_token_but_the_special_ones_belongs_to_a_word() -> None:
    passage = classified(ClassificationItem("The films was not very good."))
    assert [position for word in passage.words for position in word.positions] == list(range(1, passage.row.num_tokens - 1))
    assert [word.text for word in passage.words if len(word.positions) > 1] == ["films"]


def test_the_words_of_a_pair_name_the_text_they_stand_in() -> None:
    passage = classified(ClassificationItem("a good film", "bad film"))
    assert [(word.field, word.text, word.start) for word in passage.words] == [
        ("text", "a", 0), ("text", "good", 2), ("text", "film", 7), ("text_pair", "bad", 0), ("text_pair", "film", 4),
    ]  # fmt: skip
    assert [word.gap for word in passage.words][:3] == [0, 0, 3]


def test_words_beyond_what_the_model_reads_have_no_weight_to_get() -> None:
    passage = classified(ClassificationItem("good film " * 40))
    assert len(passage.words) == passage.row.num_tokens - 2


def test_hidden_words_are_left_out_and_special_tokens_stay() -> None:
    passage = classified(ClassificationItem("the good films"))
    assert passage.without(np.ones(3, bool)) == passage.row
    row = passage.without(keep(passage, "films"))
    assert row.input_ids == [VOCABULARY[token] for token in ("[CLS]", "film", "##s", "[SEP]")]
    assert passage.without(np.zeros(3, bool)).num_tokens == passage.overhead == 2


def test_the_types_of_a_pair_stay_with_their_tokens() -> None:
    passage = classified(ClassificationItem("good film", "bad"))
    row = passage.without(keep(passage, "film", "bad"))
    assert row.token_type_ids == [0, 0, 0, 1, 1]


def test_the_best_label_is_explained_unless_another_is_wished() -> None:
    item = ClassificationItem("a good film")
    assert classified(item).target == "good"
    passage = classified(item, "bad")
    assert passage.target == "bad"
    assert passage.log_odds({"logits": np.array([1.0, 3.0], np.float32)}) == -2


def test_an_unknown_label_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidInput, match="target: 'happy' is no label of this model; it knows bad, good"):
        classified(ClassificationItem("good"), "happy")


def test_of_a_long_text_the_window_is_explained_that_speaks_most_for_the_target() -> None:
    text = "bad " * 60 + "good " * 60
    cut, read = (classified(ClassificationItem(text), "good", truncation=how) for how in ("truncate", "window"))
    assert {word.text for word in cut.words} == {"bad"}
    assert {word.text for word in read.words} == {"good"}
    assert all(text[word.start : word.end] == word.text for word in read.words)


def test_log_odds_are_those_of_the_score_and_do_not_saturate() -> None:
    logits = np.array([1.0, -2.0, 0.5], np.float32)
    scores = np.exp(logits) / np.exp(logits).sum()
    assert log_odds(logits, 0, "softmax") == pytest.approx(np.log(scores[0] / (1 - scores[0])), abs=1e-6)
    assert log_odds(np.array([900.0, -900.0], np.float32), 0, "softmax") == 1800
    assert log_odds(logits, 1, "sigmoid") == -2


# --- answers

CONTEXT = "A film was bad. The film was very good."


def answered(
    target: str | None = None, context: str = CONTEXT, question: str = "Was the film good?"
) -> tuple[QuestionAnswering, Passage, Any]:
    task = QuestionAnswering(tiny_tokenizer())
    item = QuestionItem(question, context)
    encoded = only(task.encode([item], AnswerOptions()))
    outputs: list[RowOutput] = [{"logits": spread(row)} for row in encoded.rows]
    passage = task.passage(item, encoded, outputs, target)
    return task, passage, task.decode(encoded, outputs, AnswerOptions()).answers[0]


def spread(row: Any) -> np.ndarray:
    """Logits (tokens, 2): answers begin at "bad" and end at "good"."""
    ids = np.array(row.input_ids)
    return np.stack([6.0 * (ids == VOCABULARY["bad"]), 6.0 * (ids == VOCABULARY["good"])], 1).astype(np.float32)


def test_an_answer_has_the_score_that_it_is_given_when_it_is_asked_for() -> None:
    _, passage, best = answered()
    assert passage.target == best.answer
    score = 1 / (1 + np.exp(-passage.log_odds({"logits": spread(passage.row)})))
    assert score == pytest.approx(best.score, abs=1e-6)


def test_the_words_of_question_and_context_are_weighed() -> None:
    _, passage, _ = answered()
    assert [word.text for word in passage.words if word.field == "question"] == ["Was", "the", "film", "good", "?"]
    assert [CONTEXT[word.start : word.end] for word in passage.words if word.field == "context"] == [
        "A", "film", "was", "bad", ".", "The", "film", "was", "very", "good", ".",
    ]  # fmt: skip


def test_masked_words_leave_every_other_token_in_its_place() -> None:
    _, passage, _ = answered()
    row = passage.without(keep(passage, "film"))
    assert row.num_tokens == passage.row.num_tokens
    assert row.token_type_ids == passage.row.token_type_ids
    shown = {VOCABULARY["[CLS]"], VOCABULARY["[SEP]"], VOCABULARY["film"], VOCABULARY["[UNK]"]}
    assert set(row.input_ids) == shown


def test_another_answer_may_be_explained_as_long_as_it_stands_in_the_context() -> None:
    _, passage, _ = answered("film was very")
    assert passage.target == "film was very"
    assert passage.log_odds({"logits": spread(passage.row)}) < -5
    for unknown in ("films", "The film was very bad", " "):
        with pytest.raises(InvalidInput, match="target"):
            answered(unknown)


def test_an_answer_far_into_a_long_context_is_explained_where_it_stands() -> None:
    context = "the film was not very . " * 20 + "bad good"
    _, passage, _ = answered(context=context, question="good")
    assert passage.target == "bad good"
    last = [word for word in passage.words if word.field == "context"][-1]
    assert (last.text, last.end) == ("good", len(context))


def test_an_answer_that_stands_in_several_windows_is_explained_where_it_is_likeliest() -> None:
    task = QuestionAnswering(tiny_tokenizer())
    item = QuestionItem("good", "bad film good . " * 20)
    encoded = only(task.encode([item], AnswerOptions()))
    flat = [{"logits": np.zeros((row.num_tokens, 2), np.float32)} for row in encoded.rows]
    passage = task.passage(item, encoded, [*flat[:-1], {"logits": spread(encoded.rows[-1])}], "bad film good")
    assert passage.row is encoded.rows[-1]


# --- sentences

TEXT = "The film was bad. A very good film! Not\tgood,\r\nnot bad."


def summed_up(target: str | None = None, text: str = TEXT) -> Passage:
    task = ExtractiveSummarization(tiny_tokenizer())
    item = SummaryItem(text)
    encoded = only(task.encode([item], SummaryOptions()))
    outputs = [{"logits": np.arange(row.num_tokens, dtype=np.float32)[:, None]} for row in encoded.rows]
    return task.passage(item, encoded, outputs, target)


def test_the_best_sentence_is_explained_unless_another_is_wished() -> None:
    assert summed_up().target.endswith("not bad.")
    passage = summed_up("A very good film!")
    starts = passage.row.output_positions
    logits = np.repeat([4.0, 5.0, 6.0], np.diff(starts, append=passage.row.num_tokens))
    logits[starts[1]] += passage.row.output_positions[2] - starts[1]  # the mean of all of its tokens counts
    assert passage.log_odds({"logits": logits.astype(np.float32)[:, None]}) == 6


def test_the_words_of_all_sentences_of_the_row_are_weighed_in_the_callers_characters() -> None:
    found = summed_up().words
    assert " ".join(match.text for match in found) == "The film was bad . A very good film ! Not good , not bad ."
    assert [TEXT[match.start : match.end] for match in found] == [match.text for match in found]


def test_each_sentence_keeps_its_place_when_words_are_hidden() -> None:
    passage = summed_up()
    row = passage.without(keep(passage, "very"))
    assert (row.num_tokens, row.output_positions) == (passage.row.num_tokens, passage.row.output_positions)
    kept = {entry for entry in row.input_ids if entry not in (VOCABULARY["[SEP]"], VOCABULARY["[CLS]"])}
    assert kept == {VOCABULARY["very"], mask_of(tiny_tokenizer())}


def test_what_is_no_sentence_of_the_text_is_refused_with_some_that_are() -> None:
    with pytest.raises(InvalidInput, match=r"target: is none of the 3 sentences .* 'The film was bad.'"):
        summed_up("good film")
