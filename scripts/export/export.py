"""A transformers model becomes an ONNX graph, packed where its architecture allows, else padded, and is compared with torch."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch

from app.core.errors import HooperError, SetupError
from app.core.manifest import Graph
from app.core.types import Row, RowOutput
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.layout import plan, to_tensors
from app.runtime.providers import choose_provider
from app.tasks.tokenizer import Tokenizer
from scripts.export.eval_data import sample_examples
from scripts.export.layouts import (
    PADDING_SIDE,
    PackedModel,
    PaddedModel,
    graph_outputs,
    is_packable,
    longest_full_attention,
    padded_graph,
    padding_id,
    position_offset,
    takes_token_types,
    token_outputs,
)
from scripts.export.optimize import optimize
from scripts.export.pooling import restore_pooling
from scripts.export.torch_reference import TorchRunner
from scripts.tasks.spec import Axis, TrainingTask
from scripts.training.evaluation import encode_all, largest_error
from scripts.training.run_folder import stop_if_refused

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # optimum warns of its own future while it is imported
    from optimum.exporters.onnx import OnnxConfig, export
    from optimum.utils import NormalizedConfig

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
        rows: several of different lengths, of the kind that is served: some models look for their separators.

    Raises:
        ExportFailed: the architecture cannot become a graph.
    """
    packed = may_pack and is_packable(model)
    try:
        with quiet():
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
        outputs=graph_outputs(model, axis),
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
    return PackedModel(model, axis), _Config(model, axis, {name: examples[name] for name in names})


def _padded(model: Any, axis: Axis, side: Literal["right", "left"], rows: Sequence[Row]) -> tuple[PaddedModel, _Config]:
    graph = padded_graph(model, axis).model_copy(update={"padding_side": side})
    if axis == "position":
        graph = graph.model_copy(update={"inputs": (*graph.inputs, "gather")})
    placement = plan([row.num_tokens for row in rows], "padded", fixed_shapes=False)
    tensors = to_tensors(rows, placement, graph, fixed_shapes=False)
    return PaddedModel(model, axis), _Config(model, axis, {name: torch.from_numpy(tensors[name]) for name in graph.inputs})


class _Config(OnnxConfig):  # type: ignore[misc]
    """Tells optimum the inputs and outputs of a wrapped model."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig

    def __init__(self, model: Any, axis: Axis, examples: Mapping[str, torch.Tensor]) -> None:
        super().__init__(model.config, task="feature-extraction")
        self.examples, self.axis, self.token_outputs = examples, axis, token_outputs(model)

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {name: {0: "rows"} if name == "gather" else {0: "lines", 1: "tokens"} for name in self.examples}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        of_tokens = {0: "lines", 1: "tokens"}
        of_rows = {0: "rows" if "gather" in self.examples else "lines"}
        return {"logits": of_tokens if self.axis == "token" else of_rows, **dict.fromkeys(self.token_outputs, of_tokens)}

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
    restore_pooling(twin)
    return twin.eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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


TOLERANCE = 1e-4
"""Of a logit, or of the largest logit where that is more than 1: what summation order may do."""
NUM_ROWS = 10
SIDES: Sequence[Literal["right", "left"]] = ("right", "left")
EXPORTED, OPTIMIZED = "exported.onnx", "optimized.onnx"


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph that answers as its model does, whatever a row is computed with."""

    file: Path
    graph: Graph


def try_export(
    model: Any,
    training: TrainingTask,
    tokenizer: Tokenizer,
    task_options: Mapping[str, Any],
    folder: Path | None = None,
) -> Exported:
    """Take a model through export, optimization and ONNX Runtime on the built-in texts, before anything is spent on it.

    Args:
        model: a transformers model with a head, trained or not.
        folder: where the graph is kept; None: nowhere, and what was tried before, as every fold of a cross-validation was, is
            not tried again.

    Raises:
        ExportFailed: it cannot be served, and why.
    """
    try:
        rows = sample_rows(training, tokenizer, task_options)
        if folder is not None:
            return export_model(model, training.output_axis, rows, folder)
        return _try_once(model, training.output_axis, rows)
    except HooperError:
        raise
    except Exception as error:  # whatever it is: nothing was trained yet, and a sentence says more than a traceback
        stop_if_refused(error)
        raise ExportFailed(f"{describe(model)} cannot be served: {first_line(error)}") from error


NOTED = ("pad_token_id", PADDING_SIDE)
"""What a trial writes into a model's configuration."""
_TRIED: dict[str, tuple[Exported, dict[str, Any]]] = {}
"""Trials of this process, and what they noted, by all that decides them."""


def _try_once(model: Any, axis: Axis, rows: Sequence[Row]) -> Exported:
    key = _identity(model, axis, rows)
    if key not in _TRIED:
        # whether it was tried before must not change what is drawn next
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder, torch.random.fork_rng(devices=()):
            exported = export_model(model, axis, rows, Path(folder))
        _TRIED[key] = exported, {name: getattr(model.config, name, None) for name in NOTED}
    exported, noted = _TRIED[key]
    for name, value in noted.items():
        if value is not None:
            setattr(model.config, name, value)
    return exported


def _identity(model: Any, axis: Axis, rows: Sequence[Row]) -> str:
    """All that a trial follows from: architecture, configuration, every weight, and what is read."""
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    found = hashlib.blake2b(repr((type(model), config, axis, rows)).encode())
    for name, weights in model.state_dict().items():
        found.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
        found.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def sample_rows(training: TrainingTask, tokenizer: Tokenizer, task_options: Mapping[str, Any]) -> list[Row]:
    """Rows of the built-in texts: short, long, pairs, and of texts that need several windows."""
    serving = training.serving_task(tokenizer, task_options)
    items = [example.item for example in sample_examples(training)]
    return [row for encoded in encode_all(serving, training.serving_options(), items) for row in encoded.rows]


def note_padding(model: Any, axis: Axis, rows: Sequence[Row]) -> None:
    """Note on a model that only answers here, and need not be served, how its rows are padded."""
    with contextlib.suppress(ExportFailed):  # where answers depend on padding, the model is used as it is
        _torch_outputs(model, axis, spread(rows))


def export_model(model: Any, axis: Axis, rows: Sequence[Row], folder: Path) -> Exported:
    """The model as a graph, packed if rows stay apart in it, else padded.

    Args:
        model: a transformers model with a head.
        axis: what one output vector belongs to.
        rows: of many lengths; a few of them are drawn.
        folder: where the graph is written.

    Raises:
        ExportFailed: no layout gives what transformers gives for each row alone.
    """
    sample = [replace(row, extra_outputs=token_outputs(model)) for row in spread(rows)]
    was_training = model.training
    try:
        expected, side = _torch_outputs(model, axis, sample)
        reasons = []
        for may_pack in (True, False) if is_packable(model) else (False,):
            try:
                return _export_as(model, axis, sample, expected, folder, may_pack, side)
            except HooperError as error:
                reasons.append(error.detail)
    finally:
        model.train(was_training)
    raise ExportFailed(reasons[-1])


def spread(rows: Sequence[Row], count: int = NUM_ROWS) -> list[Row]:
    """Rows from the shortest to the longest, half of them with two sequences where there are such."""
    ordered = sorted(rows, key=lambda row: row.num_tokens)
    pairs = [row for row in ordered if any(row.token_type_ids)]
    singles = [row for row in ordered if not any(row.token_type_ids)]
    return [*_evenly(singles, count if not pairs else count // 2), *_evenly(pairs, count if not singles else count // 2)]


def _evenly(rows: Sequence[Row], count: int) -> Iterator[Row]:
    """The first, the last, and others at equal distances."""
    return (rows[round(place)] for place in np.linspace(0, len(rows) - 1, min(count, len(rows))))


def _torch_outputs(model: Any, axis: Axis, rows: Sequence[Row]) -> tuple[list[RowOutput], Literal["right", "left"]]:
    """What transformers gives for each row alone, and on which side rows can be padded."""
    name = describe(model)
    try:
        runner = TorchRunner(model, axis)
        expected = [runner.run_alone(row) for row in rows]
    except Exception as error:  # whatever the model's own code raises
        raise ExportFailed(
            f"{name} cannot be served: transformers itself stops at a plain text ({first_line(error)})"
        ) from error
    if model.config.pad_token_id is None:
        model.config.pad_token_id = padding_id(model.config)
    moved = []
    for side in SIDES:
        setattr(model.config, PADDING_SIDE, side)
        try:
            together = TorchRunner(model, axis).run_together(rows)
        except Exception as error:  # as above
            raise ExportFailed(
                f"{name} cannot be served: transformers itself stops at several texts ({first_line(error)})"
            ) from error
        moved.append(_distance(expected, together))
        if moved[-1] <= TOLERANCE:
            if side == "right":
                delattr(model.config, PADDING_SIDE)
            return expected, side
    delattr(model.config, PADDING_SIDE)
    raise ExportFailed(
        f"{name} cannot be served: its answer to a text depends on the texts that are computed with it, also in transformers"
        f" (padding moved a logit by {min(moved):.2g})"
    )


def _export_as(
    model: Any,
    axis: Axis,
    rows: Sequence[Row],
    expected: Sequence[RowOutput],
    folder: Path,
    may_pack: bool,
    side: Literal["right", "left"],
) -> Exported:
    name = describe(model)
    examples = [*rows[1:3], *rows, *rows][:2]  # two of them, even where there is a single row: see EXAMPLES
    graph = export_graph(model, axis, folder / EXPORTED, may_pack, side, examples)
    try:
        optimize(folder / EXPORTED, folder / OPTIMIZED)
        unread = sorted(set(graph.inputs) - _input_names(folder / OPTIMIZED))
        if unread:
            raise ExportFailed(f"{name} becomes an ONNX graph that does not read {' and '.join(unread)}")
        session = EncoderEngine(folder / OPTIMIZED, graph, choose_provider("cpu"))
        distance = _distance(expected, [session.run_together([row])[0] for row in rows])
        together = _distance(expected, session.run_together(rows))
    except ExportFailed:
        raise
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types
        raise ExportFailed(f"{name} becomes an ONNX graph that cannot be run for every text: {_cause(error)}") from error
    if not distance <= TOLERANCE:
        raise ExportFailed(
            f"{name} becomes an ONNX graph that answers otherwise than transformers (a logit differs by {distance:.2g})"
        )
    if not together <= TOLERANCE:
        raise ExportFailed(
            f"{name} becomes an ONNX graph in which a text's answer depends on the texts beside it"
            f" (a logit moved by {together:.2g})"
        )
    return Exported(folder / OPTIMIZED, graph)


def _input_names(file: Path) -> set[str]:
    """What a graph takes."""
    return {value.name for value in onnx.load(file, load_external_data=False).graph.input}


def _distance(expected: Sequence[RowOutput], outputs: Sequence[RowOutput]) -> float:
    """The largest error, in parts of the largest logit where that is more than 1; NaN where any error is."""
    scale = max(1.0, *(float(np.abs(values).max(initial=0.0)) for output in expected for values in output.values()))
    return largest_error(expected, outputs) / scale


def _cause(error: Exception) -> str:
    """In words; ONNX Runtime tells the places in its own sources, too."""
    node = re.search(r"while running (\w+) node", str(error))
    return f"its operator {node[1]} fails in ONNX Runtime" if node else first_line(error)
