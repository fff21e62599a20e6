"""Soak: a million requests of mixed size, and what the service holds after them that it did not hold before.

    python -m scripts.reliability.soak --requests 1000000 --output docs/measurements/soak.json --image docs/images/soak.svg

Starts `hooper serve` and asks it over some connections: short texts, long ones and lists, all three tasks, some wrong requests,
and some clients who leave. Memory, open files and threads are looked at a hundred times. The first tenth of the requests warms
up: memory pools grow until the largest request has been seen. After it memory (resident, and private) must stay within 5 %,
and once the callers are gone there must be no more open files and threads than there were after the warm-up without them. What
was measured is kept, also where it is interrupted or the service ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from os import getloadavg
from pathlib import Path
from typing import Any

import uvloop

from app.core.errors import HooperError, SetupError
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP
from scripts.bench.report import machine_before
from scripts.bench.service import Address, started_process
from scripts.reliability.footprint import Footprint
from scripts.reliability.picture import draw_soak
from scripts.reliability.soak_load import Counts, send
from scripts.reliability.soak_requests import draw

LOOKS = 100
FLAT = 0.05
"""How far memory may move after the warm-up."""
SETTLE_S = 10.0
"""Seconds in which connections that were closed end in the service too."""


@dataclass
class Soak:
    """A run, as far as it has come."""

    address: Address
    pid: int
    connections: int
    seed: int
    counts: Counts = field(default_factory=Counts)
    looks: list[Footprint] = field(default_factory=list)
    """While it is asked."""
    warmed_up: Footprint | None = None
    """After the warm-up, when nobody asks."""
    ended: Footprint | None = None
    """The same, in the end."""

    async def run(self, num_requests: int, warm_up: int) -> None:
        """
        Raises:
            SetupError: the service has ended.
        """
        coming = cycle(draw(self.seed))
        size = max(1, num_requests // LOOKS)
        try:
            while self.counts.sent < num_requests:
                count = min(size, num_requests - self.counts.sent)
                await send(self.address.host, self.address.port, coming, count, self.connections, self.counts)
                self._look()
                if self.warmed_up is None and self.counts.sent >= warm_up:
                    self.warmed_up = await self._settled()
            self.ended = await self._settled()
        except* OSError as errors:
            raise SetupError(f"the service has ended after {self.counts.sent:,} requests") from errors

    def _look(self) -> None:
        look = Footprint.of(self.pid, self.counts.sent)
        self.looks.append(look)
        held = f"{look.rss_mb:.0f} MB, {look.open_files} files, {look.threads} threads"
        print(f"{self.counts.sent:>12,} requests  {held}  {self.counts.failed} failed", file=sys.stderr, flush=True)

    async def _settled(self) -> Footprint:
        """What is held when nobody is connected."""
        until = time.monotonic() + SETTLE_S
        look = Footprint.of(self.pid, self.counts.sent)
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            before, look = look, Footprint.of(self.pid, self.counts.sent)
            if look.open_files == before.open_files:
                break
        return look


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        report = soak(options)
    except HooperError as error:
        print(f"soak: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    text = json.dumps(report, indent=2) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    if options.image and report["looks"]:
        draw_soak(report, options.image)
    print(text, end="")
    for one in report["complaints"]:
        print(f"soak: {one}", file=sys.stderr)
    if report["interrupted"]:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if report["complaints"] else 0


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Start the service, ask it, and say what was seen; as far as it came, where it is interrupted or the service ends.

    Raises:
        SetupError: the service does not start.
    """
    load_before, began, is_interrupted, lost = getloadavg(), time.monotonic(), False, []
    warm_up = options.requests // 10 if options.warm_up is None else options.warm_up
    with started_process({"HOOPER_MODELS": str(options.models), "HOOPER_DEVICE": options.device}) as (address, pid):
        served = address.get("/health/ready")["models"]
        run = Soak(address, pid, options.connections, options.seed)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run.run(options.requests, warm_up))
        except KeyboardInterrupt:
            is_interrupted = True
        except SetupError as error:
            lost = [error.detail]
        seconds = time.monotonic() - began
    growth = memory_growth(run.looks, warm_up)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine_before(load_before),
        "models": served,
        "connections": options.connections,
        "seed": options.seed,
        "seconds": round(seconds, 1),
        "interrupted": is_interrupted,
        **run.counts.told(),
        "warm_up": warm_up,
        "memory_growth": growth,
        "warmed_up": run.warmed_up and run.warmed_up.told(),
        "ended": run.ended and run.ended.told(),
        "looks": [one.told() for one in run.looks],
        "complaints": [*lost, *complaints(run, growth)],
    }


def memory_growth(looks: Sequence[Footprint], warm_up: int) -> dict[str, float] | None:
    """By which share memory moved furthest from what it was after the warm-up, the median of five looks; None where too few
    were taken."""
    after = [one for one in looks if one.requests >= warm_up]
    if len(after) < 2:
        return None
    growth = {}
    for name in ("rss_mb", "private_mb"):
        values = [getattr(one, name) for one in after]
        first = statistics.median(values[:5])
        growth[name] = round(max(values, key=lambda value: abs(value - first)) / first - 1, 4)
    return growth


def complaints(run: Soak, growth: dict[str, float] | None) -> list[str]:
    """What was not as promised, as far as it came."""
    found = []
    if run.counts.failed:
        found.append(f"{run.counts.failed} requests failed")
    for name, share in (growth or {}).items():
        if abs(share) > FLAT:
            found.append(f"{name} moved by {100 * share:.1f} % after the warm-up, more than {100 * FLAT:.0f} %")
    if run.warmed_up and run.ended:
        for what in ("open_files", "threads"):
            before, after = getattr(run.warmed_up, what), getattr(run.ended, what)
            if after > before:
                found.append(f"{after} {what.replace('_', ' ')} in the end, {before} after the warm-up")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.soak", description="Ask a million times.")
    parser.add_argument("--requests", type=int, default=1_000_000, metavar="N", help="how many (1000000)")
    parser.add_argument("--warm-up", type=int, metavar="N", help="of them to warm up (a tenth)")
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="as HOOPER_DEVICE (auto)")
    parser.add_argument("--connections", type=int, default=32, metavar="N", help="callers at a time (32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws other requests")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="keep the figures")
    parser.add_argument("--image", type=Path, metavar="FILE.svg", help="keep the curve of memory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
