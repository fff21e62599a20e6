"""TorchRunner: the fp32 torch model as a runner, the reference that every published graph must reproduce."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from app.core.manifest import Graph, Output
from app.core.types import Row, RowOutput
from app.runtime.layout import on_side, plan, split, to_tensors
from scripts.export.padded import PaddedModel, head_logits
from scripts.export.positions import accepted_inputs, padding_id, takes_token_types
from scripts.training.evaluation import token_batches

PADDING_SIDE = "padding_side"
"""Where a model's config keeps the side on which its rows are padded, once the trial export has found it."""


class TorchRunner:
    """Runs rows through a transformers model with a head, padded, in fp32.

    Takes the graph of the ONNX counterpart for its outputs; layout and inputs are the torch model's own.
    """

    def __init__(self, model: Any, graph: Graph) -> None:
        self._model = model.float().eval()
        self._output = graph.outputs[0]
        self._graph = padded_graph(model, self._output)
        self._read = PaddedModel(self._model, "row" if self._output.axis == "row" else "token")

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

        def forward(**fed: torch.Tensor) -> dict[str, torch.Tensor]:
            given = {name: tensor for name, tensor in fed.items() if name != "token_type_ids" or tensor.any()}
            return {"logits": head_logits(self._model(**given, return_dict=True))}

        (output,) = self._run([row], forward)
        return output

    def _run(self, rows: Sequence[Row], forward: Callable[..., Any]) -> list[RowOutput]:
        where = plan([row.num_tokens for row in rows], "padded", fixed_shapes=False)
        tensors = to_tensors(rows, where, self._graph, fixed_shapes=False)
        made = {name: torch.from_numpy(tensor).to(self._model.device) for name, tensor in tensors.items()}
        logits = forward(**made)["logits"].float().cpu().numpy()
        if self._output.axis == "marker":  # (rows, tokens, labels) -> (markers, labels)
            places = on_side(where, rows, self._graph)
            logits = np.concatenate(
                [
                    logits[line, place.start + np.array(row.markers)]
                    for line, (row, place) in enumerate(zip(rows, places, strict=True))
                ]
            )
        return split([logits], rows, where, self._graph)


def padded_graph(model: Any, output: Output) -> Graph:
    """What the torch model itself takes, in the words of a manifest."""
    accepted = accepted_inputs(model)
    inputs: list[str] = [name for name in ("input_ids", "attention_mask") if name in accepted]
    if takes_token_types(model):
        inputs.append("token_type_ids")
    return Graph(
        file="model.onnx",
        layout="padded",
        inputs=tuple(inputs),
        outputs=(output,),
        pad_token_id=padding_id(model.config),
        padding_side=getattr(model.config, PADDING_SIDE, "right"),
        storage="fp32",
    )
