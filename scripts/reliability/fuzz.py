"""Fuzzes the real service over real sockets: no answer may be a 5xx, nothing may hang, and nothing may be left behind.

    python -m scripts.reliability.fuzz --cases 50000                   the shipped models
    python -m scripts.reliability.fuzz --cases 500 --models FOLDER     other ones
    python -m scripts.reliability.fuzz --minutes 30 --output FILE.json as many as there is time for; keep the counts

Most cases are `schemathesis run` on the OpenAPI file (schemathesis.toml, fuzz_hooks.py), requests that fit it and requests that
do not, with texts among them that nobody sends by mistake. One in five is a client that misbehaves on its socket.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.errors import SetupError
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import OK, Address, StartedService, start_service
from scripts.reliability.callers import native_path, served_models, used_rows
from scripts.reliability.fuzz_sockets import PATHS, fuzz_sockets

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
TIMEOUT_S = 60.0
RECEIVE_S = 10.0
"""What the service waits for slow clients, so that they need not be waited for long here."""
SETTLE_S = 30.0
NO_FAILURE, FAILURES = 0, 1
MARKS = ("unexpected error", "Traceback", "Exception in ASGI", "never retrieved", "was never awaited", "has died")
"""Words of log lines that no request may cause."""


def run_schemathesis(address: Address, count: int, seed: int, seconds: float) -> dict[str, Any]:
    """At most so many cases, as many for each operation: how often each status was answered, and whether the check passed; what
    it found stands on standard error.

    Raises:
        SetupError: it could not run.
    """
    num_operations = sum(len(methods) for methods in address.get("/openapi.json")["paths"].values())
    models = [model["name"] for model in address.get("/v1/models")["models"]]
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "counts.json")
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIGURATION), "run",
            f"{address.url}/openapi.json", "--checks", "no_server_error", "--phases", "fuzzing", "--mode", "all",
            "--max-examples", str(max(1, count // num_operations)), "--seed", str(seed), "--no-shrink", "--no-color",
            "--request-timeout", str(TIMEOUT_S), "--suppress-health-check", "all", "--warnings", "off",
            *(["--max-time", str(max(1, round(seconds)))] if math.isfinite(seconds) else []),
        ]  # fmt: skip
        environment = {**os.environ, "FUZZ_COUNTS": str(counts), "FUZZ_MODELS": json.dumps(models)}
        ran = subprocess.run(
            command, env=environment, cwd=CONFIGURATION.parents[2], capture_output=True, text=True, check=False
        )  # fmt: skip
        if ran.returncode not in (NO_FAILURE, FAILURES) or not counts.is_file():
            raise SetupError(f"schemathesis ended with {ran.returncode}: {ran.stdout[-500:]}")
        statuses: dict[str, int] = json.loads(counts.read_text(encoding="utf-8"))
    if ran.returncode:
        print(ran.stdout, file=sys.stderr)
    return {"cases": sum(statuses.values()), "failed": int(ran.returncode == FAILURES), "statuses": statuses}


def left_behind(service: StartedService, num_sockets: int) -> list[str]:
    """What is not as it was before, once connections have had the time to end."""
    leftovers, until = [], time.monotonic() + SETTLE_S
    while open_sockets(service) > num_sockets and time.monotonic() < until:
        time.sleep(0.2)
    if open_sockets(service) > num_sockets:
        leftovers.append(f"{open_sockets(service)} sockets are open, {num_sockets} were before")
    waiting = service.address.metric("hooper_waiting_rows")
    leftovers += [f"{count:g} rows wait {labels}" for labels, count in waiting.items() if count]
    if used := used_rows(service.address, SETTLE_S):
        leftovers.append(f"{used} rows of caches are in use, and nobody waits")
    return leftovers + ([] if service.address.status("/health/ready") == OK else ["the service is not ready any more"])


def open_sockets(service: StartedService) -> int:
    return sum(target.startswith("socket:") for target in service.stats.open_files())


def marked_lines(log: Sequence[str]) -> list[str]:
    """Lines of a log that should not be there."""
    return [line.strip()[:400] for line in log if any(mark in line for mark in MARKS)]


def fuzz(count: int, models: Path, seed: int, seconds: float = math.inf) -> dict[str, Any]:
    """Start the service, fuzz it with so many cases for about so many seconds at most, and see what is left.

    Raises:
        SetupError: the service does not start.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "HOOPER_MODELS": str(models), "HOOPER_RECEIVE_S": str(RECEIVE_S), "HOOPER_DEVICE": "cpu",
            "HOOPER_FEEDBACK": f"{folder}/feedback.db",
        }  # fmt: skip
        log = Path(folder, "log")
        with log.open("wb") as stream, start_service(settings, log=stream) as service:
            served, before = service.address.get("/health/ready")["models"], open_sockets(service)
            paths = [*dict.fromkeys(map(native_path, served_models(service.address).values())), *PATHS]
            sockets = fuzz_sockets(service.address, count // 5, random.Random(seed), TIMEOUT_S, paths)
            openapi = run_schemathesis(service.address, count - count // 5, seed, seconds - (time.monotonic() - began))
            leftovers = left_behind(service, before)
        marks = marked_lines(log.read_text(encoding="utf-8", errors="replace").splitlines())
    failed = openapi["failed"] + sockets.num_failures + len(leftovers) + len(marks)
    return {
        "models": served,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "cases": openapi["cases"] + sum(sockets.kinds.values()),
        "failed": failed,
        "left_behind": leftovers,
        "log_lines_that_should_not_be": marks,
        "parts": {"openapi": openapi, "sockets": sockets.figures()},
        "complaints": [f"{failed} failures"] if failed else [],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.reliability.fuzz", __doc__, "models")
    parser.add_argument("--cases", type=int, default=50_000, metavar="N", help="how many (default: 50000)")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="N", help="end after about so many")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws other cases")

    def measure(options: argparse.Namespace) -> dict[str, Any]:
        return fuzz(options.cases, options.models, options.seed, 60 * options.minutes)

    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
