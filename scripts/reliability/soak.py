"""Soak: a million requests of mixed size, and what the service holds after them that it did not hold before.

    python -m scripts.reliability.soak --requests 1000000 --output docs/measurements/soak.json --image docs/images/soak.svg

Starts `hooper serve` and lets Locust's users (soak_users.py) ask it: short texts, long ones and lists, of several tasks, some
wrong requests, and some clients who leave. Of models that write, where there are any, texts are asked for whole, with beams and
as streams, some of which are left, and no row of a cache may be in use in the end.

Memory, open files and threads are looked at a hundred times. The first tenth of the requests warms up: memory pools grow until
the largest request has been seen. After it memory (resident, and private) must stay within 5 %, and once the callers are gone
there must be no more open files and threads than there were after the warm-up without them. What was measured is kept, also
where it is interrupted or the service ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.report import BLUE, GREEN, GREY, OPTIONS, draw, measurement_parser, run_measurement
from scripts.bench.service import ProcessStats, StartedService, start_service
from scripts.reliability.callers import served_models, used_rows, writing_models

NUM_LOOKS = 100
MAX_MOVEMENT = 0.05
"""How far memory may move after the warm-up, as a share."""
SETTLE_S = 10.0
"""Seconds in which connections that were closed end in the service too."""
RUN_VARIABLE = "SOAK_RUN"


@dataclass(frozen=True, slots=True)
class Look:
    """What a process held when it had been sent so many requests. Private memory is what would leak."""

    requests: int
    rss_mb: float
    pss_mb: float
    private_mb: float
    open_files: int
    threads: int

    @classmethod
    def of(cls, pid: int, requests: int) -> Look:
        process = ProcessStats(pid)
        return cls(requests, *process.memory_mb(), len(process.open_files()), process.num_threads())


@dataclass(frozen=True, slots=True)
class SoakRun:
    """What one run of Locust is told, as JSON in the environment."""

    host: str
    port: int
    pid: int
    seed: int
    requests: int
    sent_before: int
    requests_per_look: int
    models: dict[str, str]
    """Names to tasks, of those that do not write."""
    writers: dict[str, str]
    """Of those that do."""
    result_file: str


@dataclass
class SoakResult:
    """A soak, as far as it has come: `warmed_up` and `ended` are looks when nobody was connected."""

    sent: int = 0
    failed: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    warmed_up: Look | None = None
    ended: Look | None = None
    cache_rows_used: int = 0
    """When nobody was connected any more."""
    interrupted: bool = False
    lost: list[str] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        self.sent += result["sent"]
        self.failed += result["failed"]
        self.kinds = dict(Counter(self.kinds) + Counter(result["kinds"]))
        self.failures += result["failures"]
        self.looks += [Look(**look) for look in result["looks"]]


def run_locust(service: StartedService, options: argparse.Namespace, num_requests: int, so_far: SoakResult) -> None:
    """Let its users send so many requests, and add what became of them."""
    per_look = max(1, options.requests // NUM_LOOKS)
    models, writing = served_models(service.address), writing_models(service.address)
    writers = {name: models.pop(name) for name in writing}
    with tempfile.TemporaryDirectory() as folder:
        result_file = Path(folder, "result.json")
        run = SoakRun(
            service.address.host, service.address.port, service.process.pid, options.seed + so_far.sent, num_requests,
            so_far.sent, per_look, models, writers, str(result_file),
        )  # fmt: skip
        command = [
            sys.executable, "-m", "locust", "--locustfile", str(Path(__file__).with_name("soak_users.py")), "--headless",
            "--host", service.address.url, "--users", str(options.connections), "--spawn-rate", str(options.connections),
            "--loglevel", "WARNING", "--only-summary", "--exit-code-on-error", "0",
        ]  # fmt: skip
        environment = {**os.environ, RUN_VARIABLE: json.dumps(asdict(run))}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as locust:
            try:
                locust.wait()
            except KeyboardInterrupt:
                so_far.interrupted = True
                locust.send_signal(signal.SIGINT)  # it writes what it has
        if result_file.exists():
            so_far.add(json.loads(result_file.read_text(encoding="utf-8")))
    if service.process.poll() is not None:
        so_far.lost.append(f"the service has ended after {so_far.sent:,} requests")


def settled_look(service: StartedService, requests: int) -> Look:
    """What is held when nobody is connected."""
    until = time.monotonic() + SETTLE_S
    look = Look.of(service.process.pid, requests)
    while time.monotonic() < until:
        time.sleep(0.5)
        before, look = look, Look.of(service.process.pid, requests)
        if look.open_files == before.open_files:
            break
    return look


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start the service, ask it, and say what was seen; as far as it came, where it is interrupted or the service ends.

    Raises:
        SetupError: the service does not start.
    """
    began, result = time.monotonic(), SoakResult()
    warm_up = options.requests // 10 if options.warm_up is None else options.warm_up
    with start_service({"HOOPER_MODELS": str(options.models), "HOOPER_DEVICE": options.device}) as service:
        models = service.address.get("/health/ready")["models"]
        for what, num_requests in (("warmed_up", warm_up), ("ended", options.requests - warm_up)):
            if not result.interrupted and not result.lost:
                run_locust(service, options, num_requests, result)
            if not result.interrupted and not result.lost:
                setattr(result, what, settled_look(service, result.sent))
                result.cache_rows_used = used_rows(service.address, SETTLE_S)
        seconds = time.monotonic() - began
    growth = memory_growth(result.looks, warm_up)
    report = {
        "models": models,
        "connections": options.connections,
        "seed": options.seed,
        "seconds": round(seconds, 1),
        "warm_up": warm_up,
        "memory_growth": growth,
        **asdict(result),
        "complaints": [*result.lost, *complaints(result, growth)],
    }
    if options.image and result.looks:
        draw_soak(report, options.image)
    return report


def memory_growth(looks: Sequence[Look], warm_up: int) -> dict[str, float] | None:
    """By which share memory moved furthest from what it was after the warm-up, the median of five looks; None where too few
    were taken."""
    after = [look for look in looks if look.requests >= warm_up]
    if len(after) < 2:
        return None
    growth = {}
    for name in ("rss_mb", "private_mb"):
        values = [getattr(look, name) for look in after]
        first = statistics.median(values[:5])
        growth[name] = round(max(values, key=lambda value: abs(value - first)) / first - 1, 4)
    return growth


def complaints(result: SoakResult, growth: dict[str, float] | None) -> list[str]:
    """What was not as promised, as far as it came."""
    problems = []
    if result.failed:
        problems.append(f"{result.failed} requests failed")
    if result.cache_rows_used:
        problems.append(f"{result.cache_rows_used} rows of caches are in use in the end")
    for name, share in (growth or {}).items():
        if abs(share) > MAX_MOVEMENT:
            problems.append(f"{name} moved by {100 * share:.1f} % after the warm-up, more than {100 * MAX_MOVEMENT:.0f} %")
    if result.warmed_up and result.ended:
        for what in ("open_files", "threads"):
            before, after = getattr(result.warmed_up, what), getattr(result.ended, what)
            if after > before:
                problems.append(f"{after} {what.replace('_', ' ')} in the end, {before} after the warm-up")
    return problems


def draw_soak(report: dict[str, Any], file: Path) -> None:
    """Memory over the requests that were sent."""
    looks = report["looks"]
    sent, highest = [look["requests"] for look in looks], max(look["rss_mb"] for look in looks)

    def paint(_: Any, all_axes: list[Any]) -> None:
        (axes,) = all_axes
        axes.plot(sent, [look["rss_mb"] for look in looks], color=BLUE, label="resident")
        axes.plot(sent, [look["private_mb"] for look in looks], color=GREEN, label="private")
        axes.axvspan(0, report["warm_up"], color=GREY, alpha=0.2, linewidth=0, label="warm-up")
        axes.set(xlabel="requests", ylabel="memory, MB", ylim=(0, 1.25 * highest), xlim=(0, None))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(ncols=3, loc="lower right")

    draw(file, (8, 2.6), paint)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.reliability.soak", __doc__, "models", "device")
    parser.add_argument("--requests", type=int, default=1_000_000, metavar="N", help="how many (1000000)")
    parser.add_argument("--warm-up", type=int, metavar="N", help="of them to warm up (a tenth)")
    parser.add_argument("--connections", type=int, default=32, metavar="N", help="callers at a time (32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws other requests")
    parser.add_argument("--image", **OPTIONS["image"])
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
