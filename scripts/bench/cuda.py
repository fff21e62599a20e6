"""The engine alone on a GPU: precisions, CUDA graphs, layouts and batch sizes beside the device's own matrix products.

    python -m scripts.bench.cuda --output scripts/bench/results/cuda.json

Runs on a CPU too (`--device cpu`, without CUDA graphs), to show that it runs. Front ends before a GPU:
`python -m scripts.bench.front_ends --device cuda`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.batching.policy import Budget
from app.core.errors import HooperError
from app.core.exit_codes import EXIT_SETUP
from app.core.manifest import Graph, Manifest, read_manifest
from app.core.types import Ints, LayoutName, Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.onnx_session import FoldedGraph, InputInfo, OrtSession, open_session
from app.runtime.providers import DeviceWish, PrecisionWish, Provider, choose_provider, for_model, has_int8
from scripts.bench.ceiling import FloatName, batches_of, matrix_ceiling, num_multiplied_weights, rows_of
from scripts.bench.report import machine_before, write_json
from scripts.bench.texts import PROFILES, profile_texts

MOST_ROWS = 4096
MOST_BATCHES = 16
"""Different batches that are run in turn: few, so that all their shapes are captured before the clock starts."""
WARMING_RUNS = 3
"""Of each batch: shapes are met in the first, captured in the second, replayed from the third on."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of running the model."""

    precision: str
    cuda_graphs: bool
    layout: LayoutName
    max_batch_tokens: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What it reached."""

    variant: Variant
    rows_a_batch: float
    padding: float
    """Share of the computed tokens that are none."""
    texts_per_s: float
    tokens_per_s: float
    """Of texts, not of padding."""
    engine_share: float
    """Of the time, how much ONNX Runtime took; the rest is rows to tensors and back, in Python."""
    engine_gflop_per_s: float
    """Of the model's own matrix products, while ONNX Runtime ran: 2 per weight and token, attention and embeddings left out."""
    share_of_matrix: float
    """Of what one matrix product of as many rows as the batch has tokens reaches, in the same precision (int8: in fp32)."""


class Timed:
    """An engine that counts the seconds of its runs, and the tokens that it computes, padding included."""

    def __init__(self, engine: OrtSession) -> None:
        self._engine = engine
        self.start_again()

    def start_again(self) -> None:
        self.seconds, self.num_tokens = 0.0, 0

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: Any, /) -> Sequence[np.ndarray]:
        began = time.perf_counter()
        answered = self._engine.run(outputs, tensors, options)
        self.seconds += time.perf_counter() - began
        self.num_tokens += tensors["input_ids"].size
        return answered

    def get_inputs(self) -> Sequence[InputInfo]:
        return self._engine.get_inputs()

    def get_providers(self) -> list[str]:
        return self._engine.get_providers()


class Bench:
    """One model on one device."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.manifest, self.options = folder, read_manifest(folder), options
        self.rows = rows_of(folder, profile_texts(options.profile))
        self.flop_per_token = 2 * num_multiplied_weights(folder / self.manifest.graph.file)

    def rates(self) -> Iterator[Rate]:
        """Every way of running it, smallest batches first.

        Raises:
            ProviderUnavailable: the device is not there.
        """
        for budget in self.options.budgets:
            for provider in providers(self.options.device, self.manifest):
                matrix = self.matrix(provider, budget)
                for layout in layouts(self.manifest.graph):
                    variant = Variant(provider.precision, provider.captures, layout, budget)
                    yield self.rate(variant, provider, matrix)

    def matrix(self, provider: Provider, rows: int) -> float:
        """GFLOP/s of a matrix product of so many rows."""
        precision: FloatName = "fp16" if provider.precision == "fp16" else "fp32"
        return matrix_ceiling(self.options.threads, self.options.seconds / 4, self.options.device, precision, rows)

    def rate(self, variant: Variant, provider: Provider, matrix: float) -> Rate:
        timed: list[Timed] = []

        def session_factory(*given: Any) -> OrtSession:
            timed.append(Timed(open_session(*given)))
            return timed[0]

        graph = self.manifest.graph.model_copy(update={"layout": variant.layout})
        session = EncoderEngine(
            self.folder / graph.file_for(provider.precision), graph, provider, self.options.threads, session_factory
        )
        batches = filled(self.rows, Budget.for_tensors(variant.max_batch_tokens, MOST_ROWS, variant.layout))
        for batch in batches * WARMING_RUNS:
            session.run_rows(batch)
        timed[0].start_again()
        ran, took = run_in_turn(session, batches, self.options.seconds)
        return rate_of(variant, timed[0], ran, took, self.flop_per_token, matrix)


def run_in_turn(session: EncoderEngine, batches: Sequence[list[Row]], seconds: float) -> tuple[list[list[Row]], float]:
    """Each batch at least once, for some seconds.

    Returns:
        The batches that were run, and how many seconds it took.
    """
    ran: list[list[Row]] = []
    began = time.perf_counter()
    while len(ran) < len(batches) or time.perf_counter() - began < seconds:
        ran.append(batches[len(ran) % len(batches)])
        session.run_rows(ran[-1])
    return ran, time.perf_counter() - began


def rate_of(variant: Variant, engine: Timed, ran: Sequence[list[Row]], took: float, flop_per_token: int, matrix: float) -> Rate:
    """
    Args:
        engine: what ran the batches.
        ran, took: the batches, and how many seconds they took.
        flop_per_token: of the model.
        matrix: GFLOP/s of the matrix product that is the measure.
    """
    num_rows, num_tokens = sum(map(len, ran)), sum(row.num_tokens for batch in ran for row in batch)
    gflop_per_s = flop_per_token * num_tokens / engine.seconds / 1e9
    return Rate(
        variant,
        rows_a_batch=round(num_rows / len(ran), 1),
        padding=round(1 - num_tokens / engine.num_tokens, 3),
        texts_per_s=round(num_rows / took, 1),
        tokens_per_s=round(num_tokens / took, 1),
        engine_share=round(engine.seconds / took, 3),
        engine_gflop_per_s=round(gflop_per_s, 1),
        share_of_matrix=round(gflop_per_s / matrix, 3),
    )


def providers(device: DeviceWish, manifest: Manifest) -> list[Provider]:
    """The device in fp32 and in what the model is allowed besides; on CUDA each with graphs and without."""
    there = choose_provider(device)
    wished: tuple[PrecisionWish, ...] = ("fp32", "auto")
    each = {one.precision: one for one in (for_model(there, manifest, has_int8(), wish) for wish in wished)}
    if device != "cuda":
        return list(each.values())
    return [one for plain in each.values() for one in (plain, plain.capturing())]


def layouts(graph: Graph) -> list[LayoutName]:
    """A packed graph takes padded batches too, the other way round it does not."""
    return ["packed", "padded"] if graph.layout == "packed" else ["padded"]


def filled(rows: Sequence[Row], budget: Budget) -> list[list[Row]]:
    """A few full batches, from rows that are repeated where there are too few of them."""
    num_tokens = sum(row.num_tokens for row in rows)
    times = 1 + 2 * budget.max_batch_tokens // num_tokens
    batches = list(batches_of([*rows] * times, budget))
    return (batches[:-1] or batches)[:MOST_BATCHES]  # the last is what was left


def why_not_packed_attention(graph_file: Path) -> str:
    """Why ONNX Runtime's own packing is not measured: it replaces `Attention` nodes, which its fusion must find first."""
    try:
        from onnxruntime.transformers.optimizer import optimize_model
    except ImportError as error:
        return f"its tools cannot be imported: {error}"
    with FoldedGraph(graph_file) as folded:
        fused = optimize_model(str(folded), model_type="bert", opt_level=0).get_fused_operator_statistics()
    found = fused["Attention"] + fused["MultiHeadAttention"]
    return (
        f"convert_to_packing_mode replaces Attention nodes whose mask says what is padding; fusion finds {found} in this"
        " graph: the mask of a packed one says which row each token belongs to"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """What is written."""
    load = os.getloadavg()
    bench = Bench(options.models / options.model, options)
    rates = []
    for one in bench.rates():
        print(line(one), flush=True)
        rates.append(asdict(one))
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_before(load) | {"gpu": gpu_name() if options.device == "cuda" else None},
        **{key: getattr(options, key) for key in ("model", "device", "profile", "threads", "seconds")},
        "rates": rates,
        "without": {"PackedAttention": why_not_packed_attention(bench.folder / bench.manifest.graph.file)},
    }


def gpu_name() -> str:
    """As the driver says it."""
    import ctypes

    driver, name = ctypes.CDLL("libcuda.so.1"), ctypes.create_string_buffer(256)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetName(name, 256, 0) != 0:
        return "unknown"
    return name.value.decode(errors="replace")


def line(rate: Rate) -> str:
    variant = rate.variant
    how = f"{variant.precision} {variant.layout:6} {'graphs' if variant.cuda_graphs else 'plain':6}"
    reached = f"{rate.texts_per_s:10,.1f} texts/s {rate.tokens_per_s:12,.0f} tokens/s"
    beside = f"{rate.share_of_matrix:.2f} of matrix  padding {rate.padding:.2f}"
    return f"{variant.max_batch_tokens:6} tokens  {how} {reached}  {beside}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write.

    Returns:
        0; 2 if the device or the model is not there.
    """
    options = parser().parse_args(arguments)
    try:
        found = run(options)
    except HooperError as error:
        print(f"cuda: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    write_json(options.output, found)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m scripts.bench.cuda", description=str(__doc__).splitlines()[0])
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what to compute on (cuda)")
    made.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    made.add_argument("--model", default="sentiment/1", metavar="NAME/VERSION", help="classifies texts (sentiment/1)")
    sizes = [1024, 4096, 16_384, 65_536]
    made.add_argument("--budgets", nargs="+", type=int, default=sizes, metavar="N", help=f"tokens a batch ({sizes})")
    made.add_argument("--profile", choices=PROFILES, default="short", help="which texts (short)")
    made.add_argument("--threads", type=int, default=0, metavar="N", help="threads of the engine on a CPU; 0: all (0)")
    made.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each measurement (3)")
    made.add_argument("--output", type=Path, metavar="FILE", help="also write the figures here, as JSON")
    return made


if __name__ == "__main__":
    sys.exit(main())
