"""What long inputs cost: estimated from a model's sizes, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scripts.training.pretrained import DEFAULT_LIMIT
from scripts.training.recipe import Recipe
from scripts.training.training_setup import micro_batch

BYTES = 4
"""Of a number in fp32."""
STATES = 4
"""Numbers that training keeps of a weight: itself, its gradient, and AdamW's two means."""
ACTIVATIONS, SCORES = 26, 3
"""What a layer holds of a text, until the way back in training: vectors of the hidden size per token, and square matrices of
attention scores per head. Fitted to the peak memory of MiniLM in fp32 at 8 × 512 and 8 × 128 tokens; it is then within a sixth
at 1 × 512, 4 × 512 and 4 × 256."""


@dataclass(frozen=True, slots=True)
class LengthCost:
    """Of inputs of one length; an estimate for encoders whose layers all attend to the whole input."""

    max_tokens: int
    training_bytes: int
    """Weights and optimizer, and the activations of the rows that are computed at once."""
    serving_bytes: int
    """Attention scores of one layer and one row; beside the weights."""
    work: float
    """Arithmetic of one such row, in rows of 512 tokens."""

    def __str__(self) -> str:
        return (
            f"texts of {self.max_tokens:,} tokens need about {_size(self.training_bytes)} of memory in training, and in serving"
            f" about {_size(self.serving_bytes)} each beside the weights; one is as much work as {self.work:.0f} of"
            f" {DEFAULT_LIMIT} tokens"
        )


def length_cost(recipe: Recipe, model: Any, max_tokens: int) -> LengthCost | None:
    """None where the model does not say how many layers, heads and hidden units it has."""
    config = model.config
    layers, heads, hidden = (
        getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    if not (layers and heads and hidden):
        return None
    rows = recipe.micro_batch or micro_batch(recipe.batch_size, [max_tokens])
    scores = heads * max_tokens**2
    kept = rows * layers * (ACTIVATIONS * hidden * max_tokens + SCORES * scores)
    return LengthCost(
        max_tokens,
        BYTES * (STATES * model.num_parameters() + kept),
        BYTES * SCORES * scores,
        _work(max_tokens, hidden) / _work(DEFAULT_LIMIT, hidden),
    )


def _work(num_tokens: int, hidden: int) -> int:
    """Multiplications of a layer: of each token with the weights, and with every other token."""
    return num_tokens * (12 * hidden**2 + 2 * hidden * num_tokens)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.0f} MB"
