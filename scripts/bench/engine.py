"""What could be reached at best: the engine without a service around it, and matrix products without a model."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from app.batching.policy import Budget
from app.core.errors import ProviderUnavailable
from app.core.manifest import Manifest, read_manifest
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine, open_engines
from app.runtime.providers import (
    DeviceChoice,
    PrecisionChoice,
    Provider,
    choices_of_auto,
    choose_provider,
    for_model,
    integer_precisions,
)
from app.tasks.tokenizer import Tokenizer

PRODUCT = (1024, 384, 1536)
"""Rows, inner and columns of the matrix product that is timed: the widest of a MiniLM, over a batch of 1,024 tokens."""
MAX_CAPTURED_BATCHES = 16
"""With CUDA graphs so few batches are run in turn that the shapes of all can be captured before the clock starts."""


@dataclass(frozen=True, slots=True)
class EngineRate:
    """The engine alone, on batches as full as the budget allows."""

    texts_per_s: float
    tokens_per_s: float
    gflop_per_s: float | None
    """Of the model's own matrix products: 2 per weight and token, attention and embeddings left out; None without `onnx`."""


def can_read_graphs() -> bool:
    """Whether `onnx` is installed (the extra `train`): weights are counted and a matrix product is made with it."""
    return find_spec("onnx") is not None


def provider_for(manifest: Manifest, device: DeviceChoice, precision: PrecisionChoice) -> Provider:
    """What the service would compute with, `HOOPER_CUDA_GRAPHS` included."""
    first = choose_provider(device)
    first = choices_of_auto(first, manifest)[0] if device == "auto" else first
    provider = for_model(first, manifest, integer_precisions(), precision)
    captures = device == "cuda" and os.environ.get("HOOPER_CUDA_GRAPHS", "").lower() in ("1", "true", "yes", "on")
    return provider.capturing() if captures else provider


def measure_engine(
    folder: Path, texts: Sequence[str], provider: Provider, threads: int, max_tokens: int, max_rows: int, seconds: float
) -> EngineRate:
    """Rows tokenized beforehand, in the order of the texts, through the production engines in full batches: one after the
    other with every thread or, where the service does so, in parallel, whichever is faster."""
    manifest = read_manifest(folder)
    rows = rows_of(folder, texts)
    engines = open_engines(folder / manifest.graph.file_for(provider.precision), manifest.graph, provider, threads)
    budget = Budget.for_tensors(max_tokens, max_rows, manifest.graph.layout)
    rates = [_run_together([engines.exclusive], rows, budget, seconds, provider.captures)]
    if engines.parallel:
        shared = budget.shared(len(engines.parallel), 1, max_tokens)
        rates.append(_run_together(engines.parallel, rows, shared, seconds, provider.captures))
    texts_per_s, tokens_per_s = max(rates)
    flop = 2 * num_multiplied_weights(folder / manifest.graph.file) if can_read_graphs() else None
    return EngineRate(texts_per_s, tokens_per_s, None if flop is None else flop * tokens_per_s / 1e9)


def rows_of(folder: Path, texts: Sequence[str]) -> list[Row]:
    """One row for each text, cut to the model's length."""
    manifest = read_manifest(folder)
    windows = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens).windows(texts)
    return [Row(first.input_ids, first.token_type_ids) for first, *_ in windows]


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


def _run_together(
    engines: Sequence[EncoderEngine], rows: Sequence[Row], budget: Budget, seconds: float, captures: bool
) -> tuple[float, float]:
    """Every engine running batches at the same time: texts and tokens a second of all."""
    batches = list(batches_of(rows, budget))
    # shapes are met in the first run, captured in the second, replayed from the third on
    batches, num_warm_up = (batches[:MAX_CAPTURED_BATCHES], 3 * MAX_CAPTURED_BATCHES) if captures else (batches, 1)
    sizes = [(len(batch), sum(row.num_tokens for row in batch)) for batch in batches]
    with ThreadPoolExecutor(len(engines)) as threads:
        runs = list(threads.map(lambda engine: _repeat(batches, engine.run_rows, seconds, num_warm_up), engines))
    per_s = [
        sum(sum(sizes[number % len(sizes)][what] for number in range(num_runs)) / took for num_runs, took in runs)
        for what in (0, 1)
    ]
    return per_s[0], per_s[1]


def _repeat(batches: Sequence[Any], run: Callable[[Any], object], seconds: float, num_warm_up: int = 1) -> tuple[int, float]:
    """Run batches in turn for some seconds: how many, and the seconds."""
    for number in range(num_warm_up):
        run(batches[number % len(batches)])
    num_runs, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds or not num_runs:
        run(batches[num_runs % len(batches)])
        num_runs += 1
    return num_runs, took or time.perf_counter() - began


def num_multiplied_weights(graph_file: Path) -> int:
    """Elements of a graph's matrices, tables that are only looked up left out."""
    import onnx

    graph = onnx.load(graph_file).graph
    producers = {output: node for node in graph.node for output in node.output}
    tables = set()
    for node in graph.node:
        if node.op_type == "Gather":
            table = node.input[0]
            tables |= {table, *(producers[table].input if table in producers else ())}
    return sum(int(np.prod(weight.dims)) for weight in graph.initializer if len(weight.dims) == 2 and weight.name not in tables)


def matrix_gflop_per_s(threads: int, seconds: float, provider: Provider) -> float:
    """Of one matrix product through ONNX Runtime on the provider's device, in fp16 where the provider computes in it, else in
    fp32; operands and result stay on the device.

    Raises:
        ProviderUnavailable: ONNX Runtime does not use CUDA.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper, save

    rows, inner, columns = PRODUCT
    kind, number = (TensorProto.FLOAT16, np.float16) if provider.precision == "fp16" else (TensorProto.FLOAT, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kind, [rows, inner])],
        [helper.make_tensor_value_info("c", kind, [rows, columns])],
        [numpy_helper.from_array(np.ones((inner, columns), number), "b")],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    device, chain = "cpu", [("CPUExecutionProvider", dict[str, str]())]
    if provider.device in ("cuda", "tensorrt"):
        onnxruntime.preload_dlls()
        device, chain = "cuda", [("CUDAExecutionProvider", {"use_tf32": "0"})]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "product.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), file)
        session = onnxruntime.InferenceSession(file, options, providers=chain)
    if chain[0][0] not in session.get_providers():
        raise ProviderUnavailable("ONNX Runtime does not use CUDA here")
    value = onnxruntime.OrtValue
    binding = session.io_binding()
    binding.bind_ortvalue_input("a", value.ortvalue_from_numpy(np.ones((rows, inner), number), device, 0))
    binding.bind_ortvalue_output("c", value.ortvalue_from_shape_and_type([rows, columns], number, device, 0))
    num_runs, took = _repeat([binding], session.run_with_iobinding, seconds)
    return 2 * rows * inner * columns * num_runs / took / 1e9
