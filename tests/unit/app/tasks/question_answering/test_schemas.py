"""`POST /v1/answer`: what is answered."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from app.tasks.question_answering.task import QuestionAnswering
from tests.support.requests import Service
from tests.support.tiny_model import MAX_TOKENS

CONTEXT = "The film was not bad. It was a very good film."
QUESTION = {"question": "Was the film good?", "context": CONTEXT}


async def answer(service: Service, inputs: object, **options: object) -> Any:
    response = await service.ask("answer", inputs, **options)
    assert response.status_code == 200, response.text
    return response.json()


async def problem(service: Service, inputs: object, status: int, **options: object) -> str:
    response = await service.ask("answer", inputs, **options)
    assert response.status_code == status, response.text
    detail: str = response.json()["detail"]
    return detail


async def test_an_answer_is_a_span_of_the_context_with_its_score(every_task: Service) -> None:
    told = await answer(every_task, QUESTION)
    assert told["model"] == {"name": "question-answering", "version": 1}
    (result,) = told["results"]
    assert list(result) == ["answers", "no_answer_score", "num_tokens", "truncated"]
    (best,) = result["answers"]
    assert list(best) == ["answer", "score", "start", "end"]
    assert best["answer"] == CONTEXT[best["start"] : best["end"]]
    assert best["answer"].startswith("bad")
    assert best["answer"].endswith("good")  # the tiny model begins at "bad" and ends at "good"
    assert 0 < best["score"] <= 1
    assert 0 <= result["no_answer_score"] <= 1
    assert told["usage"]["num_tokens"] == result["num_tokens"]


async def test_a_list_is_answered_in_its_order_and_a_bad_item_fails_alone(every_task: Service) -> None:
    inputs = [QUESTION, {"question": "", "context": "good"}, {"question": "good"}, {"question": "a", "context": "bad good"}]
    first, empty, incomplete, last = (await answer(every_task, inputs))["results"]
    assert first == (await answer(every_task, QUESTION))["results"][0]
    assert empty["error"] == {"type": "invalid_input", "detail": "question: must not be empty"}
    assert "context" in incomplete["error"]["detail"]
    assert last["answers"][0]["answer"] == "bad good"


async def test_several_answers_do_not_overlap(every_task: Service) -> None:
    (result,) = (await answer(every_task, QUESTION, top_k=3, max_answer_tokens=2))["results"]
    found = result["answers"]
    assert len(found) > 1
    assert all(a["end"] <= b["start"] or a["start"] >= b["end"] for i, a in enumerate(found) for b in found[:i])
    assert [match["score"] for match in found] == sorted((match["score"] for match in found), reverse=True)


async def test_a_long_context_is_read_in_windows(every_task: Service) -> None:
    context = "the film was not very . " * 20 + "bad good"
    inputs = {"question": "good", "context": context}
    (read,) = (await answer(every_task, inputs))["results"]
    assert read["answers"][0]["answer"] == "bad good"
    assert read["num_tokens"] > MAX_TOKENS
    assert not read["truncated"]
    (cut,) = (await answer(every_task, inputs, truncation="truncate"))["results"]
    assert cut["truncated"]
    assert cut["num_tokens"] <= MAX_TOKENS
    assert cut["answers"][0]["end"] < context.index("bad")
    (overlapping,) = (await answer(every_task, inputs, stride=10))["results"]
    assert overlapping["num_tokens"] > (await answer(every_task, inputs, stride=0))["results"][0]["num_tokens"]
    assert "tokens" in await problem(every_task, inputs, 413, truncation="error")


async def test_answers_are_whole_words_unless_the_caller_wants_the_models_tokens(every_task: Service) -> None:
    inputs = {"question": "good", "context": "not bad.good"}
    for options in ({}, {"align_to_words": True}):
        (aligned,) = (await answer(every_task, inputs, top_k=9, max_answer_tokens=1, **options))["results"]
        assert {entry["answer"] for entry in aligned["answers"]} == {"not", "bad.good"}
    (exact,) = (await answer(every_task, inputs, top_k=9, max_answer_tokens=1, align_to_words=False))["results"]
    assert {entry["answer"] for entry in exact["answers"]} == {"not", "bad", ".", "good"}


async def test_the_empty_answer_is_given_only_where_it_is_allowed(every_task: Service) -> None:
    (plain,) = (await answer(every_task, {"question": "a", "context": "film"}, top_k=5))["results"]
    (allowed,) = (await answer(every_task, {"question": "a", "context": "film"}, top_k=5, allow_no_answer=True))["results"]
    assert "" not in [entry["answer"] for entry in plain["answers"]]
    (empty,) = [entry for entry in allowed["answers"] if not entry["answer"]]
    assert empty == {"answer": "", "score": allowed["no_answer_score"], "start": 0, "end": 0}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("top_k", 0),
        ("top_k", 101),
        ("top_k", "1"),
        ("max_answer_tokens", 0),
        ("stride", -1),
        ("align_to_words", "no"),
        ("truncation", "cut"),
        ("topk", 1),
    ],
)
async def test_a_wrong_option_is_named(every_task: Service, option: str, value: object) -> None:
    assert option in await problem(every_task, QUESTION, 422, **{option: value})


@pytest.mark.parametrize("inputs", ["good", 3, None, {}, {"question": "good"}, [], {**QUESTION, "text": "x"}])
async def test_inputs_of_another_shape_are_refused(every_task: Service, inputs: object) -> None:
    assert "inputs" in await problem(every_task, inputs, 422)


async def test_an_empty_context_is_named(every_task: Service) -> None:
    assert await problem(every_task, {"question": "good", "context": " "}, 422) == "inputs.context: must not be empty"


async def test_a_model_of_another_task_is_not_asked(every_task: Service) -> None:
    assert "question-answering" in await problem(every_task, QUESTION, 404, model="text-classification")


async def test_many_callers_get_each_their_own_answer(every_task: Service) -> None:
    contexts = ["film " * index + "bad good" for index in range(12)]
    told = await asyncio.gather(*(answer(every_task, {"question": "a", "context": context}) for context in contexts))
    for context, entry in zip(contexts, told, strict=True):
        assert entry["results"][0]["answers"][0]["start"] == context.index("bad")


async def test_a_book_is_decoded_beside_the_event_loop(every_task: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    really = QuestionAnswering.decode

    def watched(self: Any, *arguments: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return really(self, *arguments)

    monkeypatch.setattr(QuestionAnswering, "decode", watched)
    await answer(every_task, QUESTION)
    await answer(every_task, {"question": "a", "context": "film " * 40 * MAX_TOKENS})
    assert threads == [True, False]
