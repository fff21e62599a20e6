"""export: a fine-tuned torch model becomes an ONNX graph, packed where its architecture allows, else padded."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # optimum warns of its own future while it is imported
    from optimum.exporters.onnx import OnnxConfig, export
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import NormalizedConfig

from app.core.errors import SetupError
from app.core.manifest import Graph, Output
from scripts.offline.packed import PackedModel, is_packable, position_offset
from scripts.offline.tasks.base import Axis

OPSET = 17
"""The newest that every engine in sight reads, and the first with LayerNormalization as one operator."""
LAYOUT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
TASKS: Mapping[Axis, str] = {"row": "text-classification", "token": "token-classification"}


class ExportFailed(SetupError):
    """The model's architecture cannot become a graph."""

    type = "export_failed"


def export_graph(model: Any, axis: Axis, file: Path, may_pack: bool = True) -> Graph:
    """Write the model to `file` in standard ONNX operators, all axes dynamic.

    Args:
        model: a transformers model with a head.
        axis: what one output vector belongs to; see `app.core.manifest.Output`.
        file: what is written.
        may_pack: without it, the graph is the one that optimum writes for everybody.

    Raises:
        ExportFailed: the architecture is unknown to the exporter, or takes inputs that no layout makes.
    """
    packed = may_pack and is_packable(model.config)
    with _quiet():
        plain = _eager_copy(model)
        inputs = _export_packed(plain, axis, file) if packed else _export_padded(plain, axis, file)
    return Graph(
        file=file.name,
        layout="packed" if packed else "padded",
        inputs=tuple(inputs),
        outputs=(Output(name="logits", axis=axis),),
        pad_token_id=model.config.pad_token_id or 0,
        position_offset=position_offset(model.config) if packed else 0,
        storage="fp32",
    )


class _PackedConfig(OnnxConfig):  # type: ignore[misc]
    """Tells optimum the inputs and outputs of a `PackedModel`."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig

    def __init__(self, config: Any, axis: Axis) -> None:
        super().__init__(config, task=TASKS.get(axis, "token-classification"))
        self.axis = axis

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        names = ["input_ids", "position_ids", "segment_ids"]
        if getattr(self._config, "type_vocab_size", 0) > 1:
            names.append("token_type_ids")
        axes: dict[str, dict[int, str]] = {name: {0: "lines", 1: "tokens"} for name in names}
        return axes if self.axis == "token" else {**axes, "gather": {0: "rows"}}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"logits": {0: "lines", 1: "tokens"} if self.axis == "token" else {0: "rows"}}

    def generate_dummy_inputs(self, framework: str = "pt", **shapes: Any) -> dict[str, Any]:
        """Two lines with three rows and padding: one of anything would be baked into the graph as a constant."""
        segments = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [3, 3, 3, 3, 3, 3, 0]])
        offset = position_offset(self._config)
        positions = torch.tensor([[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5, 0]]) + offset
        made = {
            "input_ids": torch.tensor([[2, 5, 3, 2, 3, 0, 0], [2, 4, 5, 4, 6, 3, 0]]),
            "position_ids": positions,
            "segment_ids": segments,
            "token_type_ids": (segments == 2).long(),
            "gather": torch.tensor([0, 3, 7]),
        }
        return {name: made[name] if framework == "pt" else made[name].numpy() for name in self.inputs}


def _export_packed(model: Any, axis: Axis, file: Path) -> list[str]:
    inputs, _ = export(PackedModel(model, axis), _PackedConfig(model.config, axis), file, opset=OPSET)
    return list(inputs)


def _export_padded(model: Any, axis: Axis, file: Path) -> list[str]:
    kind, name = model.config.model_type, type(model).__name__
    if axis not in TASKS or "QuestionAnswering" in name:
        raise ExportFailed(f"{name} ({kind}) can only be exported padded, and padded graphs of axis {axis} are not written yet")
    try:
        make = TasksManager.get_exporter_config_constructor("onnx", model, task=TASKS[axis], library_name="transformers")
    except (KeyError, ValueError) as error:
        raise ExportFailed(f"optimum cannot export {name} ({kind}): {error}") from error
    inputs, outputs = export(model, make(model.config), file, opset=OPSET)
    strange = set(inputs) - LAYOUT_INPUTS
    if strange or outputs != ["logits"]:
        raise ExportFailed(f"{name} ({kind}) takes {', '.join(inputs)} and gives {', '.join(outputs)}, which no layout makes")
    return list(inputs)


def _eager_copy(model: Any) -> Any:
    """The model with attention in plain matrix products, which every engine understands and can fuse."""
    twin = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager", dtype=torch.float32)
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
