"""A question and a text in, spans of that text out: in the caller's own characters, however long or strange the text is."""

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
from app.tasks.base import Encoded
from app.tasks.platt import PlattScaling
from app.tasks.question_answering.task import (
    AnswerOptions,
    QuestionAnswering,
    QuestionItem,
    probabilities,
)
from tests.support.question_spans import CONTEXT, LOW, PARTS, QUESTION, STRANGE, TASK, ask, encode, outputs, place, refusal
from tests.support.tiny_model import MAX_TOKENS, VOCABULARY, tiny_tokenizer


def test_an_item_is_as_long_as_question_and_context_together() -> None:
    assert len(QuestionItem("who?", "me.")) == 7


# encode


def test_a_question_takes_at_most_half_of_a_window_and_the_cut_is_told() -> None:
    encoded = encode("the film was good .", question="was " * 100)
    assert encoded.truncated
    assert TASK.max_question_tokens == (MAX_TOKENS - 3) // 2
    assert list(encoded.rows[0].input_ids).count(VOCABULARY["was"]) == TASK.max_question_tokens + 1
    assert isinstance(refusal(question="was " * 100, truncation="error"), TooLarge)


def test_windows_may_be_shorter_than_the_model_reads_and_never_longer() -> None:
    short = encode("good bad " * 40, max_window_tokens=20)
    assert max(row.num_tokens for row in short.rows) == 20
    assert len(short.rows) > len(encode("good bad " * 40).rows)
    assert len(encode("good bad " * 40, max_window_tokens=10_000).rows) == len(encode("good bad " * 40).rows)


def test_a_long_question_beside_a_long_context_costs_no_more_than_both() -> None:
    encoded = encode(context="good film . " * 400, question="bad " * 400, truncation="window")
    assert len(encoded.rows) > 50
    assert {row.num_tokens for row in encoded.rows[:-1]} == {MAX_TOKENS}


def test_a_question_may_be_cut_shorter_than_half_of_a_window_and_is_never_left_longer() -> None:
    encoded = encode("the film was good .", question="was " * 10, max_question_tokens=4)
    assert encoded.truncated
    assert list(encoded.rows[0].input_ids).count(VOCABULARY["was"]) == 4 + 1
    assert not encode("the film was good .", question="was " * 4, max_question_tokens=4).truncated
    more = encode("the film was good .", question="was " * 100, max_question_tokens=1000)
    assert list(more.rows[0].input_ids).count(VOCABULARY["was"]) == TASK.max_question_tokens + 1


@pytest.mark.parametrize("text", ["", " \n\t", "good \ud800"])
def test_what_holds_nothing_is_refused_by_the_name_of_its_field(text: str) -> None:
    for field in ("question", "context"):
        error = refusal(**{field: text})
        assert isinstance(error, InvalidInput)
        assert error.field == field


def test_a_bad_item_fails_alone() -> None:
    items = [QuestionItem("", "a"), QuestionItem(QUESTION, CONTEXT), QuestionItem("good", " ")]
    first, second, third = TASK.encode(items, AnswerOptions())
    assert isinstance(first, InvalidInput)
    assert isinstance(second, Encoded)
    assert isinstance(third, InvalidInput)
    assert second.rows[0].input_ids == encode().rows[0].input_ids


# decode


def test_the_likeliest_span_is_the_answer_in_the_callers_characters() -> None:
    answers = ask([(*place("very good"), 9.0), (*place("bad film"), 5.0)])
    (best,) = answers.answers
    assert (best.answer, best.start, best.end) == ("very good", *place("very good"))
    assert best.score == pytest.approx(1.0, abs=0.05)


def test_a_span_is_widened_to_whole_words() -> None:
    context = "the films was good"
    encoded = encode(context)
    (output,) = outputs(encoded, [])
    tokens = list(encoded.rows[0].input_ids)
    first, last = len(tokens) - 1 - tokens[::-1].index(VOCABULARY["##s"]), tokens.index(VOCABULARY["good"], 7)
    output["logits"][first, 0] = output["logits"][last, 1] = 9.0
    (best,) = TASK.decode(encoded, [output], AnswerOptions()).answers
    assert best.answer == "films was good"


def test_spans_that_read_the_same_add_up() -> None:
    context = "film . bad . film"
    last = (context.rindex("film"), len(context))
    answers = ask([(0, 4, 4.0), (*place("bad", context), 4.3), (*last, 4.0)], context, null=LOW, max_answer_tokens=1)
    (best,) = answers.answers
    assert best.answer == "film"
    share = np.exp(4.0) / (2 * np.exp(4.0) + np.exp(4.3))
    assert best.score == pytest.approx(2 * share**2, rel=1e-3)


def test_a_span_in_two_windows_counts_once() -> None:
    context = "good " * 12 + "bad " + "good " * 12
    assert len(encode(context, stride=12).rows) > 1
    once = ask([(*place("bad", context), 3.0)], context, stride=0)
    twice = ask([(*place("bad", context), 3.0)], context, stride=12)
    assert once.answers[0].answer == twice.answers[0].answer == "bad"
    assert twice.answers[0].score == pytest.approx(once.answers[0].score, rel=1e-3)
    assert twice.answers[0].score <= 1


def test_a_window_that_says_not_here_does_not_outvote_one_that_answers() -> None:
    context = "film " * 30 + "very bad"
    answers = ask([(*place("very bad", context), 8.0), (0, 4, 1.0)], context, null=3.0)
    assert answers.answers[0].answer == "very bad"
    assert answers.no_answer_score < 0.1


def test_several_answers_come_best_first_and_do_not_overlap() -> None:
    spans = [(*place("very good"), 9.0), (*place("good"), 8.0), (*place("bad film"), 7.0), (*place("not"), 6.0)]
    found = ask(spans, top_k=4).answers
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    for index, match in enumerate(found):
        assert CONTEXT[match.start : match.end] == match.answer
        assert all(match.end <= other.start or match.start >= other.end for other in found[:index])
    assert [match.answer for match in found[:2]] == ["very good", "bad film"]


def test_there_may_be_fewer_answers_than_wished() -> None:
    assert 1 <= len(ask([(0, 4, 5.0)], "film", top_k=50).answers) <= 2


def test_an_answer_has_at_most_so_many_tokens() -> None:
    longest = (CONTEXT.index("film"), CONTEXT.index("film was not"))
    for limit in (1, 2, 5):
        (best,) = ask([(*longest, 9.0)], max_answer_tokens=limit).answers
        assert len(best.answer.split()) <= limit


def test_the_empty_answer_competes_only_where_the_caller_allows_it() -> None:
    spans = [(*place("very good"), 1.0)]
    told = ask(spans, null=6.0)
    assert told.answers[0].answer == "very good"
    assert told.no_answer_score > 0.9
    allowed = ask(spans, null=6.0, allow_no_answer=True, top_k=2)
    assert (allowed.answers[0].answer, allowed.answers[0].start, allowed.answers[0].end) == ("", 0, 0)
    assert allowed.answers[0].score == allowed.no_answer_score
    assert allowed.answers[1].answer == "very good"
    unlikely = ask(spans, null=-6.0, allow_no_answer=True)
    assert unlikely.answers[0].answer == "very good"


def test_temperature_changes_the_score_and_not_the_answer() -> None:
    encoded = encode()
    logits = outputs(encoded, [(*place("very good"), 6.0), (*place("bad film"), 5.0)])
    cold = QuestionAnswering(tiny_tokenizer()).decode(encoded, logits, AnswerOptions()).answers[0]
    warm = QuestionAnswering(tiny_tokenizer(), temperature=3.0).decode(encoded, logits, AnswerOptions()).answers[0]
    assert warm.answer == cold.answer
    assert warm.score < cold.score


def test_answers_and_none_have_a_line_of_their_own_on_which_they_compete() -> None:
    options = AnswerOptions(top_k=2, allow_no_answer=True)
    encoded = encode()
    logits = outputs(encoded, [(*place("very good"), 6.0), (*place("bad film"), 5.0)], null=2.0)
    plain = QuestionAnswering(tiny_tokenizer()).decode(encoded, logits, AnswerOptions(top_k=2))
    lines = {"score_slope": 0.5, "score_intercept": -1.0, "no_answer_slope": 0.4, "no_answer_intercept": 3.0}
    scaled = QuestionAnswering(tiny_tokenizer(), **lines)
    told = scaled.decode(encoded, logits, AnswerOptions(top_k=2))
    best, other = (answer.score for answer in plain.answers)
    scaled_best = float(PlattScaling(0.5, -1.0)(best))
    assert [answer.score for answer in told.answers] == pytest.approx([scaled_best, scaled_best * other / best])
    assert (
        [answer.answer for answer in told.answers] == [answer.answer for answer in plain.answers] == ["very good", "bad film"]
    )
    assert told.no_answer_score == pytest.approx(float(PlattScaling(0.4, 3.0)(plain.no_answer_score)))
    assert [answer.answer for answer in scaled.decode(encoded, logits, options).answers] == ["", "very good"]
    assert QuestionAnswering(tiny_tokenizer()).decode(encoded, logits, options).answers[0].answer == "very good"


def test_a_golden_answer_is_judged_by_its_score_before_it_was_scaled() -> None:
    steep = QuestionAnswering(tiny_tokenizer(), score_slope=6.0, score_intercept=5.5, no_answer_slope=2.0)
    encoded = encode()

    def said(logit: float) -> list[dict[str, np.ndarray]]:
        return outputs(encoded, [(*place("very good"), logit), (*place("bad film"), 3.0)], null=1.0)

    golden = json.loads(json.dumps(asdict(steep.decode(encoded, said(3.2), AnswerOptions()))))
    near = steep.decode(encoded, said(3.3), AnswerOptions())
    assert abs(near.answers[0].score - golden["answers"][0]["score"]) > 0.05
    assert steep.golden_difference(encoded, said(3.3), golden, 0.05) == ""
    assert "scored" in steep.golden_difference(encoded, said(4.0), golden, 0.05)


def test_probabilities_are_those_of_the_softmax_over_context_and_first_token() -> None:
    logits = np.array([[1.0, 0.0], [50.0, 50.0], [2.0, 1.0], [0.5, 3.0]], np.float32)
    said = probabilities(logits, 2, 2, 1.0)
    starts, ends = np.exp([1.0, 2.0, 0.5]), np.exp([0.0, 1.0, 3.0])
    np.testing.assert_allclose(said.start, starts[1:] / starts.sum())
    np.testing.assert_allclose(said.end, ends[1:] / ends.sum())
    assert said.no_answer == pytest.approx(starts[0] / starts.sum() * ends[0] / ends.sum())


@pytest.mark.parametrize(
    "word", ["🙂", "电", "bad", "ba\u0308d", "e\u0301", "not ba\u0308d", "good\r\nnot", "film\twas", "¿no?"]
)
def test_offsets_are_the_callers_own_in_a_strange_text(word: str) -> None:
    context = STRANGE if word != "bad" else STRANGE.replace("ba\u0308d", "bad")
    (best,) = ask([(*place(word, context), 9.0)], context).answers
    assert context[best.start : best.end] == best.answer
    assert word in best.answer
    assert best.score > 0.5


def test_an_answer_does_not_tear_a_character_apart() -> None:
    family = "👩\u200d👩\u200d👧"
    for context in (f"very {family} good", "very e\u0301\u0301 good", "very 👍🏽 good", "very ❤\ufe0f good"):
        shown = context.split()[1]
        (best,) = ask([(5, 6, 9.0)], context).answers
        assert best.answer == shown


@given(
    context=st.lists(PARTS, min_size=1).map("".join),
    seed=st.integers(0, 2**16),
    top_k=st.integers(1, 8),
    stride=st.integers(0, 20),
)
def test_whatever_the_model_says_an_answer_is_a_piece_of_the_context(context: str, seed: int, top_k: int, stride: int) -> None:
    options = AnswerOptions(top_k=top_k, stride=stride, allow_no_answer=bool(seed % 2))
    (encoded,) = TASK.encode([QuestionItem("good", context)], options)
    if isinstance(encoded, HooperError):
        assert not context.strip()
        return
    random = np.random.default_rng(seed)
    logits = [{"logits": random.normal(0, 5, (row.num_tokens, 2)).astype(np.float32)} for row in encoded.rows]
    answers = TASK.decode(encoded, logits, options)
    assert len(answers.answers) <= top_k
    assert 0 <= answers.no_answer_score <= 1
    for answer in answers.answers:
        assert context[answer.start : answer.end] == answer.answer
        assert 0 <= answer.score <= 1 + 1e-9
        assert answer.answer.strip() == answer.answer


def test_a_context_of_a_lone_mark_breaks_nothing() -> None:
    encoded = encode("\u0301")
    answers = TASK.decode(encoded, outputs(encoded, []), AnswerOptions(allow_no_answer=True))
    assert all("\u0301"[answer.start : answer.end] == answer.answer for answer in answers.answers)
    assert answers.answers


def test_an_answer_is_cut_within_a_word_only_where_the_caller_wants_it() -> None:
    context = "it was good,bad 电影 e\u0301"
    for part, whole in (("good", "good,bad"), ("电", "电"), ("e", "e\u0301")):
        assert ask([(*place(part, context), 9.0)], context).answers[0].answer == whole
        kept = part if part != "e" else "e\u0301"
        assert ask([(*place(part, context), 9.0)], context, align_to_words=False).answers[0].answer == kept


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_span_of_one_token_too_many_is_no_answer(limit: int) -> None:
    words = "very good bad film"
    exact = " ".join(words.split()[:limit])
    too_long = " ".join(words.split()[: limit + 1])
    assert ask([(*place(exact, words), 9.0)], words, max_answer_tokens=limit).answers[0].answer == exact
    assert ask([(*place(too_long, words), 9.0)], words, max_answer_tokens=limit).answers[0].answer != too_long


def test_a_further_answer_is_found_behind_a_hundred_overlapping_ones() -> None:
    context = "the a film very good was not bad the a film very good was not bad . . . bad"
    encoded = encode(context, question="a")
    (output,) = outputs(encoded, [(len(context) - 3, len(context), 0.5)], null=LOW)
    first = encoded.state.first_context
    output["logits"][first : first + 8, 0] = 5.0
    output["logits"][first + 8 : first + 16, 1] = 5.0
    best, second = TASK.decode(encoded, [output], AnswerOptions(top_k=2)).answers
    assert best.end > best.start
    assert (second.start, second.end) == (len(context) - 3, len(context))


def test_a_span_that_ends_within_a_word_takes_the_rest_of_it() -> None:
    context = "good films"
    encoded = encode(context)
    (output,) = outputs(encoded, [])
    tokens = list(encoded.rows[0].input_ids)
    last = len(tokens) - 1 - tokens[::-1].index(VOCABULARY["film"])
    output["logits"][last - 1, 0] = output["logits"][last, 1] = 9.0
    (best,) = TASK.decode(encoded, [output], AnswerOptions()).answers
    assert best.answer == "good films"


# golden answers


def golden_difference(
    published: Sequence[tuple[int, int, float]], now: Sequence[tuple[int, int, float]], null: float = 0.0, **changes: Any
) -> str:
    """What is said of these spans where the published answer was read from those, with this of it changed since."""
    answers = asdict(ask(published))
    answers["answers"][0] |= changes
    encoded = encode()
    return TASK.golden_difference(encoded, outputs(encoded, now, null), json.loads(json.dumps(answers)), 0.02)


GOOD, FILM, VERY = place("good"), place("film"), place("very")


def test_a_golden_answer_is_the_same_where_it_stands_and_scores_as_it_did() -> None:
    assert golden_difference([(*GOOD, 3.0)], [(*GOOD, 3.0)]) == ""
    assert "'good' scored" in golden_difference([(*GOOD, 3.0)], [(*FILM, 3.0)])
    assert "no_answer_score is" in golden_difference([(*GOOD, 3.0)], [(*GOOD, 3.0)], null=2.5)
    for by in (-0.05, 0.05):
        score = ask([(*GOOD, 3.0)]).answers[0].score + by
        assert "'good' scored" in golden_difference([(*GOOD, 3.0)], [(*GOOD, 3.0)], score=score)


def test_nearly_tied_golden_answers_may_change_places() -> None:
    assert golden_difference([(*GOOD, 3.0), (*FILM, 2.99)], [(*GOOD, 2.99), (*FILM, 3.0)]) == ""
    assert golden_difference([(*GOOD, 3.0), (*FILM, 2.5)], [(*GOOD, 2.5), (*FILM, 3.0)]) != ""


def test_a_golden_answer_that_was_cut_inside_a_word_is_the_whole_word_now() -> None:
    cut = {"answer": "goo", "end": GOOD[1] - 1}
    assert golden_difference([(*GOOD, 3.0)], [(*GOOD, 3.0)], **cut) == ""
    score = ask([(*GOOD, 3.0)]).answers[0].score
    assert golden_difference([(*GOOD, 3.0)], [(*GOOD, 3.0)], **cut, score=score - 0.1) == ""  # more spans read so now
    assert golden_difference([(*GOOD, 3.0)], [(*GOOD, 3.0)], **cut, score=score + 0.1) != ""


def test_a_golden_request_without_an_answer_has_none_now() -> None:
    encoded = encode()
    expected = {"answers": [], "no_answer_score": 1.0}
    assert TASK.golden_difference(encoded, outputs(encoded, [], null=30.0), expected, 0.02) == ""
    sure = outputs(encoded, [(*GOOD, 3.0)], null=3.0)
    assert TASK.golden_difference(encoded, sure, expected | {"no_answer_score": 0.25}, 0.02).startswith("there was no answer")
