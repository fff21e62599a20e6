"""Upgrades under load: another version, a version that is refused, and the end of the process, with failed requests counted.

    python -m scripts.reliability.upgrades --output docs/measurements/upgrades.json

Starts `hooper serve` with a copy of a published model and asks it over 32 connections, each of which has always a request under
way. Meanwhile version 2 is loaded, version 3 is refused because it does not answer its golden requests, and version 1 is loaded
again; then version 2 runs beside it, first with half of the requests, then as its shadow, and is promoted. Several rounds of
these, and a SIGTERM in the end. No request may fail: the count of those that did must be 0.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.core.errors import HooperError
from scripts.bench.report import describe_machine
from scripts.bench.texts import profile_texts
from scripts.reliability.callers import OK, Request, Tally, drive, drive_until_closed
from scripts.reliability.process import Process, process, read_by
from scripts.reliability.versions import STEPS, Step, publish_versions

NUM_TEXTS = 100
OUTCOMES = ("agree", "disagree", "failed", "dropped")


SHARP = {"HOOPER_PRECISION": "fp32", "HOOPER_ENGINE_STREAMS": "2"}
"""In int8 a score moves by a hundredth with the shape of its batch: an answer could not be told from a neighbour's. Batches run
side by side, as they do there by default."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all steps have in common."""

    name: str
    """Of the model."""
    num_requests: int
    """At least so many are sent in each step, a quarter of them before anything happens and a quarter after."""
    connections: int
    texts: Sequence[str]
    expected: dict[str, float]
    """From a text to the score that every version gives."""

    def requests(self) -> Iterator[Request]:
        """Without an end."""
        return (Request(number, text) for number, text in enumerate(itertools.cycle(self.texts)))


async def take(step: Step, service: Process, bench: Bench) -> dict[str, Any]:
    """One step's figures."""
    tally, begins, is_over = Tally(), asyncio.Event(), asyncio.Event()
    quarter = bench.num_requests // 4

    def coming() -> Iterator[Request]:
        last = bench.num_requests
        for request in bench.requests():
            if request.number == quarter:
                begins.set()
            if not is_over.is_set():
                last = max(bench.num_requests, request.number + quarter)
            if request.number >= last:
                return
            yield request

    async def load() -> tuple[int, bytes, float]:
        await begins.wait()
        began = time.perf_counter()
        try:
            path = f"/v1/models/{bench.name}/{step.call}"
            return *await asyncio.to_thread(service.running.ask, path, "POST", step.body), time.perf_counter() - began
        finally:
            is_over.set()

    _, (status, body, load_s) = await asyncio.gather(
        drive(service.running.port, coming(), bench.connections, bench.expected, tally), load()
    )
    said = json.loads(body).get("detail", "")
    told = {"load_status": status, "load_said": said, "load_s": round(load_s, 3)}
    return figures(step.name, tally, 0) | told | ({"compared": compared(service)} if step.is_compared else {})


def compared(service: Process) -> dict[str, int]:
    """Items so far by what a shadow made of them."""
    found = service.running.sample("hooper_shadow_compared_total")
    return {name: int(sum(count for labels, count in found.items() if f'outcome="{name}"' in labels)) for name in OUTCOMES}


async def end(service: Process, bench: Bench) -> dict[str, Any]:
    """What became of the requests of a service that is told to end."""
    begins = asyncio.Event()

    def coming() -> Iterator[Request]:
        for request in bench.requests():
            if request.number == bench.num_requests // 4:
                begins.set()
            yield Request(request.number, request.text, prefix="end")

    async def stop() -> dict[str, Any]:
        await begins.wait()
        return await asyncio.to_thread(service.end)

    (tally, closed), stopped = await asyncio.gather(
        drive_until_closed(service.running.port, coming(), bench.connections, bench.expected), stop()
    )
    read, late = read_by(service.log_lines())
    lost = [name for name in closed if name in read]
    return {
        **figures("SIGTERM", tally, len(lost)),
        **stopped,
        "answered_after_the_signal": sum(name.startswith("end-") for name in late),
        "closed_unread": len(closed) - len(lost),
    }


def figures(name: str, tally: Tally, lost: int) -> dict[str, Any]:
    not_good = tally.answered - tally.statuses[OK]
    return {
        "step": name,
        "sent": tally.sent,
        "statuses": dict(sorted(tally.statuses.items())),
        "versions": dict(sorted(tally.versions.items())),
        "failed": not_good + tally.without_exactly_one_answer + lost,
        "unanswered": tally.unanswered + lost,
        "wrong_answers": tally.wrong_answers + tally.second_answers,
        "longest_s": round(tally.longest_s, 3),
    }


def complaints(step: Step, told: dict[str, Any], version: int) -> list[str]:
    """What was not as promised; `version` answers now."""
    found = []
    if told["failed"]:
        found.append(f"{told['failed']} requests failed")
    if told["load_status"] != step.status:
        found.append(f"loading was answered with {told['load_status']}: {told['load_said']}")
    if set(told["versions"]) != step.versions:
        found.append(f"versions {sorted(told['versions'])} answered")
    if version != step.leaves:
        found.append(f"version {version} answers afterwards")
    if step.is_compared:
        counts = told["compared"]
        if not counts["agree"] or counts["disagree"] or counts["failed"]:
            found.append(f"the shadow, a copy, was compared so: {counts}")
    return [f"{step.name}: {one}" for one in found]


def complaints_of_the_end(told: dict[str, Any]) -> list[str]:
    found = []
    if told["failed"]:
        found.append(f"{told['failed']} requests failed")
    if told["exit_code"]:
        found.append(f"exit code {told['exit_code']}")
    if not told["answered_after_the_signal"]:
        found.append("no request was under way when the signal came: nothing is shown")
    return [f"SIGTERM: {one}" for one in found]


def measure(source: Path, device: str, num_requests: int, connections: int, rounds: int) -> tuple[dict[str, Any], list[str]]:
    """The figures, and what was not as promised."""
    texts = list(dict.fromkeys(profile_texts("short")))[:NUM_TEXTS]
    bench = Bench(source.parent.name, num_requests, connections, texts, {})
    steps, found = [], []
    with tempfile.TemporaryDirectory(prefix="hooper-upgrades-") as place:
        models = Path(place) / "models"
        publish_versions(source, models)
        settings = {"HOOPER_MODELS": str(models), "HOOPER_SERVE": f"{bench.name}/1", "HOOPER_DEVICE": device, **SHARP}
        with process(settings, Path(place) / "log") as service:
            learnt = [Request(number, text) for number, text in enumerate(texts)]
            asyncio.run(drive(service.running.port, learnt, 1, bench.expected))
            for step in STEPS * rounds:
                told = asyncio.run(take(step, service, bench))
                version = json.loads(service.running.ask(f"/v1/models/{bench.name}", "GET")[1])["version"]
                steps.append(told)
                found += complaints(step, told, version)
                print(json.dumps(told), flush=True)
            steps.append(asyncio.run(end(service, bench)))
            found += complaints_of_the_end(steps[-1])
            print(json.dumps(steps[-1]), flush=True)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "model": "/".join(source.parts[-2:]),
        "device": device,
        "connections": connections,
        "requests": sum(one["sent"] for one in steps),
        "failed": sum(one["failed"] for one in steps),
        "steps": steps,
    }, found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.upgrades", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("models/sentiment/1"), help="a classification model's folder")
    parser.add_argument("--device", default="cpu", help="what to compute on")
    parser.add_argument("--requests", type=int, default=1000, help="for each step")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="of all steps but the last")
    parser.add_argument("--output", type=Path, help="the file for the figures")
    options = parser.parse_args(arguments)
    try:
        told, found = measure(options.model, options.device, options.requests, options.connections, options.rounds)
    except (HooperError, OSError) as error:
        print(f"upgrades: {error}", file=sys.stderr)
        return 2
    if options.output is not None:
        options.output.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    for one in found:
        print(f"upgrades: {one}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
