"""What training of a model that writes lowers: the cross entropy of each token of the target, given those before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from app.core.errors import InvalidSettings
from scripts.tasks.spec import TrainingRow, TrainingTask
from scripts.training.data import Example
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.batches import IGNORED_LABEL, TokenBatches, collator_of
from scripts.training.seq2seq.tokenizer import PairTokenizer

EVALUATED_TOKENS = 4096
"""Of a batch, where nothing is learnt."""
MAX_LOSS = 700.0
"""Nats whose exponential is still a number."""
MAX_ROWS = 1000
"""Of the held-out rows so many, spread over all of them: the figure hardly moves with more."""
REFUSED: Mapping[str, Any] = {
    "class_weights": "none",
    "teacher": "",
    "teacher_data": [],
    "epoch_tokens": [],
    "micro_batch": 0,
    "head": "auto",
    "pooling": "auto",
    "gradual_unfreezing": False,
    "freeze": -1,
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

    def num_correct(self, outputs: Any, labels: torch.Tensor) -> tuple[int, int]:
        """How many of how many tokens come first given those before them: for the progress bar only."""
        inside = labels != IGNORED_LABEL
        return int(((outputs.logits.detach().argmax(-1) == labels) & inside).sum()), int(inside.sum())


def forward(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The model's outputs, fed with the right target; `logits` is (rows, tokens of the labels, vocabulary)."""
    config = model.config if hasattr(model, "config") else model.module.config
    if not config.is_encoder_decoder:
        return model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
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


def mean_token_loss(model: Any, rows: Sequence[TrainingRow]) -> float:
    """Over all tokens of the rows' targets, in fp32, without label smoothing."""
    return likelihood(model, rows).mean_loss


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How surely a model expects texts, token by token."""

    mean_loss: float
    """Nats per token."""
    num_tokens: int
    """Of the targets, those that end them included."""

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean_loss, MAX_LOSS))


@torch.no_grad()
def likelihood(model: Any, rows: Sequence[TrainingRow]) -> Likelihood:
    """Of the rows' targets, each token given those before it, in fp32, without label smoothing."""
    model = model.float().eval()
    collate = collator_of(model)
    total, count = 0.0, 0
    for batch in TokenBatches(shapes_of(model, rows), EVALUATED_TOKENS, 0, 0):
        feed = {name: tensor.to(model.device) for name, tensor in collate([rows[index] for index in batch]).items()}
        tokens = int((feed["labels"] != IGNORED_LABEL).sum())
        total += float(token_loss(forward(model, feed).logits, feed["labels"])) * tokens
        count += tokens
    return Likelihood(total / count, count)


def shapes_of(model: Any, rows: Sequence[TrainingRow]) -> list[tuple[int, int]]:
    """Tokens of the source and the target of each row; without an encoder they are read as one, and there is no other."""
    if model.config.is_encoder_decoder:
        return [(row.row.num_tokens, len(row.label)) for row in rows]
    return [(row.row.num_tokens + len(row.label) - 1, 0) for row in rows]


def measure_perplexity(
    training: TrainingTask,
    model: Any,
    tokenizer: PairTokenizer,
    task_options: Mapping[str, Any],
    examples: Sequence[Example],
) -> dict[str, Any]:
    """Of the targets alone; their sources are read and not counted. The model is as it was afterwards.

    Returns:
        `perplexity` for each token, over so many `tokens` of so many `rows`, those that end a text included; `bits_per_byte` of
        the targets' text, which also models with other vocabularies can be compared by. Empty where no row fits into the model.
    """
    step = math.ceil(len(examples) / MAX_ROWS) or 1
    rows = training.training_rows(examples[::step], tokenizer, task_options) if examples else []
    if not rows:
        return {}
    was_training = model.training
    measured = likelihood(model, rows)
    model.train(was_training)
    task: Any = training.serving_task(tokenizer, task_options)  # which is `Generative`
    num_bytes = sum(len(task.generator.text_of(row.label).encode("utf-8", "surrogatepass")) for row in rows)
    bits = measured.mean_loss * measured.num_tokens / math.log(2)
    return {
        "perplexity": round(measured.perplexity, 3),
        "tokens": measured.num_tokens,
        "rows": len(rows),
        "bits_per_byte": round(bits / max(1, num_bytes), 4),
    }
