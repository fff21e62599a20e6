"""The loss of a trained model on examples: what training lowers, where it was not trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from app.core.manifest import Output
from scripts.export.padded import head_logits
from scripts.export.torch_runner import padded_graph
from scripts.tasks.base import OfflineTask, TrainingRow
from scripts.training.batches import token_batches
from scripts.training.row_feed import Collator


@torch.no_grad()
def mean_loss(task: OfflineTask, model: Any, rows: Sequence[TrainingRow]) -> float:
    """The mean over all decisions in the rows (one a row; in summaries, one a sentence), in fp32, without label smoothing.

    Args:
        task: whose head and loss.
        model: a transformers model with the task's head.
        rows: with their labels, as for training; at least one.
    """
    model = model.float().eval()
    collate = Collator(task, padded_graph(model, Output(name="logits", axis=task.output_axis)), ())
    total, num_decisions = 0.0, 0
    for batch in token_batches([one.row for one in rows]):
        feed = {name: tensor.to(model.device) for name, tensor in collate([rows[index] for index in batch]).items()}
        loss, outputs = _forward(task, model, feed)
        _, count = task.num_correct(head_logits(outputs).cpu().numpy(), feed["labels"].cpu().numpy())
        total += float(loss) * count  # the batch's loss is a mean over them
        num_decisions += count
    return total / num_decisions


def _forward(task: OfflineTask, model: Any, feed: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
    if task.loss is None:
        outputs = model(**feed)
        return outputs["loss"], outputs
    outputs = model(**{name: tensor for name, tensor in feed.items() if name != "labels"})
    return task.loss(outputs, feed["labels"]), outputs
