"""`POST /v1/classify`: what is answered."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.support.requests import GatedService, Service
from tests.support.tiny_model import MAX_TOKENS, VOCABULARY, logits_of, row


def labels_of(result: dict[str, object]) -> list[str]:
    return [entry["label"] for entry in result["labels"]]  # type: ignore[attr-defined,index]


async def test_a_text_gets_its_labels_best_first(service: Service) -> None:
    response = await service.classify("good film")
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == ["model", "results", "usage"]
    assert answer["model"] == {"name": "tiny", "version": 1}
    assert answer["usage"] == {"num_tokens": 4}
    (result,) = answer["results"]
    assert list(result) == ["labels", "num_tokens", "truncated"]
    assert labels_of(result) == ["good", "bad"]
    assert (result["num_tokens"], result["truncated"]) == (4, False)


async def test_scores_are_those_of_the_model(service: Service) -> None:
    (result,) = (await service.classify("good", activation="none")).json()["results"]
    bad, good = logits_of(row(2, 11, 3))
    assert {entry["label"]: pytest.approx(entry["score"], abs=1e-4) for entry in result["labels"]} == {"good": good, "bad": bad}


async def test_a_list_is_answered_in_its_order(service: Service) -> None:
    texts = ["good", "bad", "bad film", "good film", {"text": "bad"}]
    response = await service.classify(texts, top_k=1)
    results = response.json()["results"]
    assert [labels_of(result) for result in results] == [["good"], ["bad"], ["bad"], ["good"], ["bad"]]
    assert response.json()["usage"]["num_tokens"] == sum(result["num_tokens"] for result in results)


async def test_a_list_of_one_and_a_text_are_answered_alike(service: Service) -> None:
    assert (await service.classify(["good"])).json() == (await service.classify("good")).json()


async def test_a_pair_is_read_as_one_input(service: Service) -> None:
    (alone,) = (await service.classify({"text": "good"})).json()["results"]
    (pair,) = (await service.classify({"text": "good", "text_pair": "film"})).json()["results"]
    assert (alone["num_tokens"], pair["num_tokens"]) == (3, 5)


@pytest.mark.parametrize("activation", ["softmax", None])
async def test_softmax_scores_add_up_to_one(service: Service, activation: str | None) -> None:
    (result,) = (await service.classify("good", activation=activation)).json()["results"]
    assert sum(entry["score"] for entry in result["labels"]) == pytest.approx(1.0)


async def test_sigmoid_scores_stand_alone(service: Service) -> None:
    (result,) = (await service.classify("good bad", activation="sigmoid")).json()["results"]
    assert sum(entry["score"] for entry in result["labels"]) > 1.5


@pytest.mark.parametrize(
    ("truncation", "num_tokens", "truncated"), [("truncate", MAX_TOKENS, True), ("window", 62, False), (None, 62, False)]
)
async def test_truncation_is_told(service: Service, truncation: str | None, num_tokens: int, truncated: bool) -> None:
    options = {} if truncation is None else {"truncation": truncation}
    (result,) = (await service.classify("good " * 50, **options)).json()["results"]
    assert (result["num_tokens"], result["truncated"]) == (num_tokens, truncated)


@pytest.mark.parametrize("model", [None, "tiny", "tiny/1"])
async def test_a_model_is_chosen_by_name_or_version(service: Service, model: str | None) -> None:
    assert (await service.classify("good", model=model)).json()["model"]["name"] == "tiny"


# --- one bad item in a list


async def test_a_bad_item_fails_alone_and_names_its_field(service: Service) -> None:
    inputs = ["good", " ", {"text": "bad"}, {"text": 5}, {"text": "a", "Foo": 1}, 5, {"txt": "a"}, "\ud800"]
    response = await service.classify(inputs)
    assert response.status_code == 200
    results = response.json()["results"]
    assert ["labels" in result for result in results] == [True, False, True] + [False] * 5
    errors = [result["error"] for result in results if "error" in result]
    assert {error["type"] for error in errors} == {"invalid_input"}
    assert [error["detail"] for error in errors] == [
        "text: must not be empty",
        "text: should be a valid string",
        "Foo: is not a field that is known here",
        "should be a valid string or an object",
        "text: is required; 'txt' is not a field that is known here",
        "text: contains a lone surrogate, which is not valid Unicode",
    ]
    assert response.json()["usage"]["num_tokens"] == 6


async def test_a_text_too_long_for_error_mode_fails_alone(service: Service) -> None:
    first, second = (await service.classify(["good " * 50, "bad"], truncation="error")).json()["results"]
    assert first["error"]["type"] == "too_large"
    assert f"{MAX_TOKENS} tokens" in first["error"]["detail"]
    assert labels_of(second) == ["bad", "good"]


async def test_a_list_of_bad_items_only_is_answered_item_by_item(service: Service) -> None:
    response = await service.classify(["", 5])
    assert response.status_code == 200
    assert all("error" in entry for entry in response.json()["results"])


async def test_a_row_the_engine_fails_on_fails_alone(gated_service: GatedService) -> None:
    response = await gated_service.finish(gated_service.classify(["good", "bad"]), poison=VOCABULARY["bad"])
    first, second = response.json()["results"]
    assert labels_of(first)
    assert second["error"]["type"] == "engine_failed"


# --- headers


async def test_the_answer_says_where_the_time_went(service: Service) -> None:
    timing = (await service.classify("good")).headers["server-timing"]
    assert re.fullmatch(r'tokenize;dur=\d+\.\d\d, queue;dur=\d+\.\d\d, inference;dur=\d+\.\d\d, batch;desc="1 row"', timing)


async def test_the_answer_says_how_many_rows_ran_together(service: Service) -> None:
    assert 'batch;desc="3 rows"' in (await service.classify(["good", "bad", "film"])).headers["server-timing"]
    (failed, answered) = (await service.classify(["", "good"])).json()["results"]
    assert "error" in failed
    assert "labels" in answered
    assert 'batch;desc="1 row"' in (await service.classify(["", "good"])).headers["server-timing"]


async def test_server_timing_is_in_milliseconds(gated_service: GatedService) -> None:
    task = asyncio.ensure_future(gated_service.classify("good"))
    (await gated_service.gated.engine.batch()).finish(inference_s=0.25)
    assert "inference;dur=250.00" in (await task).headers["server-timing"]
