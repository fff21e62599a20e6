"""Questions and answers in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.question_answering.protocols import CORRECTION, HUGGING_FACE, NATIVE, OPEN_INFERENCE, AnsweredQuestion
from app.tasks.question_answering.schemas import MAX_TOP_K, Question
from app.tasks.question_answering.task import Answer, AnswerOptions, Answers, QuestionItem

CONTEXT = "Ann met Bob, and Bob met Ann."
ITEM = QuestionItem("Who?", CONTEXT)
NONE_SENT = dict.fromkeys(HUGGING_FACE.parameters)


def result(*spans: Answer, no_answer: float = 0.1) -> Result:
    return Result(Answers(spans, no_answer), 9, False)


def gold(answer: str, start: int | None = None) -> Any:
    sent = AnsweredQuestion(question="Who?", context=CONTEXT, answer=answer, start=start)
    return CORRECTION.gold(sent, ITEM, False, {})


def test_a_question_with_its_context_is_an_item_and_a_text_is_none() -> None:
    assert NATIVE.item(Question(question="Who?", context=CONTEXT)) == ITEM
    assert isinstance(NATIVE.item("Who?"), InvalidInput)
    assert HUGGING_FACE.item("Who?") is None


def test_parameters_that_are_not_sent_leave_the_defaults() -> None:
    assert HUGGING_FACE.options(SimpleNamespace(**NONE_SENT)) == AnswerOptions()


def test_hugging_faces_parameters_are_the_tasks_options() -> None:
    sent = NONE_SENT | {"top_k": 3, "max_answer_len": 5, "doc_stride": 7, "max_seq_len": 99, "handle_impossible_answer": True}
    options = HUGGING_FACE.options(SimpleNamespace(**sent))
    assert (options.top_k, options.max_answer_tokens, options.stride) == (3, 5, 7)
    assert (options.max_window_tokens, options.allow_no_answer) == (99, True)


def test_more_answers_than_are_given_are_refused_by_the_parameters_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        HUGGING_FACE.options(SimpleNamespace(**NONE_SENT | {"top_k": MAX_TOP_K + 1}))
    assert caught.value.field == "parameters.top_k"


@pytest.mark.parametrize(("top_k", "is_list"), [(None, False), (1, False), (2, True)])
def test_the_hubs_clients_get_one_answer_out_of_its_list(top_k: int | None, is_list: bool) -> None:
    answer = HUGGING_FACE.answer(result(Answer("Ann", 0.9, 0, 3)))
    shaped = HUGGING_FACE.for_hub_client(answer, SimpleNamespace(top_k=top_k))
    assert isinstance(shaped, list) == is_list
    assert HUGGING_FACE.for_hub_client(answer, None) == answer[0]
    assert HUGGING_FACE.for_hub_client([], None) == []


def test_tensors_hold_the_best_span_and_an_empty_one_where_there_is_none() -> None:
    columns, shape = OPEN_INFERENCE.columns([result(Answer("Bob", 0.9, 8, 11), Answer("Ann", 0.1, 0, 3)), result()])
    assert shape == [2]
    assert columns == {"answer": ["Bob", ""], "score": [0.9, 0.0], "start": [8, 0], "end": [11, 0]}
    assert OPEN_INFERENCE.items({"question": ["Who?"], "context": [CONTEXT]}) == [ITEM]


def test_a_correction_finds_its_place_in_the_context() -> None:
    assert gold("and") == {"answer": "and", "start": 13}
    assert gold("Ann", 25) == {"answer": "Ann", "start": 25}
    assert gold("", 5) == {"answer": "", "start": 0}


@pytest.mark.parametrize(
    ("answer", "start", "reason"),
    [
        ("Eve", None, "does not stand in the context"),
        ("Ann", 1, "does not stand in the context at 1"),
        ("Ann", 10_000, "does not stand in the context at 10000"),
        ("Ann", None, "more than once"),
        (" ", None, "must not be empty"),
    ],
)
def test_a_correction_that_has_no_single_place_is_refused(answer: str, start: int | None, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        gold(answer, start)
    assert caught.value.field == "answer"


@pytest.mark.parametrize(
    ("spans", "no_answer", "right", "agrees"),
    [
        ((Answer("Bob", 0.9, 8, 11),), 0.1, "Bob", True),
        ((Answer("Bob", 0.9, 8, 11),), 0.1, "Ann", False),
        ((Answer("Bob", 0.4, 8, 11),), 0.6, "", True),
        ((Answer("Bob", 0.6, 8, 11),), 0.4, "", False),
        ((), 0.0, "", True),
        ((), 0.0, "Bob", False),
    ],
)
def test_an_answer_agrees_with_what_is_right(spans: Any, no_answer: float, right: str, agrees: bool) -> None:
    correction = AnsweredQuestion(question="Who?", context=CONTEXT, answer=right)
    assert CORRECTION.agrees(result(*spans, no_answer=no_answer).answer, correction) is agrees


def test_a_correction_becomes_a_row_in_the_form_of_squad() -> None:
    row = CORRECTION.training_row({"question": "Who?", "context": CONTEXT}, {"answer": "and", "start": 13})
    assert row["answers"] == {"text": ["and"], "answer_start": [13]}
    assert CORRECTION.training_row({}, {"answer": "", "start": 0})["answers"] == {"text": [], "answer_start": []}
