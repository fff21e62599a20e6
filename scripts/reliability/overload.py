"""Overload: an open loop at 0.5, 1, 2 and 3 times what the service can do, and what its callers get.

    python -m scripts.reliability.overload --output docs/measurements/overload.json --image docs/images/overload.svg

Starts `hooper serve` with a published model, measures its capacity with callers who wait for their answers, and then sends
requests at times drawn beforehand, from a process of its own. Meanwhile health is asked four times a second.

An accepted request finds at most a full queue before it, and a batch in the engine, and then runs in one of its own. So it is
answered within (queue limit + 2 batches) / drain rate: that of the step or, where the queue is empty at times, the capacity.
Of a model that writes, every row gets as many new tokens (`--new-tokens`), so that rows are alike; its cache is the batch: the
rows in it are before an accepted one, and its own time in the cache is what as many rows take to be worked off.
Goodput is what is answered with 200 within that bound, in steady state. At 3 times the capacity it must be 0.9 of what it is at
the capacity, or more. What Retry-After tells must be about the time that half of a full queue takes. The generator runs on the
service's cores, and its processor time is reported. With `--beside` another model is asked meanwhile, and must answer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

import uvloop

from scripts.bench.load import LoadResult, closed_loop, open_loop, text_requests
from scripts.bench.report import BLUE, GREEN, GREY, OPTIONS, ORANGE, draw, measurement_parser, run_measurement
from scripts.bench.service import OK, Address, StartedService, start_service
from scripts.bench.texts import profile_texts
from scripts.reliability.callers import native_path, served_models
from scripts.reliability.health import watch_health

STEPS = (0.5, 1.0, 3.0, 2.0, 3.0, 1.0)
"""The two that are compared come twice, around each other: a shared machine's pace changes within minutes."""
MIN_GOODPUT_KEPT = 0.9
"""Of the goodput at capacity, how much must be left at 3 times the load."""
MIN_RETRY_S, MAX_RETRY_S = 1.0, 60.0
RETRY_TIMES = 2.5
"""How far off Retry-After may be in the middle, beside the second to which it is rounded up: it tells the mean of lately."""
TOO_MANY = 429
HEALTH_EVERY_S, BESIDE_EVERY_S = 0.25, 1.0
TICK_S = 0.002
"""Requests that are due within so many seconds are sent together: to wake up for each would take the service's cores."""


@dataclass(frozen=True, slots=True)
class QueueBound:
    """What may wait, what a batch may hold, and how many tokens a row has on average."""

    waiting_rows: int
    waiting_tokens: int
    batch_rows: int
    batch_tokens: float
    tokens_per_row: float

    def seconds(self, rows_per_s: float) -> float:
        """Within which an accepted request is answered at this drain rate: whichever limit is met first."""
        rows = (self.waiting_rows + 2 * self.batch_rows) / rows_per_s
        tokens = (self.waiting_tokens + 2 * self.batch_tokens) / (rows_per_s * self.tokens_per_row)
        return min(rows, tokens)

    def retry_s(self, rows_per_s: float) -> float:
        """What Retry-After should say where it is full: until half of what waits is worked off."""
        seconds = min(self.waiting_rows, self.waiting_tokens / self.tokens_per_row) / 2 / rows_per_s
        return min(MAX_RETRY_S, max(MIN_RETRY_S, seconds))


@dataclass(frozen=True, slots=True)
class AskedModel:
    """How a model is asked: where, with which fields beside the texts, and how many rows its cache has, if it writes."""

    name: str
    path: str
    new_tokens: int
    cache_rows: int

    @classmethod
    def of(cls, address: Address, name: str, new_tokens: int) -> AskedModel:
        name = name.partition("/")[0]
        cache_rows = int(address.metric("hooper_cache_rows").get(f'{{model="{name}"}}', 0))
        return cls(name, native_path(served_models(address)[name]), new_tokens, cache_rows)

    @property
    def fields(self) -> dict[str, Any]:
        written = {"max_new_tokens": self.new_tokens, "min_new_tokens": self.new_tokens, "num_beams": 1}
        return {"model": self.name, **(written if self.cache_rows else {})}

    def rows_and_tokens(self, address: Address) -> tuple[float, float]:
        """That it has read so far. Batches of a model that writes count a row again for each token."""
        if self.cache_rows:
            return self._counted(address, "generated_tokens_total") / self.new_tokens, self._counted(
                address, "drift_tokens_total"
            )
        return self._counted(address, "batch_rows_sum"), self._counted(address, "batch_tokens_sum")

    def num_answered(self, address: Address) -> float:
        return self._counted(address, "requests_total")

    def _counted(self, address: Address, name: str) -> float:
        values = address.metric(f"hooper_{name}").items()
        return sum(value for labels, value in values if f'model="{self.name}"' in labels)


@dataclass(frozen=True, slots=True)
class OverloadSetup:
    """What all steps have in common. The generator is one process of its own."""

    service: StartedService
    generator: Executor
    requests: Sequence[bytes]
    rows_per_request: float
    seconds: float
    capacity_per_s: float
    bound: QueueBound
    beside: Mapping[str, Any]
    """Path to body of another model, or nothing."""

    def bound_s(self, requests_per_s: float) -> float:
        return self.bound.seconds(requests_per_s * self.rows_per_request)


def generate_closed(address: Address, requests: Sequence[bytes], connections: int, seconds: float) -> LoadResult:
    """In the generator: callers who wait for each other, after a fifth of the time to warm up."""
    return _run_quietly(lambda: closed_loop(address, requests, connections, seconds, seconds / 5))[0]


def generate_open(address: Address, requests: Sequence[bytes], rate: float, seconds: float) -> tuple[LoadResult, float]:
    """In the generator: so many requests a second; and the processor seconds that they cost."""
    return _run_quietly(lambda: open_loop(address, requests, rate, seconds, tick_s=TICK_S))


def _run_quietly(load: Callable[[], Coroutine[Any, Any, LoadResult]]) -> tuple[LoadResult, float]:
    gc.collect()
    gc.disable()  # samples make no cycles, and a pause would be read as the service's
    began = time.process_time()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(load()), time.process_time() - began
    finally:
        gc.enable()


def take_step(setup: OverloadSetup, times: float) -> dict[str, Any]:
    """Offer so many times the capacity.

    Nothing counts as goodput until the load has gone on for as long as the queue may take to fill, or what the queue took up
    would be a part of it; nor does what was worked off when nothing came any more.
    """
    capacity, service = setup.capacity_per_s, setup.service
    rate, cpu_before, warm_up_s = times * capacity, service.stats.cpu_s(), setup.bound_s(capacity)
    print(f"{times:g} times the capacity: {rate:.0f} requests/s", file=sys.stderr)
    until_s = warm_up_s + setup.seconds
    with (
        watch_health(service.address, HEALTH_EVERY_S, ("/health/live", "/health/ready")) as health,
        watch_health(service.address, BESIDE_EVERY_S, list(setup.beside), setup.beside) as beside,
    ):
        arguments = (service.address, setup.requests, rate, until_s)
        result, generator_cpu_s = setup.generator.submit(generate_open, *arguments).result()
    steady = [sample for sample in result.samples if sample.status == OK and warm_up_s < sample.ended_s <= until_s]
    drained_per_s = min(capacity, len(steady) / setup.seconds) if times >= 1 else capacity
    drained_per_s = max(drained_per_s, 1e-3)
    bound_s = setup.bound_s(drained_per_s)
    return {
        "times": times,
        "offered_per_s": round(len(result.samples) / until_s, 1),
        **outcome_counts(result),
        "retry_after_expected_s": round(setup.bound.retry_s(drained_per_s * setup.rows_per_request), 1),
        "bound_ms": round(1000 * bound_s, 1),
        "answered_later": sum(sample.status == OK and sample.latency_s > bound_s for sample in result.samples),
        "goodput_per_s": round(sum(sample.latency_s <= bound_s for sample in steady) / setup.seconds, 1),
        **{name: round(result.percentile_ms(share), 1)
           for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99), ("max_ms", 1.0))},
        "generator_cpu_s": round(generator_cpu_s, 1),
        "service_cpu_s": round(service.stats.cpu_s() - cpu_before, 1),
        "health": health.figures(),
        **({"beside": beside.figures()} if setup.beside else {}),
    }  # fmt: skip


def outcome_counts(result: LoadResult) -> dict[str, Any]:
    """How many were answered, turned away, or neither, and with which Retry-After."""
    statuses = result.statuses
    num_ok, turned_away = statuses.get(OK, 0), statuses.get(TOO_MANY, 0)
    waits = [
        sample.retry_after_s for sample in result.samples if sample.status == TOO_MANY and sample.retry_after_s is not None
    ]
    return {
        "offered": len(result.samples),
        "answered": num_ok,
        "turned_away": turned_away,
        "others": len(result.samples) - num_ok - turned_away,
        "statuses": {str(status): number for status, number in sorted(statuses.items())},
        "retry_after_median_s": median(waits) if waits else None,
        "retry_after_s": {f"{wait:g}": waits.count(wait) for wait in sorted(set(waits))},
        "without_plausible_retry_after": turned_away - sum(MIN_RETRY_S <= wait <= MAX_RETRY_S for wait in waits),
    }


def goodput_kept(steps: Sequence[dict[str, Any]]) -> float | None:
    """Goodput at 3 times the capacity over that at the capacity, on the mean; None where either was left out."""
    at_capacity, at_triple = (
        [float(step["goodput_per_s"]) for step in steps if step["times"] == times] for times in (1.0, 3.0)
    )
    if not at_capacity or not at_triple:
        return None
    return round(mean(at_triple) / max(mean(at_capacity), 1e-9), 3)


def complaints(steps: Sequence[dict[str, Any]]) -> list[str]:
    """What was not as promised."""
    problems = []
    ratio = goodput_kept(steps)
    if ratio is not None and ratio < MIN_GOODPUT_KEPT:
        problems.append(f"goodput at 3 times the capacity is {ratio} of that at the capacity, less than {MIN_GOODPUT_KEPT}")
    for step in steps:
        at = f"at {step['times']:g} times the capacity"
        if step["others"]:
            problems.append(f"{at} {step['others']} requests were answered neither with 200 nor with 429")
        if step["answered_later"]:
            problems.append(f"{at} {step['answered_later']} answers came later than the queue limit implies")
        if step["without_plausible_retry_after"]:
            problems.append(f"{at} Retry-After was missing or not within {MIN_RETRY_S:g} to {MAX_RETRY_S:g} s")
        told, expected = step["retry_after_median_s"], step["retry_after_expected_s"]
        if told is not None and not expected / RETRY_TIMES <= told <= RETRY_TIMES * expected + 1:
            problems.append(f"{at} Retry-After was {told:g} s in the middle, where {expected:g} s is what the queue takes")
        if step["health"]["failed"]:
            problems.append(f"{at} health failed {step['health']['failed']} of {step['health']['asked']} times")
        if "beside" in step and step["beside"]["failed"]:
            problems.append(f"{at} the model beside it failed {step['beside']['failed']} of {step['beside']['asked']} times")
    return problems


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The capacity, then each step.

    Raises:
        SetupError: the service does not start.
    """
    settings = {
        "HOOPER_MODELS": str(options.models), "HOOPER_SERVE": ",".join(filter(None, (options.model, options.beside))),
        "HOOPER_DEVICE": options.device, "HOOPER_MAX_WAITING_ROWS": str(options.waiting_rows),
        "HOOPER_MAX_BATCH_ROWS": str(options.batch_rows or ""),
    }  # fmt: skip
    with start_service(settings) as service, ProcessPoolExecutor(1, get_context("spawn")) as generator:
        address = service.address
        model = AskedModel.of(address, options.model, options.new_tokens)
        requests = text_requests(model.path, profile_texts(options.profile), options.items, **model.fields)
        print(f"capacity: {options.connections} callers for {options.seconds:g} s", file=sys.stderr)
        closed = generator.submit(generate_closed, address, requests, options.connections, options.seconds).result()
        capacity, bound, rows_per_request = closed.requests_per_s, *measured_bound(address, model, options.waiting_rows)
        beside = {}
        if options.beside:
            other = AskedModel.of(address, options.beside, options.new_tokens)
            beside = {other.path: {"inputs": "A fine film.", **other.fields}}
        setup = OverloadSetup(service, generator, requests, rows_per_request, options.seconds, capacity, bound, beside)
        steps = [take_step(setup, times) for times in options.steps]
    report = {
        "model": options.model,
        "texts": options.profile,
        "texts_per_request": options.items,
        **capacity_figures(setup, model),
        "seconds_per_step": options.seconds,
        "steps": steps,
        "goodput_kept": goodput_kept(steps),
        "complaints": complaints(steps),
    }
    if options.image:
        draw_overload(report, options.image)
    return report


def capacity_figures(setup: OverloadSetup, model: AskedModel) -> dict[str, Any]:
    bound, rows_per_s = setup.bound, setup.capacity_per_s * setup.rows_per_request
    written = {
        "new_tokens_per_row": model.new_tokens, "cache_rows": model.cache_rows,
        "new_tokens_per_s": round(rows_per_s * model.new_tokens, 1),
    }  # fmt: skip
    return {
        "rows_per_request": round(setup.rows_per_request, 2),
        "waiting_rows": bound.waiting_rows,
        "waiting_tokens": bound.waiting_tokens,
        "capacity_per_s": round(setup.capacity_per_s, 1),
        "tokens_per_row": round(bound.tokens_per_row, 1),
        **(written if model.cache_rows else {}),
    }


def measured_bound(address: Address, model: AskedModel, waiting_rows: int) -> tuple[QueueBound, float]:
    """After some load: what an accepted request may find before it, and how many rows a request is."""
    rows, tokens = model.rows_and_tokens(address)
    limits = address.get(f"/v1/models/{model.name}")["limits"]
    tokens_per_row = tokens / max(rows, 1)
    batch_rows, batch_tokens = limits["max_batch_rows"], float(limits["max_batch_tokens"])
    if model.cache_rows:
        batch_rows, batch_tokens = model.cache_rows, model.cache_rows * tokens_per_row
    bound = QueueBound(waiting_rows, limits["max_waiting_tokens"], batch_rows, batch_tokens, tokens_per_row)
    return bound, rows / max(model.num_answered(address), 1)


def draw_overload(report: dict[str, Any], file: Path) -> None:
    """Goodput and latency of what was accepted, over the load that was offered."""
    steps = sorted(report["steps"], key=lambda step: float(step["offered_per_s"]))
    offered, capacity = [step["offered_per_s"] for step in steps], report["capacity_per_s"]

    def paint(_: Any, axes: list[Any]) -> None:
        left, right = axes
        left.plot(offered, offered, "--", color=GREY, label="offered")
        left.plot(offered, [step["goodput_per_s"] for step in steps], "o-", color=BLUE, label="goodput")
        left.axvline(capacity, color=GREY, linewidth=0.8)
        left.text(capacity, 0, " capacity", color=GREY)
        left.set(xlabel="offered, requests/s", ylabel="requests/s", ylim=(0, 2 * capacity), xlim=(0, None))
        for name, colour in (("p50", GREEN), ("p95", BLUE), ("p99", ORANGE)):
            right.plot(offered, [step[f"{name}_ms"] for step in steps], "o-", color=colour, label=name)
        right.plot(offered, [step["bound_ms"] for step in steps], "--", color=GREY, label="bound")
        right.set(xlabel="offered, requests/s", ylabel="latency of accepted, ms", ylim=(0, None), xlim=(0, None))
        for each in axes:
            each.legend()

    draw(file, (8, 3.6), paint, columns=2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.reliability.overload", __doc__, "models", "model", "device", "profile")
    parser.add_argument("--items", type=int, default=1, metavar="N", help="texts in a request (1)")
    parser.add_argument(
        "--waiting-rows", type=int, default=256, metavar="N",
        help="HOOPER_MAX_WAITING_ROWS: with one text a request, connections run out before the default's 2048 are full (256)",
    )  # fmt: skip
    parser.add_argument(
        "--batch-rows", type=int, metavar="N", help="HOOPER_MAX_BATCH_ROWS: of a model that writes, texts at a time"
    )
    parser.add_argument("--new-tokens", type=int, default=32, metavar="N", help="of each row, of a model that writes (32)")
    parser.add_argument("--beside", default="", metavar="NAME", help="another model, which is asked once a second meanwhile")
    parser.add_argument("--connections", type=int, default=128, metavar="N", help="callers that measure the capacity (128)")
    parser.add_argument(
        "--steps", type=float, nargs="+", default=list(STEPS), metavar="X", help="of the capacity (0.5 1 3 2 3 1)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="seconds per step (30)")
    parser.add_argument("--image", **OPTIONS["image"])
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
