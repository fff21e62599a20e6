"""evaluate: production answers to held-out examples, from whatever runs rows: torch or the published graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from app.core.errors import HooperError, TooLarge
from app.core.manifest import DriftReference
from app.core.types import Row, RowOutput
from app.tasks.base import Encoded, Task
from app.tasks.drift import reference_of, summed
from app.tasks.tokenizer import Tokenizer
from scripts.training.bars import bar_class, shows_bars

CHUNK = 1024
"""Items encoded at a time: enough to find rows of similar length, and few to hold in memory."""


class RowRunner(Protocol):
    """What `TorchRunner` and `EncoderEngine` have in common."""

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]: ...


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers to items, and what they were read from."""

    answers: Sequence[Any]
    encoded: Sequence[Encoded]
    outputs: Sequence[Sequence[RowOutput]]
    """Row outputs of each item, in the order of its rows."""


def predict(
    task: Task[Any, Any, Any], options: Any, items: Sequence[Any], runner: RowRunner, title: str = "evaluating"
) -> Predictions:
    """Send items through `Task.encode`, the runner and `Task.decode`, as the service does.

    Raises:
        HooperError: an item cannot be encoded, or the engine failed.
    """
    all_encoded: list[Encoded] = []
    all_outputs: list[list[RowOutput]] = []
    with bar_class()(total=len(items), desc=title, unit="item", disable=not shows_bars(), leave=False) as bar:
        for start in range(0, len(items), CHUNK):
            encoded = list(encode_all(task, options, items[start : start + CHUNK]))
            outputs = iter(_run(runner, [row for encoding in encoded for row in encoding.rows], bar, len(encoded)))
            all_encoded += encoded
            all_outputs += [[next(outputs) for _ in encoding.rows] for encoding in encoded]
    answers = [task.decode(encoding, outputs, options) for encoding, outputs in zip(all_encoded, all_outputs, strict=True)]
    return Predictions(answers, all_encoded, all_outputs)


def read_again(task: Task[Any, Any, Any], options: Any, before: Predictions) -> Predictions:
    """The same outputs, decoded by a task with other options."""
    pairs = zip(before.encoded, before.outputs, strict=True)
    return Predictions([task.decode(*pair, options) for pair in pairs], before.encoded, before.outputs)


def drift_reference(task: Task[Any, Any, Any], options: Any, tokenizer: Tokenizer, predictions: Predictions) -> DriftReference:
    """What the predictions' items were like and what was made of them, counted as the service counts."""
    pairs = zip(predictions.encoded, predictions.answers, strict=True)
    return reference_of(summed(task, tokenizer.unknown_id(), pairs, options))


def encode_all(task: Task[Any, Any, Any], options: Any, items: Sequence[Any]) -> Iterator[Encoded]:
    """Encoded items, in order.

    Raises:
        HooperError: an item cannot be encoded.
    """
    for item, entry in zip(items, task.encode(items, options), strict=True):
        if isinstance(entry, TooLarge):
            (entry,) = task.encode([item], options)  # perhaps it was the others: a request has a limit for all of its items
        if isinstance(entry, HooperError):
            raise entry
        yield entry


def _run(runner: RowRunner, rows: Sequence[Row], bar: Any, num_items: int) -> list[RowOutput]:
    outputs: list[RowOutput] = [{}] * len(rows)
    for batch in token_batches(rows):
        for index, output in zip(batch, runner.run_rows([rows[i] for i in batch]), strict=True):
            outputs[index] = output
        bar.update(num_items * len(batch) / len(rows))
    return outputs


def largest_error(reference: Sequence[RowOutput], candidate: Sequence[RowOutput]) -> float:
    """Largest absolute difference of any output of the rows; not finite where one of them is not."""
    differences = [
        np.abs(np.asarray(actual[name], np.float64) - expected[name]).max(initial=0.0)
        for expected, actual in zip(reference, candidate, strict=True)
        for name in expected
    ]
    return float(np.max(differences))


BUDGET = 4096
"""Tokens per batch, padding included: eight rows of 512, or 256 of 16."""


def token_batches(rows: Sequence[Row], budget: int = BUDGET) -> list[list[int]]:
    """Indices of the rows, longest first, in batches of at most `budget` padded tokens; a longer row comes alone."""
    order = sorted(range(len(rows)), key=lambda index: -rows[index].num_tokens)
    batches: list[list[int]] = []
    for index in order:
        # rows come longest first, so a batch's first row is its width
        if batches and (len(batches[-1]) + 1) * rows[batches[-1][0]].num_tokens <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
