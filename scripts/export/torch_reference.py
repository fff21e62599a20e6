"""What torch answers: the reference of the parity gate, calibrated where the examples tell what is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.manifest import Output
from app.tasks.tokenizer import Tokenizer
from scripts.export.torch_runner import TorchRunner, padded_graph
from scripts.export.verify import Reference
from scripts.tasks.base import Calibration, OfflineTask
from scripts.training.data import Example
from scripts.training.evaluation import predict, read_again


def ask_torch(
    offline: OfflineTask,
    model: Any,
    tokenizer: Tokenizer,
    task_options: Mapping[str, Any],
    examples: Sequence[Example],
    is_labelled: bool = True,
) -> Reference:
    """The model's answers to the examples, through the production task.

    Args:
        offline: the task.
        model: a transformers model with its head.
        tokenizer: with the length of the longest input.
        task_options: what the manifest will say.
        examples: what is asked.
        is_labelled: whether their targets are the right answers; only then something can be calibrated.
    """
    task = offline.serving_task(tokenizer, task_options)
    runner = TorchRunner(model, padded_graph(model, Output(name="logits", axis=offline.output_axis)))
    predictions = predict(task, offline.serving_options(), [one.item for one in examples], runner)
    calibration = offline.calibrate(predictions, examples, tokenizer, task_options) if is_labelled else Calibration()
    options = {**task_options, **calibration.task_options}
    if calibration.task_options:
        task = offline.serving_task(tokenizer, options)
        predictions = read_again(task, offline.serving_options(), predictions)
    return Reference(offline, task, options, examples, predictions, calibration.figures)
