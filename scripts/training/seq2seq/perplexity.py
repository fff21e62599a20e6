"""How surely a model expects the held-out targets, before and after it was trained: perplexity, and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.seq2seq.objective import likelihood
from scripts.training.seq2seq.tokenizer import PairTokenizer

MAX_ROWS = 1000
"""Of the held-out rows so many, spread over all of them: the figure hardly moves with more."""


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
