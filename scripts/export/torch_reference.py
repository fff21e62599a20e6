"""What the fp32 torch model answers: the reference that every published graph must reproduce."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from app.core.types import Row, RowOutput
from app.runtime.layout import on_side, plan, requested, split, to_tensors
from app.tasks.tokenizer import Tokenizer
from scripts.export.calibrate import fit_calibration
from scripts.export.layouts import PaddedModel, all_outputs, padded_graph
from scripts.export.verify import Reference
from scripts.tasks.spec import Axis, Calibration, TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import predict, read_again, token_batches
from scripts.training.seq2seq.generate import written_reference
from scripts.training.seq2seq.tokenizer import PairTokenizer


class TorchRunner:
    """The fp32 torch model as a runner, which every published graph must reproduce. Its rows are padded."""

    def __init__(self, model: Any, axis: Axis) -> None:
        """
        Args:
            model: a transformers model with a head.
            axis: what one output vector belongs to.
        """
        self._model = model.float().eval()
        self._axis = axis
        self._graph = padded_graph(model, axis)
        self._read = PaddedModel(self._model, "row" if axis == "row" else "token")

    @torch.no_grad()
    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Outputs of the rows, in their order; batched by length under a token budget."""
        outputs: list[RowOutput] = [{}] * len(rows)
        for batch in token_batches(rows):
            for index, output in zip(batch, self._run([rows[i] for i in batch], self._read), strict=True):
                outputs[index] = output
        return outputs

    @torch.no_grad()
    def run_together(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Outputs of the rows in one tensor, as long as the longest of them."""
        return self._run(rows, self._read)

    @torch.no_grad()
    def run_alone(self, row: Row) -> RowOutput:
        """Output of one row, by the forward of transformers and nothing of ours. Token types that are all 0 are not given to
        it: so it shows where they would say something else than none, as of a tokenizer that lacks them."""

        def forward(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            inputs = {name: tensor for name, tensor in inputs.items() if name != "token_type_ids" or tensor.any()}
            return all_outputs(self._model, self._model(**inputs, return_dict=True))

        (output,) = self._run([row], forward)
        return output

    def _run(self, rows: Sequence[Row], forward: Callable[..., Any]) -> list[RowOutput]:
        placement = plan([row.num_tokens for row in rows], "padded", fixed_shapes=False)
        tensors = to_tensors(rows, placement, self._graph, fixed_shapes=False)
        inputs = {name: torch.from_numpy(tensor).to(self._model.device) for name, tensor in tensors.items()}
        graph = requested(self._graph, rows)
        given = forward(**inputs)
        logits, *extra = (given[output.name].float().cpu().numpy() for output in graph.outputs)
        if self._axis == "position":  # (rows, tokens, labels) -> (positions, labels)
            places = enumerate(zip(rows, on_side(placement, rows, self._graph), strict=True))
            positions = [logits[line, place.start + np.array(row.output_positions)] for line, (row, place) in places]
            logits = np.concatenate(positions)
        return split([logits, *extra], rows, placement, graph)


def torch_reference(
    training: TrainingTask,
    model: Any,
    tokenizer: Tokenizer,
    task_options: Mapping[str, Any],
    examples: Sequence[Example],
    is_labelled: bool = True,
) -> Reference:
    """The model's answers to the examples, through the production task.

    Args:
        model: a transformers model with its head.
        tokenizer: with the length of the longest input.
        is_labelled: whether their targets are the right answers; only then something can be calibrated.
    """
    if isinstance(tokenizer, PairTokenizer):
        return written_reference(training, model, tokenizer, task_options, examples)
    task = training.serving_task(tokenizer, task_options)
    runner = TorchRunner(model, training.output_axis)
    predictions = predict(task, training.serving_options(), [example.item for example in examples], runner)
    calibration = Calibration()
    if is_labelled:
        calibration = fit_calibration(training, predictions, examples, runner, tokenizer, task_options)
    options = {**task_options, **calibration.task_options}
    if calibration.task_options:
        task = training.serving_task(tokenizer, options)
        predictions = read_again(task, training.serving_options(), predictions)
    return Reference(training, task, options, examples, predictions, calibration.metrics)
