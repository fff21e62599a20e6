"""What Ray Serve costs: one replica behind its proxy against `hooper serve`, the same model and threads, one after the other.

    python -m scripts.bench.ray_overhead                       20 s for each service and number of callers, in 4 turns
    python -m scripts.bench.ray_overhead --output FILE.json    keep the figures

Needs the extra `ray`. The services take turns, A B B A, so that a machine that gets slower does not favour one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.core.errors import HooperError, SetupError
from app.core.exit_codes import EXIT_SETUP
from scripts.bench.connection import prepared
from scripts.bench.load import Measured, closed_loop
from scripts.bench.report import machine_before
from scripts.bench.service import START_S, Address, free_port, started, wait_until_ready
from scripts.bench.texts import profile_texts

TURNS = ("plain", "ray", "ray", "plain")
Service = Callable[[], AbstractContextManager[Address]]


@dataclass(frozen=True, slots=True)
class Overhead:
    """One number of callers: latencies of good answers in milliseconds, answers a second, and what failed."""

    connections: int
    p50_ms: dict[str, float]
    p95_ms: dict[str, float]
    requests_per_s: dict[str, float]
    failed: dict[str, int]

    @property
    def added_ms(self) -> float:
        """What Ray adds to the median."""
        return round(self.p50_ms["ray"] - self.p50_ms["plain"], 2)

    @classmethod
    def of(cls, connections: int, measured: dict[str, Measured]) -> Overhead:
        return cls(
            connections,
            {name: round(one.percentile_ms(0.5), 2) for name, one in measured.items()},
            {name: round(one.percentile_ms(0.95), 2) for name, one in measured.items()},
            {name: round(one.throughput, 1) for name, one in measured.items()},
            {name: sum(sample.status != 200 for sample in one.samples) for name, one in measured.items()},
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Returns:
        0; 1 if a request failed; 2 if a service could not start.
    """
    options = parser().parse_args(arguments)
    load = os.getloadavg()
    try:
        found = measure(options)
    except HooperError as error:
        print(f"ray_overhead: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    report = {
        "command": " ".join(["python -m scripts.bench.ray_overhead", *(arguments or sys.argv[1:])]),
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_before(load),
        "model": options.model, "device": options.device, "engine_threads": options.threads, "profile": options.profile,
        "seconds": options.seconds * TURNS.count("ray"),
        "results": [{**_fields(one), "added_p50_ms": one.added_ms} for one in found],
    }  # fmt: skip
    text = json.dumps(report, indent=2)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")
    return int(any(sum(one.failed.values()) for one in found))


def measure(options: argparse.Namespace) -> list[Overhead]:
    """Each service in its turns, under each number of callers."""
    settings = {"models": str(options.models.resolve()), "serve": options.model, "device": options.device,
                "engine_threads": str(options.threads), "log_level": "warning"}  # fmt: skip
    services: dict[str, Service] = {
        "plain": lambda: started({f"HOOPER_{name.upper()}": value for name, value in settings.items()}),
        "ray": lambda: replica_started(settings),
    }
    merged: dict[int, dict[str, Measured]] = {connections: {} for connections in options.connections}
    for name in TURNS:
        with services[name]() as address:
            for connections in options.connections:
                took = _load(address, options, connections)
                before = merged[connections].get(name)
                merged[connections][name] = took if before is None else _together(before, took)
    return [Overhead.of(connections, measured) for connections, measured in merged.items()]


@contextmanager
def replica_started(settings: dict[str, str]) -> Iterator[Address]:
    """A Ray of its own with one proxy and one replica until the block ends.

    Raises:
        SetupError: Ray is not installed, or the replica does not get ready.
    """
    address = Address("127.0.0.1", free_port())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hooper.yaml"  # JSON is YAML
        file.write_text(json.dumps(configuration(settings, address)), encoding="utf-8")
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
        command = [sys.executable, "-m", "ray.serve.scripts", "run", str(file), "--address", "local"]
        log = Path(folder) / "log"
        with log.open("w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
            try:
                wait_until_ready(address, process, 3 * START_S)
                yield address
            except SetupError as error:
                raise SetupError(f"{error.detail}; is the extra ray installed? {log.read_text()[-500:]}") from error
            finally:
                process.terminate()  # `serve run` takes its Ray with it
                process.wait()


def configuration(settings: dict[str, str], address: Address) -> dict[str, Any]:
    """What `serve run` is given: one replica, as `hooper serve` is one process."""
    one = {"min_replicas": 1, "max_replicas": 1}
    deployment = {"name": "Hooper", "autoscaling_config": one, "ray_actor_options": {"num_cpus": 1}}
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": address.host, "port": address.port},
        "applications": [
            {"name": "hooper", "route_prefix": "/", "import_path": "app.ray_serve:build", "args": settings,
             "deployments": [deployment]}
        ],
    }  # fmt: skip


def _load(address: Address, options: argparse.Namespace, connections: int) -> Measured:
    texts = profile_texts(options.profile)
    requests = [prepared(address.host, "/v1/classify", {"model": options.model, "inputs": text}) for text in texts]
    return asyncio.run(closed_loop(address.host, address.port, requests, connections, options.seconds, options.seconds / 5))


def _together(one: Measured, other: Measured) -> Measured:
    return replace(one, samples=[*one.samples, *other.samples], seconds=one.seconds + other.seconds)


def _fields(one: Overhead) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("connections", "p50_ms", "p95_ms", "requests_per_s", "failed")}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m scripts.bench.ray_overhead", description=__doc__.splitlines()[0])
    made.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    made.add_argument("--model", default="sentiment", metavar="NAME", help="a model that classifies texts (sentiment)")
    made.add_argument("--device", default="auto", metavar="DEVICE", help="as HOOPER_DEVICE (auto)")
    made.add_argument("--threads", type=int, default=1, metavar="N", help="threads of either engine (1)")
    made.add_argument("--profile", choices=("short", "mixed", "long"), default="short", help="which texts (short)")
    made.add_argument("--connections", nargs="+", type=int, default=[1, 32], metavar="N", help="callers (1 32)")
    made.add_argument("--seconds", type=float, default=10.0, metavar="S", help="seconds a load and turn, of two (10)")
    made.add_argument("--output", type=Path, metavar="FILE", help="also write the figures there, as JSON")
    return made


if __name__ == "__main__":
    sys.exit(main())
