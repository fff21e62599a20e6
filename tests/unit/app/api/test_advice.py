"""What an error advises works: whoever follows it, in the same protocol, is answered."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.requests import Service
from tests.support.tiny_model import MAX_TOKENS

LONG = "good film. " * MAX_TOKENS
QUESTION = {"question": "good", "context": LONG}
V2 = "/v2/models/{}/infer"
ERROR = {"parameters": {"truncation": "error"}}


def tensors(**texts: str) -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]} for name, text in texts.items()]}


TOO_LONG: list[tuple[str, dict[str, Any]]] = [
    ("/v1/classify", {"inputs": LONG, "truncation": "error"}),
    ("/v1/answer", {"inputs": QUESTION, "truncation": "error"}),
    ("/v1/answer", {"inputs": {"question": LONG, "context": "good"}, "truncation": "error"}),
    ("/v1/summarize", {"inputs": LONG, "truncation": "error"}),
    ("/v1/explain", {"inputs": LONG, "truncation": "error", "budget": 100}),
    ("/predict", {"inputs": LONG}),
    ("/predict", {"inputs": [[LONG], ["good"]], "truncate": False}),
    ("/predict", {"inputs": [LONG, LONG]}),
    (V2.format("text-classification"), tensors(text=LONG) | ERROR),
    (V2.format("question-answering"), tensors(question="good", context=LONG) | ERROR),
    (V2.format("question-answering"), tensors(question=LONG, context="good") | ERROR),
    (V2.format("summarization"), tensors(text=LONG) | ERROR),
]


@pytest.mark.parametrize(("path", "body"), TOO_LONG)
async def test_whoever_follows_the_advice_on_a_text_that_is_too_long_is_answered(
    every_task: Service, path: str, body: dict[str, Any]
) -> None:
    refused = await every_task.client.post(path, json=body)
    assert refused.status_code == 413, refused.text
    detail = refused.json().get("detail") or refused.json()["error"]
    advice = re.search(r"; send (?:it|them) with (.+)$", detail)
    assert advice is not None, detail
    first, *others = advice[1].split(" or ")
    options = [json.loads(f"{{{first}}}")]
    options += [{next(iter(options[0])): json.loads(other)} for other in others]
    for option in options:
        answered = await every_task.client.post(path, json=body | option)
        assert answered.status_code == 200, (option, answered.text)


@pytest.mark.parametrize("task", ["text-classification", "question-answering", "summarization"])
async def test_the_inference_api_reads_what_is_long_without_any_advice(every_task: Service, task: str) -> None:
    inputs = QUESTION if task == "question-answering" else LONG
    assert (await every_task.client.post(f"/models/{task}", json={"inputs": inputs})).status_code == 200
