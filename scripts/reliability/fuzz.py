"""Fuzzes the real service over real sockets: no answer may be a 5xx, nothing may hang, and nothing may be left behind.

    python -m scripts.reliability.fuzz --cases 50000                   the shipped models
    python -m scripts.reliability.fuzz --cases 500 --models FOLDER     other ones
    python -m scripts.reliability.fuzz --minutes 30 --output FILE.json as many as there is time for; keep the counts

Half of the cases come from the OpenAPI file (schemathesis), the others are texts and bodies that nobody sends by mistake
(hypothesis), and one in ten is a client that misbehaves on its socket. They are drawn in rounds, each of all three; the same
seed draws the same cases.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_FAILED, EXIT_SETUP
from scripts.bench.report import describe_machine
from scripts.bench.service import Address, started_process
from scripts.reliability.tally import Tally

ROUND = 1000
PATIENCE_S = 60.0
RECEIVE_S = 10.0
"""What the service waits for slow clients, so that they need not be waited for long here."""
SETTLE_S = 30.0
MARKS = ("unexpected error", "Traceback", "Exception in ASGI", "never retrieved", "was never awaited", "has died")
"""Words of log lines that no request may cause."""
Part = Callable[[Address, int, random.Random, float], Tally]


@dataclass(frozen=True, slots=True)
class Service:
    """The service that is fuzzed."""

    address: Address
    pid: int
    log: IO[str]

    def num_sockets(self) -> int:
        """Sockets that its process holds open."""
        return sum(self._target(one).startswith("socket:") for one in Path(f"/proc/{self.pid}/fd").iterdir())

    def marks(self) -> list[str]:
        """Lines of its log that should not be there."""
        self.log.seek(0)
        return [line.strip()[:400] for line in self.log if any(mark in line for mark in MARKS)]

    @staticmethod
    def _target(link: Path) -> str:
        try:
            return str(link.readlink())
        except OSError:  # closed meanwhile
            return ""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        report = fuzz(options.cases, options.models, options.seed, 60 * options.minutes)
    except HooperError as error:
        print(f"fuzz: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    text = json.dumps(report, indent=2, ensure_ascii=True) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    print(text, end="")
    return EXIT_FAILED if report["failed"] else 0


def fuzz(count: int, models: Path, number: int, seconds: float = math.inf) -> dict[str, Any]:
    """Start the service, fuzz it, and see what is left.

    Args:
        count: of cases.
        models: the model repository.
        number: the seed.
        seconds: after which no further round begins.

    Raises:
        SetupError: the service does not start.
    """
    began = time.monotonic()
    settings = {"HOOPER_MODELS": str(models), "HOOPER_RECEIVE_S": str(RECEIVE_S), "HOOPER_DEVICE": "cpu"}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        settings["HOOPER_FEEDBACK"] = f"{folder}/feedback.db"
        with started_process(settings, log=log) as (address, pid):
            service = Service(address, pid, log)
            served = address.get("/health/ready")["models"]
            before = service.num_sockets()
            tallies = {name: Tally() for name, _, _ in parts(0)}
            for place in range(0, count, ROUND):
                if time.monotonic() - began > seconds:
                    break
                for name, part, share in parts(min(ROUND, count - place)):
                    tallies[name].add(part(address, share, random.Random(f"{number} {place}"), PATIENCE_S))
            left = left_behind(service, before)
        marks = service.marks()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "models": served,
        "seed": number,
        "seconds": round(time.monotonic() - began, 1),
        "cases": sum(one.num_cases for one in tallies.values()),
        "failed": sum(one.num_failures for one in tallies.values()) + len(left) + len(marks),
        "left_behind": left,
        "log_lines_that_should_not_be": marks,
        "parts": {name: one.told() for name, one in tallies.items()},
    }


def parts(count: int) -> Sequence[tuple[str, Part, int]]:
    """Each part with its share of the cases."""
    from scripts.reliability.fuzz_openapi import fuzz_openapi  # schemathesis is slow to import, and not always wanted
    from scripts.reliability.fuzz_sockets import fuzz_sockets
    from scripts.reliability.fuzz_texts import fuzz_texts

    sockets, openapi = count // 10, count // 2
    return (
        ("sockets", fuzz_sockets, sockets),
        ("openapi", fuzz_openapi, openapi),
        ("texts", fuzz_texts, count - sockets - openapi),
    )


def left_behind(service: Service, num_sockets: int) -> list[str]:
    """What is not as it was before, once connections have had the time to end."""
    left = []
    until = time.monotonic() + SETTLE_S
    while service.num_sockets() > num_sockets and time.monotonic() < until:
        time.sleep(0.2)
    if service.num_sockets() > num_sockets:
        left.append(f"{service.num_sockets()} sockets are open, {num_sockets} were before")
    metrics = _get(service.address, "/metrics")
    waiting = [line for line in metrics.splitlines() if line.startswith("hooper_waiting_rows{") and not line.endswith(" 0.0")]
    return left + waiting + ([] if _is_ready(service.address) else ["the service is not ready any more"])


def _is_ready(address: Address) -> bool:
    try:
        ready: Mapping[str, Any] = address.get("/health/ready")
    except OSError:
        return False
    return bool(ready["status"] == "ready")


def _get(address: Address, path: str) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://{address.host}:{address.port}{path}", timeout=PATIENCE_S) as response:
        text: str = response.read().decode()
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.fuzz", description="Fuzz the real service.")
    parser.add_argument("--cases", type=int, default=50_000, metavar="N", help="how many (default: 50000)")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="N", help="begin no round after these")
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="the model repository")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws other cases")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="keep the counts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
