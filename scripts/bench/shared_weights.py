"""What equal weights cost when each session has its own, and when they are held once: memory, and processor time of a batch.

    python -m scripts.bench.shared_weights --model models/sentiment/1 --output docs/measurements/shared_weights.json

One process for each way opens the same graph several times; then a pair of sessions computes the same batches in turn. Linux
only.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.core.manifest import read_manifest
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider, for_model, has_int8
from scripts.bench.report import measurement_parser, run_measurement

BATCH = [Row(list(range(1000, 1032)), [0] * 32)] * 16
"""Sixteen rows of 32 tokens."""
KIB_PER_MIB = 1024


@contextmanager
def open_engine(folder: Path, shares: bool) -> Iterator[EncoderEngine]:
    """The version's graph on the CPU, in the precision in which it would be served."""
    manifest = read_manifest(folder)
    provider = for_model(choose_provider("cpu"), manifest, has_int8())
    file = folder / manifest.graph.file_for(provider.precision)
    engine = EncoderEngine(file, manifest.graph, replace(provider, shares_weights=shares), num_threads=1)
    try:
        yield engine
    finally:
        asyncio.run(engine.aclose())


def memory_by_number(folder: Path, shares: bool, copies: int) -> list[float]:
    """MiB that this process has grown by after the first, second, … engine that has run a batch."""
    before, grown = _resident_mib(), []
    with ExitStack() as engines:
        for _ in range(copies):
            engine = engines.enter_context(open_engine(folder, shares))
            engine.run_rows(BATCH)
            grown.append(round(_resident_mib() - before, 1))
    return grown


def time_ratio(folder: Path, pairs: int) -> dict[str, float]:
    """Processor time of a batch with shared weights over that without, of pairs side by side."""
    with open_engine(folder, False) as plain, open_engine(folder, True) as sharing:
        for engine in (plain, sharing):
            engine.run_rows(BATCH)
        ratios = [_cpu_s(sharing) / _cpu_s(plain) for _ in range(pairs)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"median": round(middle, 3), "lower_quartile": round(low, 3), "upper_quartile": round(high, 3)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")  # each begins without what the other has in memory
    memory = {}
    for name, shares in (("own", False), ("shared", True)):
        with context.Pool(1) as pool:
            memory[name] = pool.apply(memory_by_number, (options.model, shares, options.copies))
    with open_engine(options.model, False) as engine:
        precision = engine.provider.precision
    return {"precision": precision, "grown_mib": memory, "batch_time_ratio": time_ratio(options.model, options.pairs)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.shared_weights", __doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="a version's folder")
    parser.add_argument("--copies", type=int, default=10, metavar="N", help="engines of it in one process (10)")
    parser.add_argument("--pairs", type=int, default=40, metavar="N", help="batches of each way, in turn (40)")
    return run_measurement(parser, measure, arguments)


def _cpu_s(engine: EncoderEngine) -> float:
    began = time.process_time()
    engine.run_rows(BATCH)
    return time.process_time() - began


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / KIB_PER_MIB


if __name__ == "__main__":
    sys.exit(main())
