"""TorchRunner: the fp32 torch model as a runner, the reference that every published graph must reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from app.core.manifest import Graph, Output
from app.core.types import Row, RowOutput
from app.runtime.layout import plan, split, to_tensors
from scripts.offline.batches import token_batches


class TorchRunner:
    """Runs rows through a transformers model with a head, padded, in fp32.

    Takes the graph of the ONNX counterpart for its padding id and outputs; layout and inputs are the torch model's own.
    """

    def __init__(self, model: Any, graph: Graph) -> None:
        self._model = model.float().eval()
        self._output = graph.outputs[0]
        self._graph = padded_graph(model, self._output)

    @torch.no_grad()
    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Outputs of the rows, in their order; batched by length under a token budget."""
        outputs: list[RowOutput] = [{}] * len(rows)
        for batch in token_batches(rows):
            for index, output in zip(batch, self._run([rows[i] for i in batch]), strict=True):
                outputs[index] = output
        return outputs

    def _run(self, rows: Sequence[Row]) -> list[RowOutput]:
        where = plan([row.num_tokens for row in rows], "padded", fixed_shapes=False)
        tensors = to_tensors(rows, where, self._graph, fixed_shapes=False)
        made = {name: torch.from_numpy(tensor).to(self._model.device) for name, tensor in tensors.items()}
        logits = head_logits(self._model(**made)).float().cpu().numpy()
        if self._output.axis == "marker":  # (rows, tokens, labels) -> (markers, labels)
            logits = np.concatenate([logits[line, list(row.markers)] for line, row in enumerate(rows)])
        return split([logits], rows, where, self._graph)


def padded_graph(model: Any, output: Output) -> Graph:
    """What the torch model itself takes, in the words of a manifest."""
    inputs = ["input_ids", "attention_mask"]
    # where the tokenizer has no token types they are 0, as a model takes them that is given none
    if getattr(model.config, "type_vocab_size", 0) > 1 or model.config.model_type == "xlnet":
        inputs.append("token_type_ids")
    return Graph(
        file="model.onnx",
        layout="padded",
        inputs=tuple(inputs),
        outputs=(output,),
        pad_token_id=model.config.pad_token_id or 0,
        storage="fp32",
    )


def head_logits(outputs: Any) -> torch.Tensor:
    """What the head gave, whatever transformers calls it."""
    if "logits" in outputs:
        logits: torch.Tensor = outputs["logits"]
        return logits
    return torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1)  # question answering: (rows, tokens, 2)
