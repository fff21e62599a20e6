"""What a published model is tried with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.tasks.text_classification.task import ClassificationItem
from scripts.training.data import Example
from scripts.training.publication import EASILY_TYPED, SHOWN_FROM, request_of

TRAINING: Any = SimpleNamespace(
    name="text-classification", item_fields=lambda item: {"text": item.text, "of_training_alone": "never shown"}
)
LONG = "x" * EASILY_TYPED


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        ([LONG, "the first that is short", "short"], "the first that is short"),
        ([f"{LONG} long", LONG, f"{LONG} longer"], LONG),
        ([*[f"{LONG} long"] * SHOWN_FROM, "short, and too far behind"], f"{LONG} long"),
    ],
)
def test_the_first_held_out_item_that_is_easily_typed_is_shown_with_the_fields_that_are_served(
    texts: list[str], shown: str
) -> None:
    examples = [Example(ClassificationItem(text), "good", "a.csv", "a.csv:2") for text in texts]
    assert request_of(TRAINING, examples) == {"text": shown}
