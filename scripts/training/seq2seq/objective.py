"""What training of a model that writes lowers: the cross entropy of each token of the target, given those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from app.core.errors import InvalidSettings
from scripts.tasks.spec import TrainingRow
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.batches import IGNORED_LABEL, Seq2SeqCollator, TokenBatches

EVALUATED_TOKENS = 4096
"""Of a batch, where nothing is learnt."""
REFUSED: Mapping[str, Any] = {
    "class_weights": "none",
    "teacher": "",
    "epoch_tokens": [],
    "micro_batch": 0,
    "head": "auto",
    "pooling": "auto",
    "gradual_unfreezing": False,
    "freeze": -1,
    "lora_rank": 0,
    "cased": False,
}
"""Recipe keys that are for encoders with a head, to their values that say nothing."""


class Seq2SeqObjective:
    """Called with a model and a batch, gives the mean loss of its target tokens, and the outputs."""

    def __init__(self, recipe: Recipe) -> None:
        """
        Raises:
            InvalidSettings: the recipe asks for what is for other tasks.
        """
        for key, nothing in REFUSED.items():
            if (value := getattr(recipe, key)) != nothing:
                raise InvalidSettings(f"{key} is {value}, but a model that writes has no such thing; leave it out")
        self._smoothing = recipe.label_smoothing

    def __call__(self, model: Any, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        outputs = forward(model, inputs)
        return token_loss(outputs.logits, inputs["labels"], self._smoothing), outputs


def forward(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The model's outputs, fed with the right target; `logits` is (rows, target tokens, vocabulary)."""
    config = model.config if hasattr(model, "config") else model.module.config
    labels = inputs["labels"]
    fed = shifted(labels, int(config.decoder_start_token_id), int(config.pad_token_id))
    return model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], decoder_input_ids=fed, use_cache=False)


def shifted(labels: torch.Tensor, start: int, pad: int) -> torch.Tensor:
    """What the decoder reads to write these labels: the start token, and each label after it but for the last."""
    fed = torch.roll(labels, 1, dims=-1)
    fed[:, 0] = start
    return fed.masked_fill(fed == IGNORED_LABEL, pad)


def token_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Mean over the target's tokens, padding left out."""
    return functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, label_smoothing=smoothing
    )


def num_correct(logits: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """How many of how many tokens come first given those before them: for the progress bar only."""
    inside = labels != IGNORED_LABEL
    return int(((logits.argmax(-1) == labels) & inside).sum()), int(inside.sum())


@torch.no_grad()
def mean_token_loss(model: Any, rows: Sequence[TrainingRow]) -> float:
    """Over all tokens of the rows' targets, in fp32, without label smoothing."""
    model = model.float().eval()
    collate = Seq2SeqCollator(int(model.config.pad_token_id))
    total, count = 0.0, 0
    for batch in TokenBatches([shape_of(row) for row in rows], EVALUATED_TOKENS, 0, 0):
        feed = {name: tensor.to(model.device) for name, tensor in collate([rows[index] for index in batch]).items()}
        tokens = int((feed["labels"] != IGNORED_LABEL).sum())
        total += float(token_loss(forward(model, feed).logits, feed["labels"])) * tokens
        count += tokens
    return total / count


def shape_of(row: TrainingRow) -> tuple[int, int]:
    """Tokens of its source and its target."""
    return row.row.num_tokens, len(row.label)
