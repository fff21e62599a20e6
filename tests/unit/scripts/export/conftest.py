"""The tiny BERT's answers, which graphs are compared with."""

from __future__ import annotations

from typing import Any

import pytest

from app.tasks.text_classification.task import ClassificationItem
from scripts.export.torch_reference import TorchRunner
from scripts.export.verify import Reference
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.data import Example
from scripts.training.evaluation import predict
from tests.support.tiny_model import WORDS, tiny_tokenizer

OPTIONS = {"labels": ["a", "b", "c"], "problem_type": "single_label_classification"}
COUNT = 40


@pytest.fixture(scope="module")
def reference(export: Any) -> Reference:
    """The tiny BERT's answers to forty short texts."""
    training = TextClassificationTraining()
    words = [word for word in WORDS if not word.startswith("#")]
    texts = [" ".join(words[(index * step) % len(words)] for step in range(1, 4 + index % 9)) for index in range(COUNT)]
    examples = [
        Example(ClassificationItem(text), "a", "films.csv", f"films.csv:{index}") for index, text in enumerate(texts, 2)
    ]
    task = training.serving_task(tiny_tokenizer(), OPTIONS)
    model = export("Bert").model
    runner = TorchRunner(model, "row")
    predictions = predict(task, training.serving_options(), [example.item for example in examples], runner)
    return Reference(training, task, OPTIONS, examples, predictions)
