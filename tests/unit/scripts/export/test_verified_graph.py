"""A model becomes a graph with those variants that pass their gates; one that fails costs the variant, not the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from app.core.manifest import EngineTrial
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.text_classification.task import ClassificationItem
from scripts.export import engine_trials
from scripts.export.torch_reference import torch_reference
from scripts.export.variants import FP16_VARIANT
from scripts.export.verified_graph import VerifiedGraph, make_graph
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.data import Example
from tests.support.tiny_model import WORDS, tiny_tokenizer

OPTIONS = {"labels": ["a", "b", "c"], "problem_type": "single_label_classification"}
FP16 = replace(choose_provider("cpu"), precision="fp16")
COUNT = 30


class Maker:
    """Makes graphs of a model, and keeps what was said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def make(self, model: Any, storage: Literal["int8", "fp16", "fp32"]) -> VerifiedGraph:
        words = [word for word in WORDS if not word.startswith("#")]
        texts = [" ".join(words[(index * step) % len(words)] for step in range(1, 4 + index % 9)) for index in range(COUNT)]
        examples = [Example(ClassificationItem(text), "a", "films.csv", f"films.csv:{n}") for n, text in enumerate(texts)]
        reference = torch_reference(TextClassificationTraining(), model, tiny_tokenizer(), OPTIONS, examples, is_labelled=False)
        return make_graph(model, "row", storage, reference, self.folder, lambda _, text: self.said.append(text))


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.mark.parametrize("storage", ["int8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fp16", "fp32"))])
def test_every_storage_has_an_fp16_variant(storage: Literal["int8", "fp16", "fp32"], maker: Maker, tiny_model: Any) -> None:
    made = maker.make(tiny_model("Bert"), storage)
    assert made.parity["fp16"].passed
    assert made.parity["fp16"].rows == COUNT
    assert any(text.startswith("in fp16, same prediction as PyTorch: 100 % (30 rows)") for text in maker.said)
    assert made.file.name == "model.onnx"
    assert made.variants["fp16"].name == "model.fp16.onnx"
    assert made.variants["fp16"].parent == made.file.parent
    EncoderEngine(made.variants["fp16"], made.graph, FP16, 1)


def test_a_model_that_leaves_fp16_is_published_without(maker: Maker, tiny_model: Any) -> None:
    model = tiny_model("Bert")
    with torch.no_grad():  # in fp32 the normalization that follows makes it small again
        model.bert.encoder.layer[0].output.dense.weight *= 1e5
    made = maker.make(model, "fp32")
    assert made.parity["fp32"].passed
    assert (made.parity["fp16"].passed, made.parity["fp16"].agreement) == (False, 0.0)
    assert "fp16" not in made.variants
    assert maker.said[-1].endswith("it failed, and will not be used")


def test_of_many_examples_some_are_drawn(maker: Maker, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.export.verified_graph.VARIANTS", {"fp16": replace(FP16_VARIANT, max_rows=7)})
    made = maker.make(tiny_model("Bert"), "fp32")
    assert (made.parity["fp32"].rows, made.parity["fp16"].rows) == (COUNT, 7)
    assert made.parity["fp16"].agreement == 1.0
    assert made.parity["fp16"].max_abs_error < 0.05


def test_what_each_engine_made_of_the_graph_is_recorded_and_told(
    maker: Maker, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = {"cpu": EngineTrial(runs=True), "openvino": EngineTrial(runs=False, reason="no kernel")}
    monkeypatch.setattr(engine_trials, "try_engines", lambda *_: trials)
    made = maker.make(tiny_model("Bert"), "fp32")
    assert made.engines == trials
    assert "openvino does not run it and will not be used: no kernel" in maker.said
    assert "bf16" not in made.parity  # is not tried in this process either
