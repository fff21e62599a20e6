"""The plain classifier answers with the probabilities of its graph, alone, in batches, and through FastAPI."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from scripts.peers.plain_server import PlainClassifier, application

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of two labels, whose logits are the number of real tokens and nothing."""
    (tmp_path / "onnx").mkdir()
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["mask", "axis"], ["counts"], keepdims=1),
        helper.make_node("Mul", ["counts", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"]) for name in INPUTS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([1]), "axis"), numpy_helper.from_array(np.array([[1, 0]], np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "onnx" / "model.onnx")
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "good": 1}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "long", "1": "short"}}), encoding="utf-8")
    return tmp_path


def test_each_text_of_a_batch_is_answered_as_alone(folder: Path) -> None:
    classifier = PlainClassifier(folder)
    texts = ["good", "good good good"]
    answers = classifier.classify(texts)
    assert [answer["long"] for answer in answers] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-3))], abs=1e-6)
    for text, answer in zip(texts, answers, strict=True):
        assert classifier.classify([text])[0] == pytest.approx(answer)


async def test_fastapi_answers_the_same(folder: Path) -> None:
    classifier = PlainClassifier(folder)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application(classifier)), base_url="http://test") as client:
        assert (await client.get("/health")).status_code == 200
        answer = await client.post("/predict", json={"input": "good good"})
    assert answer.json() == pytest.approx(classifier.classify(["good good"])[0])
