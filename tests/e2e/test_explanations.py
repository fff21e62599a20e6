"""Explanations by the models of this repository: the words that a person would name."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import Any

import httpx
import pytest

from tests.support.live_service import LiveService

REVIEW = "I expected a boring film, but it was not bad at all: the actors are superb."
QUESTION = {
    "question": "When did the library open?",
    "context": "The old library burned down in 1897. A new library opened in 1903.",
}


@pytest.fixture
def client(shipped_service: LiveService) -> Iterator[httpx.Client]:
    with shipped_service.client() as made:
        yield made


def explain(client: httpx.Client, inputs: Any, **options: Any) -> Any:
    response = client.post("/v1/explain", json={"inputs": inputs, **options})
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    for entry in result["tokens"]:
        text = inputs if isinstance(inputs, str) else inputs[entry["field"]]
        assert text[entry["start"] : entry["end"]] == entry["text"]
    if result["method"] == "shapley":
        expected = log(result["score"] / (1 - result["score"])) - log(result["base_score"] / (1 - result["base_score"]))
        assert sum(entry["weight"] for entry in result["tokens"]) == pytest.approx(expected, abs=1e-2)
    return result


def weights(result: Any, field: str = "text") -> dict[str, float]:
    return {entry["text"]: entry["weight"] for entry in result["tokens"] if entry["field"] == field}


def test_praise_speaks_for_positive_and_blame_against_it(client: httpx.Client) -> None:
    result = explain(client, REVIEW)
    found = weights(result)
    assert result["target"] == "positive"
    assert found["superb"] > 1
    assert found["boring"] < -1
    assert min(found, key=lambda word: found[word]) == "boring"
    assert abs(found["the"]) < found["superb"] / 2


def test_what_speaks_for_one_of_two_labels_speaks_against_the_other(client: httpx.Client) -> None:
    found, against = weights(explain(client, REVIEW)), weights(explain(client, REVIEW, target="negative"))
    assert against == pytest.approx({word: -weight for word, weight in found.items()}, abs=1e-2)


def test_the_words_that_made_an_answer_win_are_found_in_question_and_context(client: httpx.Client) -> None:
    result = explain(client, QUESTION)
    assert result["target"] == "1903"
    found = weights(result, "context")
    assert max(found, key=lambda word: found[word]) == "1903"
    assert found["opened"] > found["burned"]
    assert weights(result, "question")["open"] > 0
    other = explain(client, QUESTION, target="1897")
    assert other["score"] < result["score"]


def test_a_sentence_of_a_summary_is_explained(client: httpx.Client) -> None:
    text = "The council voted to close the market hall.\r\nIt rained.\tThe mayor wore a blue coat."
    result = explain(client, text, model="summary", target="It rained.")
    assert " ".join(entry["text"] for entry in result["tokens"]).endswith("It rained . The mayor wore a blue coat .")


@pytest.mark.parametrize(
    "text", ["🙂👩\u200d👩\u200d👧 superb", "电影很好。", "Cafe\u0301 e\u0301tude", "\tsuperb\r\nfilm\u00a0!", "x" * 5000]
)
def test_offsets_are_counted_in_the_callers_own_characters(client: httpx.Client, text: str) -> None:
    result = explain(client, text)
    assert "".join(entry["text"] for entry in result["tokens"]) == "".join(text.split())


@pytest.mark.slow  # hundreds of runs of the model each; that it is bounded is shown with a tiny one, too
@pytest.mark.parametrize("truncation", ["truncate", "window"])
def test_two_hundred_kilobytes_are_bounded_work(client: httpx.Client, truncation: str) -> None:
    text = "A dreadful and boring film, they said. " * 700 + "I loved it! " * 60
    result = explain(client, text, truncation=truncation, target="positive")
    assert result["num_evaluations"] < 400
    assert result["truncated"] == (truncation == "truncate")
    if truncation == "window":
        assert "loved" in weights(result)
