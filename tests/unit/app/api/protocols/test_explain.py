"""`POST /v1/explain`: what is answered."""

from __future__ import annotations

import asyncio
from math import log
from pathlib import Path
from typing import Any

import pytest

from app.tasks.registry import installed_tasks
from tests.support.gated_engine import turn
from tests.support.requests import GatedService, Service, check_problem
from tests.support.tiny_model import publish_tiny_spec
from tests.unit.app.conftest import Start

TEXT = "The film was not bad. A very good film!"
QUESTION = {"question": "Was the film good?", "context": "The film was not bad. It was a very good film."}
KEYS = ["tokens", "target", "score", "base_score", "method", "num_evaluations", "num_tokens", "truncated"]
TASKS = {"text-classification": TEXT, "question-answering": QUESTION, "summarization": TEXT}


async def explain(service: Service, inputs: object, **options: object) -> Any:
    response = await service.ask("explain", inputs, **options)
    assert response.status_code == 200, response.text
    return response.json()


async def problem(service: Service, inputs: object, status: int = 422, **options: object) -> str:
    response = await service.ask("explain", inputs, **options)
    assert response.status_code == status, response.text
    detail: str = response.json()["detail"]
    return detail


def logit(score: float) -> float:
    return log(score / (1 - score))


@pytest.mark.parametrize("task", sorted(TASKS))
async def test_weights_over_the_callers_words_add_up_to_the_score(every_task: Service, task: str) -> None:
    inputs = TASKS[task]
    told = await explain(every_task, inputs, model=task)
    assert told["model"]["name"] == task
    (result,) = told["results"]
    assert list(result) == KEYS
    for entry in result["tokens"]:
        assert list(entry) == ["text", "start", "end", "weight", "field"]
        text = inputs if isinstance(inputs, str) else inputs[entry["field"]]
        assert text[entry["start"] : entry["end"]] == entry["text"]
    total = sum(entry["weight"] for entry in result["tokens"])
    assert total == pytest.approx(logit(result["score"]) - logit(result["base_score"]), abs=1e-3)
    assert any(entry["weight"] for entry in result["tokens"])
    assert told["usage"]["num_tokens"] == result["num_tokens"]
    assert (result["method"], result["truncated"]) == ("shapley", False)


async def test_a_label_has_the_score_that_classify_gives_it(every_task: Service) -> None:
    (told,) = (await every_task.classify(TEXT)).json()["results"]
    (result,) = (await explain(every_task, TEXT))["results"]
    best = told["labels"][0]
    assert (result["target"], result["score"]) == (best["label"], pytest.approx(best["score"], abs=1e-6))
    other = told["labels"][1]
    (result,) = (await explain(every_task, TEXT, target=other["label"]))["results"]
    assert result["score"] == pytest.approx(other["score"], abs=1e-6)


async def test_an_answer_has_the_score_that_answer_gives_it(every_task: Service) -> None:
    (told,) = (await every_task.ask("answer", QUESTION)).json()["results"]
    (result,) = (await explain(every_task, QUESTION))["results"]
    best = told["answers"][0]
    assert (result["target"], result["score"]) == (best["answer"], pytest.approx(best["score"], abs=1e-6))


async def test_a_sentence_that_summarize_chose_can_be_explained(every_task: Service) -> None:
    (told,) = (await every_task.ask("summarize", TEXT)).json()["results"]
    for sentence in told["sentences"]:
        (result,) = (await explain(every_task, TEXT, model="summarization", target=sentence["text"]))["results"]
        assert result["score"] == pytest.approx(sentence["score"], abs=1e-6)


async def test_words_that_speak_for_a_label_weigh_more_than_those_that_speak_against_it(every_task: Service) -> None:
    for method in ("shapley", "occlusion"):
        (result,) = (await explain(every_task, "a bad good film", target="good", method=method))["results"]
        weights = {entry["text"]: entry["weight"] for entry in result["tokens"]}
        assert max(weights, key=lambda word: weights[word]) == "good"
        assert min(weights, key=lambda word: weights[word]) == "bad"
        assert weights["bad"] < 0 < weights["good"]
        assert result["method"] == method


async def test_the_texts_of_a_pair_are_told_apart(every_task: Service) -> None:
    (result,) = (await explain(every_task, {"text": "good film", "text_pair": "bad film"}))["results"]
    assert [(entry["field"], entry["text"], entry["start"]) for entry in result["tokens"]] == [
        ("text", "good", 0), ("text", "film", 5), ("text_pair", "bad", 0), ("text_pair", "film", 4),
    ]  # fmt: skip


async def test_the_shape_of_the_first_item_chooses_the_default_model(every_task: Service) -> None:
    assert (await explain(every_task, TEXT))["model"]["name"] == "text-classification"
    assert (await explain(every_task, [QUESTION]))["model"]["name"] == "question-answering"


async def test_in_a_list_what_cannot_be_explained_fails_alone(every_task: Service) -> None:
    inputs = ["good", " ", 3, QUESTION, "bad", {"text": "good", "text_pair": " "}]
    first, empty, number, question, last, pair = (await explain(every_task, inputs))["results"]
    assert first["target"] == "good"
    assert last["target"] == "bad"
    assert empty["error"] == {"type": "invalid_input", "detail": "text: must not be empty"}
    assert "error" in number
    assert "text-classification" in question["error"]["detail"]
    assert pair["error"]["detail"] == "text_pair: must not be empty"


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ("good", {"target": "happy"}, "target: 'happy' is no label of this model; it knows bad, good"),
        (["good", "bad"], {"target": "happy"}, "target: 'happy' is no label"),
        ("good", {"method": "lime"}, "method: should be 'shapley' or 'occlusion'"),
        (QUESTION, {"target": "films"}, "target: must be words of the context"),
        (TEXT, {"model": "summarization", "target": "good"}, "target: is none of the 2 sentences"),
        ("good", {"language": "de"}, "language: is for documents to sum up"),
        (TEXT, {"model": "summarization", "language": "german"}, "language"),
        ("good", {"target": ""}, "target"),
        ("good", {"budget": -1}, "budget"),
        ("good", {"budget": 10_000_000}, "budget"),
        ("good", {"topk": 1}, "topk"),
        ("good", {"truncation": "cut"}, "truncation"),
        (["good"] * 17, {}, "inputs"),
        ([], {}, "inputs"),
        (3, {}, "inputs"),
        (" ", {}, "inputs: must not be empty"),
        ({"text": " "}, {}, "inputs.text: must not be empty"),
        ("good", {"model": "question-answering"}, "inputs: should be an object with `question` and `context`"),
        (QUESTION, {"model": "summarization"}, "inputs: should be a text"),
        ({"text": "a", "text_pair": "b"}, {"model": "summarization"}, "inputs: should be one text"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(every_task: Service, inputs: object, options: dict[str, Any], words: str) -> None:
    assert words in await problem(every_task, inputs, **options)


async def test_an_unknown_model_is_not_found(every_task: Service) -> None:
    assert "nobody" in await problem(every_task, "good", 404, model="nobody")


async def test_where_no_model_is_loaded_for_the_shape_nobody_is_asked(service: Service) -> None:
    assert "question-answering" in await problem(service, QUESTION, 404)


async def test_a_long_text_is_explained_as_the_caller_wishes(every_task: Service) -> None:
    text = "bad film " * 60 + "good " * 30
    (cut,) = (await explain(every_task, text, target="good", truncation="truncate"))["results"]
    assert cut["truncated"]
    assert cut["tokens"][-1]["end"] < 200
    (read,) = (await explain(every_task, text, target="good"))["results"]
    assert not read["truncated"]
    assert {part["text"] for part in read["tokens"]} == {"good"}
    assert "tokens" in await problem(every_task, text, 413, truncation="error")


async def test_a_smaller_budget_reads_fewer_tokens(every_task: Service) -> None:
    text = "the film was not very good " * 4
    costs = [(await explain(every_task, text, budget=budget))["results"][0]["num_tokens"] for budget in (0, 300, 3000)]
    assert costs == sorted(costs)
    assert costs[0] < 100 < costs[1] < 400 < costs[2]


async def test_a_model_whose_task_has_no_words_to_weigh_says_so(gated_service: GatedService) -> None:
    gated_service.gated.deployment.task = object()  # type: ignore[assignment]
    assert await problem(gated_service, "good", 404) == "'tiny' is for text-classification, which cannot be explained"


# --- beside other requests


async def test_explanations_wait_in_the_bulk_lane(gated_service: GatedService) -> None:
    running = asyncio.ensure_future(gated_service.classify("film"))
    batch = await gated_service.gated.engine.batch()
    explaining = asyncio.ensure_future(gated_service.ask("explain", "a"))
    await gated_service.has_waiting(1)
    interactive = asyncio.ensure_future(gated_service.classify("the film was very very very " * 2))
    await gated_service.has_waiting(2)
    batch.finish()
    batch = await gated_service.gated.engine.batch()
    assert [len(row.input_ids) for row in batch.rows] == [14, 3]
    batch.finish()
    for entry in (running, interactive):
        assert (await entry).status_code == 200
    assert (await gated_service.finish(explaining)).status_code == 200


@pytest.mark.parametrize("route", ["classify", "explain"])
async def test_bulk_requests_are_turned_away_before_interactive_ones(gated_service: GatedService, route: str) -> None:
    running = asyncio.ensure_future(gated_service.classify("film"))
    await gated_service.gated.engine.batch()
    waiting = [asyncio.ensure_future(gated_service.classify("film")) for _ in range(2)]  # of four that may wait
    await gated_service.has_waiting(2)
    refused = await gated_service.ask(route, "good", {"X-Priority": "bulk"})
    check_problem(refused, 429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    urgent = asyncio.ensure_future(gated_service.ask(route, "good", {"X-Priority": "interactive"}))
    await gated_service.has_waiting(3)
    for waiter in (running, *waiting, urgent):
        waiter.cancel()
    await asyncio.gather(running, *waiting, urgent, return_exceptions=True)


@pytest.mark.parametrize("route", ["classify", "explain"])
async def test_an_unknown_priority_is_named(service: Service, route: str) -> None:
    response = await service.ask(route, "good", {"X-Priority": "now"})
    detail = check_problem(response, 422, "invalid_input")
    assert detail == "x-priority: should be 'interactive' or 'bulk'"


async def test_a_deadline_ends_an_explanation_and_takes_its_rows_along(gated_service: GatedService) -> None:
    refused = await gated_service.ask("explain", "a good film", {"X-Request-Timeout-Ms": "20"})  # the engine never answers
    check_problem(refused, 504, "deadline_exceeded")
    await turn()
    assert gated_service.gated.deployment.scheduler.num_waiting_rows == 0


async def test_the_rows_of_a_small_queue_are_asked_for_a_few_at_a_time(gated_service: GatedService) -> None:
    response = await gated_service.finish(gated_service.ask("explain", "a very good film ."))
    assert response.status_code == 200
    assert response.json()["results"][0]["num_evaluations"] > 4


async def test_an_item_on_which_the_engine_fails_fails_alone(gated_service: GatedService) -> None:
    bad = gated_service.gated.deployment.task._tokenizer.token_id("bad")  # type: ignore[attr-defined]
    response = await gated_service.finish(gated_service.ask("explain", ["good", "bad"]), poison=bad)
    good, failed = response.json()["results"]
    assert good["target"]
    assert failed["error"]["type"] == "engine_failed"
    assert "secret" not in response.text


async def test_many_explanations_at_once_get_each_their_own_weights(every_task: Service) -> None:
    texts = ["good " + "film " * number for number in range(12)]
    alone = [(await explain(every_task, text))["results"][0] for text in texts[:3]]
    together = await asyncio.gather(*(explain(every_task, text) for text in texts))
    for text, told in zip(texts, together, strict=True):
        assert [entry["text"] for entry in told["results"][0]["tokens"]] == text.split()
    for entry, told in zip(alone, together, strict=False):
        got = told["results"][0]["tokens"]
        assert [word["weight"] for word in got] == pytest.approx([word["weight"] for word in entry["tokens"]], abs=1e-4)


async def test_a_sentence_of_a_document_is_explained_as_its_language_has_it(every_task: Service) -> None:
    told = await explain(every_task, "Am 3. Quartal.", model="summarization", target="Am 3. Quartal.", language="de")
    assert told["results"][0]["target"] == "Am 3. Quartal."


async def test_a_task_that_answers_a_route_by_items_of_its_own_explains_none_of_the_routes(
    tmp_path: Path, start: Start
) -> None:
    """Embedding models rank documents by their vectors, and have no pairs to explain."""
    publish_tiny_spec(tmp_path, installed_tasks()["feature-extraction"])
    async with start(models=tmp_path) as service:
        response = await service.client.post("/v1/explain", json={"inputs": {"query": "good", "document": "a film"}})
    assert response.status_code == 404
    assert response.json()["detail"].startswith("no loaded model does text-ranking")
