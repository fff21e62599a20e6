"""Front ends against each other: requests a second with 1, 2, 4, … before an engine that costs nothing and before a real one.

One is the service as it is by default, in a single process. All numbers take turns, several times, since a machine's pace
changes. The callers run on the same cores, in processes of their own. Linux only. Run from a checkout, on a quiet machine:

    python -m scripts.bench.front_ends --output scripts/bench/results/front_ends.json
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_FAILED, EXIT_SETUP
from scripts.bench.connection import prepared
from scripts.bench.footprint import Process
from scripts.bench.idle_model import NAME, publish_idle
from scripts.bench.load import OK, Measured, Sample, closed_loop
from scripts.bench.report import machine_before, write_json
from scripts.bench.service import Address, started_process
from scripts.bench.texts import PROFILES, profile_texts


@dataclass(frozen=True, slots=True)
class Turn:
    """One load on a service with so many front ends."""

    front_ends: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    engine_cores: float
    """Cores that the engine process kept busy; of a single process, all that it did."""
    front_end_cores: list[float]
    """Of each front end: how evenly connections were dealt out."""
    memory_mib: int
    """Resident, of all processes together; what they share is counted in each."""


def measured_turn(options: argparse.Namespace, models: Path, model: str, front_ends: int, pool: ProcessPoolExecutor) -> Turn:
    """Start the service, put load on it and look at its processes.

    Raises:
        SetupError: it does not get ready.
    """
    settings = {
        "HOOPER_MODELS": str(models), "HOOPER_SERVE": model, "HOOPER_DEVICE": options.device,
        "HOOPER_ENGINE_THREADS": str(options.threads), "HOOPER_FRONT_ENDS": str(front_ends),
    }  # fmt: skip
    with started_process(settings) as (address, pid):
        engine, *others = _processes(pid)
        before = [one.cpu_s() for one in (engine, *others)]
        measured = _load(options, address, model, pool)
        spent = [one.cpu_s() - was for one, was in zip((engine, *others), before, strict=True)]
        memory = sum(one.memory_mib() for one in {Process(pid), engine, *others})
    seconds = options.seconds + options.warm_up
    engine_cores, *front_end_cores = (round(one / seconds, 2) for one in spent)
    failed = sum(one.status != OK for one in measured.samples)
    p50, p99 = (round(measured.percentile_ms(share), 2) for share in (0.5, 0.99))
    return Turn(front_ends, round(measured.throughput, 1), p50, p99, failed, engine_cores, front_end_cores, memory)


def _processes(pid: int) -> list[Process]:
    """The engine process, then its front ends; the one process where there are none."""
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    named = {child: Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8") for child in children}
    engine = [child for child, command in named.items() if "app.processes.engine" in command]
    others = [child for child, command in named.items() if "app.processes.front_end" in command]
    return [Process(one) for one in (*(engine or [pid]), *others)]


def _load(options: argparse.Namespace, address: Address, model: str, pool: ProcessPoolExecutor) -> Measured:
    """From several processes at once, each with its share of the connections."""
    requests = [
        prepared(address.host, "/v1/classify", {"model": model, "inputs": one}) for one in profile_texts(options.profile)
    ]
    share = max(1, options.connections // options.callers)
    calls = [
        pool.submit(call, address, requests[number :: options.callers], share, options.seconds, options.warm_up)
        for number in range(options.callers)
    ]
    return Measured([Sample(*one) for call in calls for one in call.result()], options.seconds)


def call(
    address: Address, requests: Sequence[bytes], connections: int, seconds: float, warm_up_s: float
) -> list[tuple[float, int]]:
    """What one process of callers got: seconds and status of each request."""
    measured = asyncio.run(closed_loop(address.host, address.port, requests, connections, seconds, warm_up_s))
    return [(one.latency_s, one.status) for one in measured.samples]


def run(options: argparse.Namespace) -> dict[str, list[Turn]]:
    """Every number of front ends in turn, for either model."""
    real = options.model.partition("/")[0]
    found: dict[str, list[Turn]] = {NAME: [], real: []}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.callers, context) as pool:
        publish_idle(options.models / options.model, Path(folder))
        for number in range(options.turns):
            for models, name, turns in ((Path(folder), NAME, found[NAME]), (options.models, real, found[real])):
                # back and forth, so that no number always comes when the machine is warm
                for front_ends in options.front_ends if number % 2 == 0 else options.front_ends[::-1]:
                    turn = measured_turn(options, models, name, front_ends, pool)
                    turns.append(turn)
                    print(_line(name, turn), flush=True)
    return found


def _line(name: str, turn: Turn) -> str:
    busy = f"engine {turn.engine_cores:.2f} cores"
    if turn.front_end_cores:
        busy += f", front ends {min(turn.front_end_cores):.2f} to {max(turn.front_end_cores):.2f}"
    figures = f"{turn.requests_per_s:9,.1f} requests/s  p50 {turn.p50_ms:.2f} ms  p99 {turn.p99_ms:.2f} ms"
    return f"{name:10} {turn.front_ends:3} front ends  {figures}  {busy}  {turn.memory_mib} MiB  {turn.failed} failed"


def told(turns: Sequence[Turn]) -> dict[str, Any]:
    """Medians by number of front ends, each beside that of the least, then every turn."""
    rates = {
        number: median(one.requests_per_s for one in turns if one.front_ends == number)
        for number in sorted({one.front_ends for one in turns})
    }
    least = rates[min(rates)]
    return {
        "median_requests_per_s": {str(number): round(rate, 1) for number, rate in rates.items()},
        "times_the_fewest": {str(number): round(rate / least, 2) if least else None for number, rate in rates.items()},
        "turns": [asdict(one) for one in turns],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write.

    Returns:
        0; 1 if a request failed; 2 if a service could not start.
    """
    options, load = parser().parse_args(arguments), os.getloadavg()
    try:
        found = run(options)
    except HooperError as error:
        print(f"front_ends: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    for name, turns in found.items():
        ratios: Mapping[str, float] = told(turns)["times_the_fewest"]
        print(f"{name}: " + ", ".join(f"{number} front ends {ratio} times" for number, ratio in ratios.items()))
    if options.output:
        keys = ("model", "device", "threads", "profile", "connections", "callers", "seconds")
        report = {
            "taken": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine_before(load),
            **{key: getattr(options, key) for key in keys},
            "models": {name: told(turns) for name, turns in found.items()},
        }
        write_json(options.output, report)
    return EXIT_FAILED if any(turn.failed for turns in found.values() for turn in turns) else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m scripts.bench.front_ends", description=str(__doc__).splitlines()[0])
    made.add_argument("--front-ends", nargs="+", type=int, default=[1, 2, 4, 8, 16], metavar="N", help="(1 2 4 8 16)")
    made.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    made.add_argument("--model", default="sentiment/1", metavar="NAME/VERSION", help="classifies texts (sentiment/1)")
    made.add_argument("--device", default="auto", metavar="DEVICE", help="as HOOPER_DEVICE (auto)")
    made.add_argument("--threads", type=int, default=0, metavar="N", help="threads of the engine; 0: all cores (0)")
    made.add_argument("--profile", choices=PROFILES, default="short", help="which texts, one a request (short)")
    made.add_argument("--connections", type=int, default=128, metavar="N", help="of all callers together (128)")
    made.add_argument("--callers", type=int, default=4, metavar="N", help="processes that call (4)")
    made.add_argument("--seconds", type=float, default=8.0, metavar="S", help="of each load (8)")
    made.add_argument("--warm-up", type=float, default=2.0, metavar="S", help="before it, not counted (2)")
    made.add_argument("--turns", type=int, default=3, metavar="N", help="times of everything (3)")
    made.add_argument("--output", type=Path, metavar="FILE", help="also write the figures here, as JSON")
    return made


if __name__ == "__main__":
    sys.exit(main())
