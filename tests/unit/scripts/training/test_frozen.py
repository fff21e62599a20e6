"""Lower layers keep their weights: for good, or for the first epochs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from scripts.training.frozen import GradualUnfreezing, freeze
from scripts.training.recipe import Recipe


def learning(model: Any) -> set[str]:
    """Which parts of the body have weights that learn."""
    parts = set()
    for name, weights in getattr(model, model.base_model_prefix).named_parameters():
        words = name.split(".")
        number = next((word for word in words if word.isdecimal()), "")
        if weights.requires_grad:
            parts.add(f"layer {number}" if number else words[0])
    return parts


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Electra"])
@pytest.mark.parametrize(
    ("wish", "left"), [(-1, {"layer 0", "layer 1", "embeddings"}), (0, {"layer 0", "layer 1"}), (1, {"layer 1"})]
)
def test_embeddings_and_first_layers_can_be_frozen(family: str, wish: int, left: set[str], tiny_model: Any) -> None:
    model = tiny_model(family)
    freeze(Recipe(data=["x"], freeze=wish), model)
    assert learning(model) - {"pooler", "embeddings_project"} == left
    assert all(one.requires_grad for name, one in model.named_parameters() if "classifier" in name)


def test_more_layers_than_there_are_cannot_be_frozen(tiny_model: Any) -> None:
    with pytest.raises(InvalidSettings, match="freeze is 3, but the model has only 2 layers"):
        freeze(Recipe(data=["x"], freeze=3), tiny_model("Bert"))


def test_layers_that_share_their_weights_cannot_be_frozen(tiny_model: Any) -> None:
    with pytest.raises(InvalidSettings, match="the layers of AlbertForSequenceClassification"):
        freeze(Recipe(data=["x"], freeze=0), tiny_model("Albert"))


def begin(callback: GradualUnfreezing, epoch: float) -> None:
    callback.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)


def test_one_layer_more_learns_in_each_epoch(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    thaw = GradualUnfreezing(model)
    found = []
    for epoch in (0, 1, 2, 3):
        begin(thaw, epoch)
        found.append(learning(model) - {"pooler"})
    assert found == [{"layer 1"}, {"layer 0", "layer 1"}, *2 * [{"embeddings", "layer 0", "layer 1"}]]


def test_a_resumed_run_knows_what_had_thawed(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    begin(GradualUnfreezing(model), 1.4)
    assert learning(model) - {"pooler"} == {"layer 0", "layer 1"}


def test_what_is_frozen_for_good_does_not_thaw(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    freeze(Recipe(data=["x"], freeze=1, gradual_unfreezing=True), model)
    thaw = GradualUnfreezing(model)
    begin(thaw, 9)
    assert learning(model) - {"pooler"} == {"layer 1"}
