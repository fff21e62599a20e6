"""export: a fine-tuned torch model becomes an ONNX graph, packed where its architecture allows, else padded."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # optimum warns of its own future while it is imported
    from optimum.exporters.onnx import OnnxConfig, export
    from optimum.utils import NormalizedConfig

from app.core.errors import SetupError
from app.core.manifest import Graph, Output
from app.core.types import Row
from app.runtime.layout import plan, to_tensors
from scripts.export.packed import PackedModel, is_packable
from scripts.export.padded import PaddedModel
from scripts.export.positions import longest_full_attention, padding_id, position_offset, takes_token_types
from scripts.tasks.base import Axis
from scripts.training.run_folder import stop_if_refused

OPSET = 17
"""The newest that every engine in sight reads, and the first with LayerNormalization as one operator."""
EXAMPLES = (Row([2, 4, 5, 6, 4, 5, 6, 4, 3], [0] * 5 + [1] * 4, (0, 5)), Row([2, 6, 5, 4, 3], [0] * 5))
"""Rows of a padded graph's example: several of everything, since one of anything would be baked in as a constant."""


class ExportFailed(SetupError):
    """The model's architecture cannot become a graph."""

    type = "export_failed"


def export_graph(
    model: Any,
    axis: Axis,
    file: Path,
    may_pack: bool = True,
    padding_side: Literal["right", "left"] = "right",
    rows: Sequence[Row] = EXAMPLES,
) -> Graph:
    """Write the model to `file` in standard ONNX operators, all axes dynamic.

    Args:
        model: a transformers model with a head.
        axis: what one output vector belongs to; see `app.core.manifest.Output`.
        file: what is written; large weights lie beside it where it would pass protobuf's limit.
        may_pack: without it, rows are padded.
        padding_side: of a padded graph's tensors.
        rows: several of different lengths, of the kind that is served: some models look for their separators.

    Raises:
        ExportFailed: the architecture cannot become a graph.
    """
    packed = may_pack and is_packable(model)
    try:
        with _quiet():
            plain = _eager_copy(model)
            wrapped, config = _packed(plain, axis) if packed else _padded(plain, axis, padding_side, rows)
            inputs, _ = export(wrapped, config, file, opset=OPSET)
    except Exception as error:  # an exporter raises whatever the model's own code, torch or ONNX do
        stop_if_refused(error)
        raise ExportFailed(f"{describe(model)} cannot become an ONNX graph: {first_line(error)}") from error
    return Graph(
        file=file.name,
        layout="packed" if packed else "padded",
        inputs=tuple(inputs),
        outputs=(Output(name="logits", axis=axis),),
        pad_token_id=padding_id(model.config),
        position_offset=position_offset(model) if packed else 0,
        padding_side="right" if packed else padding_side,
        storage="fp32",
    )


def describe(model: Any) -> str:
    """As in `BertForSequenceClassification (bert)`."""
    return f"{type(model).__name__} ({model.config.model_type})"


def _packed(model: Any, axis: Axis) -> tuple[PackedModel, _Config]:
    """With examples of two lines with three rows and padding: one of anything would be baked into the graph as a constant."""
    segments = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [3, 3, 3, 3, 3, 3, 0]])
    examples = {
        "input_ids": torch.tensor([[2, 5, 3, 2, 3, 0, 0], [2, 4, 5, 4, 6, 3, 0]]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5, 0]]) + position_offset(model),
        "segment_ids": segments,
        "token_type_ids": (segments == 2).long(),
        "gather": torch.tensor([0, 3, 7]),
    }
    left_out = {name for name, out in (("token_type_ids", not takes_token_types(model)), ("gather", axis == "token")) if out}
    names = [name for name in examples if name not in left_out]
    return PackedModel(model, axis), _Config(model.config, axis, {name: examples[name] for name in names})


def _padded(model: Any, axis: Axis, side: Literal["right", "left"], rows: Sequence[Row]) -> tuple[PaddedModel, _Config]:
    wrapped = PaddedModel(model, axis)
    graph = Graph(
        file="examples",
        layout="padded",
        inputs=tuple(wrapped.inputs),
        outputs=(Output(name="logits", axis=axis),),
        pad_token_id=padding_id(model.config),
        padding_side=side,
        storage="fp32",
    )
    where = plan([row.num_tokens for row in rows], "padded", fixed_shapes=False)
    tensors = to_tensors(rows, where, graph, fixed_shapes=False)
    return wrapped, _Config(model.config, axis, {name: torch.from_numpy(tensor) for name, tensor in tensors.items()})


class _Config(OnnxConfig):  # type: ignore[misc]
    """Tells optimum the inputs and outputs of a wrapped model."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig

    def __init__(self, config: Any, axis: Axis, examples: Mapping[str, torch.Tensor]) -> None:
        super().__init__(config, task="text-classification" if axis == "row" else "token-classification")
        self.examples, self.axis = examples, axis

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {name: {0: "rows"} if name == "gather" else {0: "lines", 1: "tokens"} for name in self.examples}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        if self.axis == "token":
            return {"logits": {0: "lines", 1: "tokens"}}
        return {"logits": {0: "rows" if "gather" in self.examples else "lines"}}

    def generate_dummy_inputs(self, framework: str = "pt", **shapes: Any) -> dict[str, Any]:
        return {name: tensor if framework == "pt" else tensor.numpy() for name, tensor in self.examples.items()}


def _eager_copy(model: Any) -> Any:
    """The model with attention in plain matrix products, which every engine understands and can fuse."""
    config = copy.deepcopy(model.config)
    config.pad_token_id = padding_id(config)
    if longest_full_attention(config) is not None:
        config.attention_type = "original_full"
    for name, value in (("reference_compile", False), ("onnx_export", True)):
        if hasattr(config, name):
            setattr(config, name, value)
    twin = type(model)._from_config(config, attn_implementation="eager", dtype=torch.float32)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of every Python branch, and optimum writes to the terminal; neither helps who trains."""
    loggers = [logging.getLogger(name) for name in ("optimum", "transformers", "torch.onnx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def first_line(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
