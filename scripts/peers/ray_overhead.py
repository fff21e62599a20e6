"""What Ray Serve costs: one replica behind its proxy against `hooper serve`, the same model and threads, one after the other.

    python -m scripts.peers.ray_overhead --output scripts/peers/results/ray_overhead.json

Needs the extra `ray`. The services take turns, A B B A, so that a machine that gets slower does not favour one of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from app.core.errors import SetupError
from scripts.bench.load import LoadResult, measure_closed_loop, text_requests
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import START_S, StartedService, start_service
from scripts.bench.texts import profile_texts

TURNS = ("plain", "ray", "ray", "plain")


def overhead(connections: int, results: Mapping[str, Sequence[LoadResult]]) -> dict[str, Any]:
    """One number of callers: latencies of good answers in milliseconds, answers a second, and what failed."""
    merged = {
        name: LoadResult([sample for turn in turns for sample in turn.samples], sum(turn.seconds for turn in turns))
        for name, turns in results.items()
    }
    p50 = {name: round(result.percentile_ms(0.5), 2) for name, result in merged.items()}
    return {
        "connections": connections,
        "p50_ms": p50,
        "p95_ms": {name: round(result.percentile_ms(0.95), 2) for name, result in merged.items()},
        "requests_per_s": {name: round(result.requests_per_s, 1) for name, result in merged.items()},
        "failed": {name: result.num_failed for name, result in merged.items()},
        "added_p50_ms": round(p50["ray"] - p50["plain"], 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Each service in its turns, under each number of callers."""
    settings = {"models": str(options.models.resolve()), "serve": options.model, "device": options.device,
                "engine_threads": str(options.threads), "log_level": "warning"}  # fmt: skip
    services: dict[str, Callable[[], AbstractContextManager[StartedService]]] = {
        "plain": lambda: start_service({f"HOOPER_{name.upper()}": value for name, value in settings.items()}),
        "ray": lambda: start_replica(settings),
    }
    requests = text_requests("/v1/classify", profile_texts(options.profile), model=options.model)
    results: dict[int, dict[str, list[LoadResult]]] = {
        connections: {"plain": [], "ray": []} for connections in options.connections
    }
    for name in TURNS:
        with services[name]() as service:
            for connections, of_services in results.items():
                of_services[name].append(measure_closed_loop(service.address, requests, connections, options.seconds))
    overheads = [overhead(connections, of_services) for connections, of_services in results.items()]
    num_failed = sum(sum(row["failed"].values()) for row in overheads)
    return {
        "model": options.model, "device": options.device, "engine_threads": options.threads, "profile": options.profile,
        "seconds": options.seconds * TURNS.count("ray"), "results": overheads,
        "complaints": [f"{num_failed} requests failed"] if num_failed else [],
    }  # fmt: skip


@contextmanager
def start_replica(settings: Mapping[str, str]) -> Iterator[StartedService]:
    """A Ray of its own with one proxy and one replica until the block ends.

    Raises:
        SetupError: Ray is not installed, or the replica does not get ready.
    """
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w") as log:
        file = Path(folder, "hooper.yaml")

        def command(port: int) -> list[str]:
            file.write_text(json.dumps(configuration(settings, port)), encoding="utf-8")  # JSON is YAML
            return [sys.executable, "-m", "ray.serve.scripts", "run", str(file), "--address", "local"]

        environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
        try:
            with start_service(environment, command, log=log, start_s=3 * START_S) as service:  # `serve run` ends its Ray too
                yield service
        except SetupError as error:
            tail = Path(folder, "log").read_text()[-500:]
            raise SetupError(f"{error.detail}; is the extra ray installed? {tail}") from error


def configuration(settings: Mapping[str, str], port: int) -> dict[str, Any]:
    """What `serve run` is given: one replica, as `hooper serve` is one process."""
    scaling = {"min_replicas": 1, "max_replicas": 1}
    deployment = {"name": "Hooper", "autoscaling_config": scaling, "ray_actor_options": {"num_cpus": 1}}
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {"name": "hooper", "route_prefix": "/", "import_path": "app.ray_serve:build", "args": dict(settings),
             "deployments": [deployment]}
        ],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.peers.ray_overhead", __doc__, "models", "model", "device", "profile")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of either engine (1)")
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 32], metavar="N", help="callers (1 32)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each turn (10)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
