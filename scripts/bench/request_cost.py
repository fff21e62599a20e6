"""What one short text costs this service around its engine: microseconds of processor time, and how often a thread was woken.

The service runs as in production, with keys, metrics and an access log, in one process and behind front ends, before a model
that computes next to nothing. Its batches take as long as `--batch-ms` says, in which the engine's thread sleeps: so it has
the pace of a GPU, and batches fill as they would there. Time is that of the kernel's scheduler, for each thread
(`/proc/PID/task/*/schedstat`): other work on the machine, which makes seconds worthless, hardly changes it. A wake-up is a
voluntary context switch: a thread had nothing to do, and somebody gave it something.

Microseconds depend on the machine and on what its caches are busy with. `calls_for_a_request` does not: how many functions
the event loop calls for one request, by which two states of this code are compared on any machine.

From these figures follows how many requests a second so many cores carry before one GPU (`carried_by_cores`). One process is
at its end where its event loop is; the engine's thread, which holds the interpreter's lock while it works, counts with it.
Behind front ends it is either the engine process, or the front ends on all other cores. Linux only; needs the extra `train`.

    python -m scripts.bench.request_cost --output scripts/bench/results/request_cost.json
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from app.core.manifest import read_manifest
from app.tasks.registry import build_task, environment_tasks
from app.tasks.tokenizer import Tokenizer
from scripts.bench.front_ends import IDLE_MODEL, engine_and_front_ends, publish_idle_model
from scripts.bench.load import PATH, LoadConnection, closed_loop, prepared_request
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import StartedService, ThreadTimes, start_service
from scripts.bench.texts import profile_texts

KEY = "a-key-for-the-benchmark"
PACE = "BENCH_BATCH_MS"
CALLS = "BENCH_CALLS_FILE"
INJECTED = f"""\
import os, signal, sys, time
import onnxruntime

class PacedSession(onnxruntime.InferenceSession):
    def run(self, *arguments):
        outputs = super().run(*arguments)
        time.sleep(float(os.environ["{PACE}"]) / 1000)
        return outputs

num_calls = 0

def count(frame, event, argument):
    global num_calls
    num_calls += event in ("call", "c_call")

def stop(*_):
    sys.setprofile(None)
    with open(os.environ["{CALLS}"], "w") as file:
        file.write(str(num_calls))

onnxruntime.InferenceSession = PacedSession
signal.signal(signal.SIGUSR1, lambda *_: sys.setprofile(count))
signal.signal(signal.SIGUSR2, stop)
"""
"""Run by every Python of the service at its start, as `sitecustomize`."""
CALLS_UNTIL_COUNTED = 320
START_S = 300.0
"""A busy machine may take so long to start it."""
ONE_PROCESS = "one process"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request: microseconds of processor time, and wake-ups."""

    front_end_us: float
    """The event loop that speaks HTTP; in one process the only one."""
    engine_loop_us: float
    """The event loop of the engine process; 0 in one process."""
    engine_thread_us: float
    """All other threads of the process that has the engine."""
    front_end_wake_ups: float
    engine_wake_ups: float
    """Of the engine process' loop and all other threads of the process that has the engine."""
    rows_per_batch: float

    @property
    def total_us(self) -> float:
        return self.front_end_us + self.engine_loop_us + self.engine_thread_us


def cost_of(spent: Sequence[ThreadTimes], num_requests: int, rows_per_batch: float) -> Cost:
    """From what the threads of each process took, the engine's process first."""
    engine, *front_ends = spent
    loops = front_ends or [engine]

    def each(total: float) -> float:
        return round(total / num_requests, 2)

    return Cost(
        front_end_us=each(sum(times.loop_us for times in loops)),
        engine_loop_us=each(engine.loop_us if front_ends else 0.0),
        engine_thread_us=each(engine.others_us),
        front_end_wake_ups=each(sum(times.loop_switches for times in loops)),
        engine_wake_ups=each(engine.others_switches + (engine.loop_switches if front_ends else 0)),
        rows_per_batch=round(rows_per_batch, 1),
    )


def carried_by(cores: int, cost: Cost) -> dict[str, Any]:
    """Requests a second at which something is busy all the time, and what that is."""
    if not cost.engine_loop_us:
        return {"requests_per_s": round(1e6 / cost.total_us), "limit": "the event loop"}
    by_engine = 1e6 / (cost.engine_loop_us + cost.engine_thread_us)
    by_front_ends = (cores - 1) * 1e6 / cost.front_end_us
    limit = "the engine process" if by_engine < by_front_ends else "the front ends"
    return {"requests_per_s": round(min(by_engine, by_front_ends)), "engine_process": round(by_engine), "limit": limit}


@contextmanager
def service_of(folder: Path, front_ends: int, batch_ms: float) -> Iterator[StartedService]:
    """The service as in production, before the idle model in the folder.

    Raises:
        SetupError: it does not get ready.
    """
    settings = {
        "HOOPER_MODELS": str(folder), "HOOPER_SERVE": IDLE_MODEL, "HOOPER_DEVICE": "cpu", "HOOPER_ENGINE_THREADS": "1",
        "HOOPER_FRONT_ENDS": str(front_ends), "HOOPER_API_KEY_HASHES": hashlib.sha256(KEY.encode()).hexdigest(),
        "HOOPER_LOG_LEVEL": "info", PACE: str(batch_ms), CALLS: str(folder / "calls"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder / "injected"), os.environ.get("PYTHONPATH", "")))),
    }  # fmt: skip
    with (folder / "access.log").open("wb") as log, start_service(settings, log=log, key=KEY, start_s=START_S) as service:
        yield service


def requests_of(options: argparse.Namespace) -> list[bytes]:
    return [prepared_request("localhost", PATH, {"inputs": text}, KEY) for text in profile_texts(options.profile)]


def measure_cost(options: argparse.Namespace, folder: Path, front_ends: int, callers: int) -> Cost:
    """Start the service, put load on it and look at its threads."""
    requests = requests_of(options)
    with service_of(folder, front_ends, options.batch_ms if callers > 1 else 0.0) as service:
        asyncio.run(closed_loop(service.address, requests, callers, options.seconds / 4, 0.0))  # warms up
        processes = engine_and_front_ends(service.stats)
        before, batches = [process.thread_times() for process in processes], _rows_and_batches(service)
        load = asyncio.run(closed_loop(service.address, requests, callers, options.seconds, 0.0))
        spent = [process.thread_times() - times for process, times in zip(processes, before, strict=True)]
        rows, num_batches = (now - then for now, then in zip(_rows_and_batches(service), batches, strict=True))
    return cost_of(spent, max(1, len(load.samples)), rows / max(1.0, num_batches))


def _rows_and_batches(service: StartedService) -> tuple[float, float]:
    address = service.address
    return address.metric_sum("hooper_batch_rows_sum"), address.metric_sum("hooper_batch_rows_count")


def calls_of(options: argparse.Namespace, folder: Path, callers: int) -> float:
    """Functions that the event loop of one process calls for a request, Python's and C's: the same at any machine's pace."""
    with service_of(folder, 1, 0.0) as service:
        asyncio.run(_ask_in_step(service, requests_of(options), callers, CALLS_UNTIL_COUNTED // callers))
    return round(int((folder / "calls").read_text(encoding="ascii")) / (CALLS_UNTIL_COUNTED // callers * callers), 1)


async def _ask_in_step(service: StartedService, requests: Sequence[bytes], callers: int, times: int) -> None:
    """All callers at the same time, so often, while calls are counted."""
    connections = [await LoadConnection.open(service.address) for _ in range(callers)]
    await asyncio.gather(*(connection.ask(requests[0]) for connection in connections))
    os.kill(service.process.pid, signal.SIGUSR1)
    for number in range(times):
        await asyncio.gather(*(connection.ask(requests[number % len(requests)]) for connection in connections))
    os.kill(service.process.pid, signal.SIGUSR2)
    await asyncio.gather(*(connection.ask(requests[0]) for connection in connections))  # once answered, they are written
    for connection in connections:
        connection.close()
    await asyncio.sleep(0)  # in which they are


def tokenizing_us(folder: Path, texts: Sequence[str]) -> float:
    """Microseconds in which a text becomes rows; a part of what an event loop takes. The median of five passes."""
    manifest = read_manifest(folder)
    tokenizer, tasks = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens), environment_tasks()
    task, spec = build_task(tasks, manifest, [tokenizer]), tasks[manifest.task]
    items, taken = [spec.item(text) for text in texts], list[float]()
    for _ in range(6):
        began = time.thread_time()
        for item in items:
            task.encode([item], spec.options())
        taken.append((time.thread_time() - began) / len(items) * 1e6)
    return round(median(taken[1:]), 1)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One process and front ends, each with every number of callers, taking turns; each figure is the median of its turns."""
    like = options.models / options.model
    kinds = {ONE_PROCESS: 1, f"{options.front_ends} front ends": options.front_ends}
    turns: dict[tuple[str, int], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish_idle_model(like, folder)
        (folder / "injected").mkdir()
        (folder / "injected" / "sitecustomize.py").write_text(INJECTED, encoding="utf-8")
        calls = {str(callers): calls_of(options, folder, callers) for callers in options.callers}
        print(f"calls of functions for a request, by callers: {calls}", file=sys.stderr, flush=True)
        for _ in range(options.turns):
            for kind, front_ends in kinds.items():
                for callers in options.callers:
                    cost = measure_cost(options, folder, front_ends, callers)
                    turns.setdefault((kind, callers), []).append(cost)
                    print(f"{kind}, {callers} callers: {cost}", file=sys.stderr, flush=True)
        texts = profile_texts(options.profile)
        tokenizing = tokenizing_us(folder / IDLE_MODEL / "1", texts)
    return {
        **{key: getattr(options, key) for key in ("model", "profile", "batch_ms", "seconds", "turns", "cores")},
        "calls_for_a_request": calls,
        "tokenizing_us": tokenizing,
        "costs": [_described(kind, callers, costs, options.cores) for (kind, callers), costs in turns.items()],
    }


def _described(kind: str, callers: int, turns: Sequence[Cost], cores: int) -> dict[str, Any]:
    middle = Cost(*(median(getattr(cost, name) for cost in turns) for name in Cost.__slots__))
    figures = {name: getattr(middle, name) for name in Cost.__slots__}
    carried = {} if callers == 1 else {"carried_by_cores": carried_by(cores, middle)}  # a lone caller waits for each answer
    return {"kind": kind, "callers": callers, **figures, "total_us": round(middle.total_us, 1), **carried}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.request_cost", __doc__, "models", "profile")
    parser.add_argument("--model", default="sentiment/2", metavar="NAME/VERSION", help="whose tokenizer is used (sentiment/2)")
    parser.add_argument("--front-ends", type=int, default=2, metavar="N", help="beside one process (2)")
    parser.add_argument("--callers", nargs="+", type=int, default=[1, 64], metavar="N", help="who wait for answers (1 64)")
    parser.add_argument("--batch-ms", type=float, default=10.0, metavar="MS", help="of each batch; a lone caller's: 0 (10)")
    parser.add_argument("--cores", type=int, default=16, metavar="N", help="of the machine to reckon for (16)")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of each load (4)")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="times of everything (3)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
