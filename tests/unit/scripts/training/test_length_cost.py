"""What long inputs cost is told before they are trained on."""

from __future__ import annotations

from typing import Any

from scripts.training.length_cost import length_cost
from scripts.training.recipe import Recipe


def test_memory_and_work_grow_faster_than_the_length(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    short, long = (length_cost(Recipe(), model, length) for length in (1024, 8192))
    assert short is not None
    assert long is not None
    assert long.serving_bytes == 64 * short.serving_bytes
    assert long.training_bytes > 4 * short.training_bytes  # of the short ones four are computed at once
    assert long.work > 8 * short.work
    assert "texts of 8,192 tokens need about " in str(long)


def test_a_model_that_does_not_say_its_sizes_is_not_estimated(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    model.config.num_attention_heads = None
    assert length_cost(Recipe(), model, 1024) is None
