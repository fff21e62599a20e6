"""Regression: a number in the data's own unit, under the routes and protocols of classification."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidArtefact
from app.core.types import Row
from app.tasks.base import Encoded
from app.tasks.registry import installed_tasks
from app.tasks.text_classification.task import ClassificationOptions
from app.tasks.text_regression import SPEC, TextRegression
from tests.support.tiny_model import publish_tiny, tiny_tokenizer

EURO = TextRegression(tiny_tokenizer(), ["euro"], scale=200.0, offset=1000.0)
ENCODED = Encoded([Row([7], [0])], 1, False)


def outputs(value: float) -> list[Any]:
    return [{"logits": np.array([value], np.float32)}]


def test_a_number_stands_in_its_own_unit_and_decides_nothing() -> None:
    answer = EURO.decode(ENCODED, outputs(0.5), ClassificationOptions())
    assert asdict(answer) == {"labels": [{"label": "euro", "score": 1100.0}]}
    assert EURO.decision(answer, ClassificationOptions()) is None


@pytest.mark.parametrize(("now", "difference"), [(0.51, ""), (0.53, "'euro' scores 1106.0000, was 1100.0000")])
def test_a_golden_number_may_differ_by_a_share_of_the_deviation(now: float, difference: str) -> None:
    published = asdict(EURO.decode(ENCODED, outputs(0.5), ClassificationOptions()))
    assert EURO.golden_difference(ENCODED, outputs(now), published, 0.02) == difference


def test_a_model_of_several_numbers_is_refused() -> None:
    with pytest.raises(InvalidArtefact, match=r"task_options\.labels"):
        SPEC.build(tiny_tokenizer(), {"labels": ["a", "b"]})


def test_it_shares_the_route_of_classification_and_comes_after_it() -> None:
    assert installed_tasks().serving("v1/classify") == ["text-classification", "text-regression"]


async def test_the_only_model_of_a_number_answers_requests_that_name_none(tmp_path: Path, start: Any) -> None:
    publish_tiny(tmp_path, "rating", labels=["stars"], problem_type="regression")
    async with start(models=tmp_path, feedback=str(tmp_path / "feedback.db")) as service:
        answer = await service.client.post("/v1/classify", json={"inputs": ["a good film"]})
        (model,) = (await service.client.get("/v1/models")).json()["models"]
        labelled = {"inputs": [{"text": "good", "label": "5"}], "model": "rating"}
        correction = await service.client.post("/v1/feedback", json=labelled)
        explanation = await service.client.post("/v1/explain", json={"inputs": ["a good film"], "model": "rating"})
    (result,) = answer.json()["results"]
    assert [label["label"] for label in result["labels"]] == ["stars"]
    assert (model["task"], model["default"]) == ("text-regression", True)
    assert (correction.status_code, "take no corrections" in correction.text) == (404, True)
    assert explanation.json()["results"][0]["score"] == pytest.approx(result["labels"][0]["score"], rel=1e-3)
