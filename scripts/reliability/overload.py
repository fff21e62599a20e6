"""Overload: an open loop at 0.5, 1, 2 and 3 times what the service can do, and what its callers get.

    python -m scripts.reliability.overload --output docs/measurements/overload.json --image docs/images/overload.svg

Starts `hooper serve` with a published model, measures its capacity with callers who wait for their answers, and then sends
requests at times drawn beforehand, from a process of its own. Meanwhile health is asked four times a second.

An accepted request finds at most a full queue before it, and a batch in the engine, and then runs in one of its own. So it is
answered within (queue limit + 2 batches) / drain rate: that of the step or, where the queue is empty at times, the capacity.
Goodput is what is answered with 200 within that bound, in steady state. At 3 times the capacity it must be 0.9 of what it is at
the capacity, or more. The generator runs on the service's cores: what it takes of them is told beside.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from os import getloadavg
from pathlib import Path
from statistics import mean
from typing import Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_FAILED, EXIT_SETUP
from scripts.bench.connection import prepared
from scripts.bench.report import machine_before
from scripts.bench.service import Address, started_process
from scripts.bench.texts import PROFILES, profile_texts
from scripts.reliability.generator import Generator, Load
from scripts.reliability.overload_step import MAX_RETRY_S, Bench, Capacity, Drained, Limits, take
from scripts.reliability.picture import draw_overload

STEPS = (0.5, 1.0, 3.0, 2.0, 3.0, 1.0)
"""The two that are compared come twice, around each other: a shared machine's pace changes within minutes."""
KEPT = 0.9
"""Of the goodput at capacity, how much must be left at 3 times the load."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        report = overload(options)
    except HooperError as error:
        print(f"overload: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    text = json.dumps(report, indent=2) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    if options.image:
        draw_overload(report, options.image)
    print(text, end="")
    for one in report["complaints"]:
        print(f"overload: {one}", file=sys.stderr)
    return EXIT_FAILED if report["complaints"] else 0


def overload(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the capacity, then each step.

    Raises:
        SetupError: the service does not start.
    """
    load_before = getloadavg()
    settings = {
        "HOOPER_MODELS": str(options.models), "HOOPER_SERVE": options.model, "HOOPER_DEVICE": options.device,
        "HOOPER_MAX_WAITING_ROWS": str(options.waiting_rows),
    }  # fmt: skip
    with started_process(settings) as (address, pid), Generator() as generator:
        limits = _limits(address, options.model, options.waiting_rows)
        requests = _requests(options, address.host)
        print(f"capacity: {options.connections} callers for {options.seconds:g} s", file=sys.stderr)
        load = Load(address, requests, options.seconds)
        closed, _ = generator.closed(load, options.connections)
        capacity = Capacity(closed.throughput, options.items, Drained.of(address).tokens_per_row)
        bench = Bench(address, pid, generator, requests, options.seconds, limits, capacity)
        steps = [take(bench, times) for times in options.steps]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine_before(load_before),
        "model": options.model,
        "texts": options.profile,
        "texts_per_request": options.items,
        "waiting_rows": limits.waiting_rows,
        "waiting_tokens": limits.waiting_tokens,
        "capacity_per_s": round(capacity.requests_per_s, 1),
        "tokens_per_row": round(capacity.tokens_per_row, 1),
        "seconds_per_step": options.seconds,
        "steps": steps,
        "goodput_kept": kept(steps),
        "complaints": complaints(steps),
    }


def kept(steps: Sequence[dict[str, Any]]) -> float | None:
    """Goodput at 3 times the capacity over that at the capacity, on the mean; None where either was left out."""
    at_capacity, at_triple = ([float(one["goodput_per_s"]) for one in steps if one["times"] == times] for times in (1.0, 3.0))
    if not at_capacity or not at_triple:
        return None
    return round(mean(at_triple) / max(mean(at_capacity), 1e-9), 3)


def complaints(steps: Sequence[dict[str, Any]]) -> list[str]:
    """What was not as promised."""
    found = []
    ratio = kept(steps)
    if ratio is not None and ratio < KEPT:
        found.append(f"goodput at 3 times the capacity is {ratio} of that at the capacity, less than {KEPT}")
    for one in steps:
        at = f"at {one['times']:g} times the capacity"
        if one["others"]:
            found.append(f"{at} {one['others']} requests were answered neither with 200 nor with 429")
        if one["answered_later"]:
            found.append(f"{at} {one['answered_later']} answers came later than the queue limit implies")
        if one["without_plausible_retry_after"]:
            found.append(f"{at} Retry-After was missing or not within 1 to {MAX_RETRY_S} s")
        if one["health"]["failed"]:
            found.append(f"{at} health failed {one['health']['failed']} of {one['health']['asked']} times")
    return found


def _limits(address: Address, model: str, waiting_rows: int) -> Limits:
    told = address.get(f"/v1/models/{model.partition('/')[0]}")["limits"]
    return Limits(waiting_rows, told["max_waiting_tokens"], told["max_batch_rows"], told["max_batch_tokens"])


def _requests(options: argparse.Namespace, host: str) -> list[bytes]:
    texts, size = profile_texts(options.profile), options.items
    groups = [texts[start : start + size] for start in range(0, len(texts) - size + 1, size)]
    return [prepared(host, "/v1/classify", {"inputs": group if size > 1 else group[0]}) for group in groups]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.overload", description="Offer more than can be done.")
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    parser.add_argument("--model", default="sentiment", metavar="NAME", help="a model that classifies texts (sentiment)")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="as HOOPER_DEVICE (auto)")
    parser.add_argument("--profile", choices=PROFILES, default="short", help="texts to send (short)")
    parser.add_argument("--items", type=int, default=1, metavar="N", help="texts in a request (1)")
    parser.add_argument(
        "--waiting-rows", type=int, default=256, metavar="N",
        help="HOOPER_MAX_WAITING_ROWS: with one text a request, connections run out before the default's 2048 are full (256)",
    )  # fmt: skip
    parser.add_argument("--connections", type=int, default=128, metavar="N", help="callers that measure the capacity (128)")
    parser.add_argument(
        "--steps", type=float, nargs="+", default=list(STEPS), metavar="X", help="of the capacity (0.5 1 3 2 3 1)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="seconds per step (30)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="keep the figures")
    parser.add_argument("--image", type=Path, metavar="FILE.svg", help="keep the curve")
    return parser


if __name__ == "__main__":
    sys.exit(main())
