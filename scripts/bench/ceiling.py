"""What could be reached at best: the engine without a service around it, and matrix products without a model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from app.batching.policy import Budget
from app.core.errors import ProviderUnavailable
from app.core.manifest import read_manifest
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine, open_engines
from app.runtime.providers import DeviceWish, PrecisionWish, choices_of_auto, choose_provider, for_model, has_int8
from app.tasks.base import Encoded
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.tokenizer import Tokenizer

PRODUCT = (1024, 384, 1536)
"""Rows, inner and columns of the matrix product that is timed: the widest of a MiniLM, over a batch of 1,024 tokens."""
FloatName = Literal["fp32", "fp16"]
"""Arithmetic of a matrix product that is timed."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The engine alone, on batches as full as the budget allows."""

    texts_per_s: float
    tokens_per_s: float
    gflop_per_s: float
    """Of the model's own matrix products: 2 per weight and token, attention and embeddings left out."""


def engine_ceiling(
    folder: Path,
    texts: Sequence[str],
    device: DeviceWish,
    threads: int,
    max_tokens: int,
    max_rows: int,
    seconds: float,
    precision: PrecisionWish = "auto",
) -> Ceiling:
    """Rows tokenized beforehand, in the order of the texts, through the production sessions in full batches: one after the
    other with every thread or, where the service does so, side by side, whichever is faster."""
    manifest = read_manifest(folder)
    rows = rows_of(folder, texts)
    first = choose_provider(device)
    first = choices_of_auto(first, manifest)[0] if device == "auto" else first
    provider = for_model(first, manifest, has_int8(), precision)
    sessions = open_engines(folder / manifest.graph.file_for(provider.precision), manifest.graph, provider, threads)
    budget = Budget.for_tensors(max_tokens, max_rows, manifest.graph.layout)
    found = [_together([sessions.exclusive], rows, budget, seconds)]
    if sessions.parallel:
        found.append(_together(sessions.parallel, rows, budget.shared(len(sessions.parallel), 1, max_tokens), seconds))
    num_rows, num_tokens, took = max(found, key=lambda one: one[0] / one[2])
    flop_per_token = 2 * num_multiplied_weights(folder / manifest.graph.file)
    return Ceiling(num_rows / took, num_tokens / took, flop_per_token * num_tokens / took / 1e9)


def rows_of(folder: Path, texts: Sequence[str]) -> list[Row]:
    """What a model that classifies is asked for these texts."""
    manifest = read_manifest(folder)
    tokenizer = Tokenizer((folder / manifest.tokenizer).read_text(encoding="utf-8"), manifest.max_tokens)
    task = TextClassification(tokenizer, **manifest.task_options)
    encoded = task.encode([ClassificationItem(text) for text in texts], ClassificationOptions())
    return [row for one in encoded if isinstance(one, Encoded) for row in one.rows]


def num_multiplied_weights(graph_file: Path) -> int:
    """Elements of a graph's matrices, tables that are only looked up left out."""
    import onnx

    graph = onnx.load(graph_file).graph
    makers = {output: node for node in graph.node for output in node.output}
    looked_up = {
        name
        for node in graph.node
        if node.op_type == "Gather"
        for name in (node.input[0], *(makers[node.input[0]].input if node.input[0] in makers else ()))
    }
    return sum(int(np.prod(one.dims)) for one in graph.initializer if len(one.dims) == 2 and one.name not in looked_up)


def matrix_ceiling(
    threads: int, seconds: float, device: Literal["cpu", "cuda"] = "cpu", precision: FloatName = "fp32", rows: int = PRODUCT[0]
) -> float:
    """GFLOP/s of one matrix product through ONNX Runtime, its operands and its result on the device.

    Raises:
        ProviderUnavailable: ONNX Runtime does not use CUDA.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper, save

    _, inner, columns = PRODUCT
    kind, number = (TensorProto.FLOAT, np.float32) if precision == "fp32" else (TensorProto.FLOAT16, np.float16)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kind, [rows, inner])],
        [helper.make_tensor_value_info("c", kind, [rows, columns])],
        [numpy_helper.from_array(np.ones((inner, columns), number), "b")],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "product.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), file)
        session = onnxruntime.InferenceSession(file, options, providers=_chain(device))
    if _chain(device)[0][0] not in session.get_providers():
        raise ProviderUnavailable(f"a matrix product does not run on {device} here")
    make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    given, product = make([rows, inner], number, device, 0), make([rows, columns], number, device, 0)
    given.update_inplace(np.ones((rows, inner), number))
    binding = session.io_binding()
    binding.bind_ortvalue_input("a", given)
    binding.bind_ortvalue_output("c", product)
    times, _, took = _repeat([[0]], lambda _: session.run_with_iobinding(binding), seconds)
    return 2 * rows * inner * columns * times / took / 1e9


def _chain(device: Literal["cpu", "cuda"]) -> list[tuple[str, dict[str, str]]]:
    if device == "cpu":
        return [("CPUExecutionProvider", {})]
    import onnxruntime

    onnxruntime.preload_dlls()
    return [("CUDAExecutionProvider", {"use_tf32": "0"})]


def _together(sessions: Sequence[EncoderEngine], rows: Sequence[Row], budget: Budget, seconds: float) -> tuple[int, int, float]:
    """Every session running batches at the same time; rows and tokens of all, and seconds."""
    batches = list(batches_of(rows, budget))
    with ThreadPoolExecutor(len(sessions)) as threads:
        ran = list(threads.map(lambda one: _repeat(batches, one.run_rows, seconds), sessions))
    num_rows, num_tokens, took = (sum(column) for column in zip(*ran, strict=True))
    return int(num_rows), int(num_tokens), took / len(sessions)


def batches_of(rows: Sequence[Row], budget: Budget) -> Iterator[list[Row]]:
    """Rows in their order, in batches as full as the budget allows."""
    batch: list[Row] = []
    longest = total = 0
    for row in rows:
        cost = budget.cost(len(batch) + 1, max(longest, row.num_tokens), total + row.num_tokens)
        if batch and (cost > budget.max_batch_tokens * budget.filled_share or len(batch) == budget.max_batch_rows):
            yield batch
            batch, longest, total = [], 0, 0
        batch.append(row)
        longest, total = max(longest, row.num_tokens), total + row.num_tokens
    yield batch


def _repeat(batches: Sequence[Sequence[Any]], run: Callable[[Any], Any], seconds: float) -> tuple[int, int, float]:
    """Run batches in turn for some seconds.

    Returns:
        Rows, tokens and seconds.
    """
    run(batches[0])
    num_rows = num_tokens = index = 0
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        batch = batches[index % len(batches)]
        run(batch)
        num_rows += len(batch)
        num_tokens += sum(row.num_tokens for row in batch if isinstance(row, Row))
        index += 1
    return num_rows, num_tokens, took
