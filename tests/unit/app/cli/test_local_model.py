"""A model in this process takes what the service takes, and what it refuses of all inputs it refuses once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.cli.local_model import ModelChoice, ModelRequest, opened
from app.core.errors import InvalidSettings
from app.data import Input
from app.settings import Settings
from tests.support.tiny_model import publish_tiny


def request(models: Path, problem_type: str, **options: Any) -> ModelRequest:
    publish_tiny(models, problem_type=problem_type)
    return ModelChoice("tiny").request("predict", options, Settings(models=models))


@pytest.mark.parametrize(
    ("problem_type", "options", "message"),
    [
        ("single_label_classification", {"threshold": 0.5}, "^--threshold is for models that give a text any number of labels"),
        ("multi_label_classification", {"threshold": 0.5, "activation": "none"}, "^--threshold is compared with probabilities"),
        ("multi_label_classification", {"top_k": 0}, "^--top-k: should be greater"),
    ],
)
def test_an_option_that_the_model_refuses_of_every_input_is_told_once(
    problem_type: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSettings, match=message), opened(request(tmp_path, problem_type, **options)):
        pass


def test_an_option_that_the_model_takes_counts(tmp_path: Path) -> None:
    with opened(request(tmp_path, "multi_label_classification", threshold=0.0)) as model:
        (row,) = model.answer([Input("a", 1, {"text": "a good film"})])
    assert [label["selected"] for label in row["labels"]] == [True, True]
