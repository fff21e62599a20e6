"""How late `/health/live` answers while bodies come that are far cheaper to send than to check.

    python -m scripts.reliability.costly --output docs/measurements/costly.json

Each body of two megabytes goes to each route of the OpenAPI file, without a key to a service that asks for none and to one that
does. Meanwhile liveness is asked every ten milliseconds; an answer's lateness counts from when it was due to be asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_SETUP
from scripts.bench.report import machine_before, write_json
from scripts.bench.service import Address, started_process

EVERY_S = 0.01
QUIET_S = 3.0
PATIENCE_S = 300.0
NUM_BYTES = 2_000_000
JSON = {"Content-Type": "application/json"}
KEY_HASH = hashlib.sha256(b"a key that nobody sends").hexdigest()
FIELDS = ",".join(f'"field{number}":0' for number in range(12))
MANY_FIELDS = ",".join(f'"{number:07}":0' for number in range(NUM_BYTES // 12 - 10))


def repeated(start: str, part: str, end: str, most: int = NUM_BYTES) -> bytes:
    """As many of the parts as there is room for, with commas between them."""
    count = min(most, (NUM_BYTES - len(start) - len(end)) // (len(part) + 1))
    return (start + ",".join([part] * count) + end).encode()


BODIES: dict[str, bytes] = {
    "numbers": repeated('{"inputs":[', "0", "]}"),
    "objects": repeated('{"inputs":[', "{}", "]}"),
    "lists": repeated('{"inputs":[', "[]", "]}"),
    "a list in a list": repeated('{"inputs":[[', "0", "]]}"),
    "texts": repeated('{"inputs":[', '""', "]}"),
    "fields": f'{{"inputs":"a",{MANY_FIELDS}}}'.encode(),
    "wrong items": repeated('{"inputs":[', "{" + FIELDS + "}", "]}", 256),
    "parameters": f'{{"inputs":"a","parameters":{{{MANY_FIELDS}}}}}'.encode(),
    "tensor": repeated('{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":[', "0", "]}]}"),
    "nested": b'{"inputs":' + b"[" * (NUM_BYTES // 2) + b"]" * (NUM_BYTES // 2) + b"}",
    "digits": b'{"inputs":' + b"1" * NUM_BYTES + b"}",
    "values within the bounds": repeated('{"inputs":[[', "0", "]]}", 65_000),
}


@dataclass
class Lateness:
    """Of answers, in seconds."""

    seconds: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        shares = {"p50_ms": 0.5, "p99_ms": 0.99, "longest_ms": 1.0}
        last = len(ordered) - 1
        found = {name: round(1000 * ordered[min(last, int(share * len(ordered)))], 1) for name, share in shares.items()}
        return {"asked": len(ordered), **found}


@contextmanager
def watched(address: Address) -> Iterator[Lateness]:
    """Liveness, asked at its times from a thread of its own until the block ends."""
    lateness, over = Lateness(), threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE_S)
        due = time.perf_counter()
        while not over.wait(max(0.0, due - time.perf_counter())):
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            now = time.perf_counter()
            while due <= now:  # all that were due meanwhile waited since then
                lateness.seconds.append(now - due)
                due += EVERY_S
        connection.close()

    thread = threading.Thread(target=ask, name="liveness")
    thread.start()
    try:
        yield lateness
    finally:
        over.set()
        thread.join()


def paths(address: Address) -> list[str]:
    """Every path that takes a body, with a loaded model's name in it."""
    model = address.get("/health/ready")["models"][0].partition("/")[0]
    found = [path for path, methods in address.get("/openapi.json")["paths"].items() if "post" in methods]
    return [path.replace("{name}", model).replace("{version}", "1") for path in found]


def send(address: Address, path: str, body: bytes) -> tuple[int, float]:
    """The status, and the seconds that it took."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE_S)
    began = time.perf_counter()
    connection.request("POST", path, body, JSON)
    with connection.getresponse() as answer:
        answer.read()
        status = answer.status
    connection.close()
    return status, time.perf_counter() - began


def peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    (peak,) = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return peak / 1024


def measure(settings: dict[str, str], wanted: argparse.Namespace) -> dict[str, Any]:
    """One service, asked with every body on every route."""
    rows: list[dict[str, Any]] = []
    everything = Lateness()
    folder = wanted.code.resolve() if wanted.code else None
    with started_process(settings, folder=folder) as (address, pid):
        with watched(address) as quiet:
            time.sleep(QUIET_S)
        before = peak_mib(pid)
        for path in wanted.paths or paths(address):
            for name in wanted.bodies or BODIES:
                with watched(address) as lateness:
                    answers = [send(address, path, BODIES[name]) for _ in range(wanted.times)]
                everything.seconds += lateness.seconds
                statuses = sorted({status for status, _ in answers})
                longest = max(seconds for _, seconds in answers)
                rows.append({"path": path, "body": name, "statuses": statuses, "s": round(longest, 3)} | lateness.told())
                print(json.dumps(rows[-1]), file=sys.stderr)
        more = peak_mib(pid) - before
    return {
        "quiet": quiet.told(),
        "meanwhile": everything.told(),
        "slowest_answer_s": max(row["s"] for row in rows),
        "more_memory_mib": round(more, 1),
        "requests": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    wanted = _parser().parse_args(arguments)
    machine = machine_before(os.getloadavg())
    settings = {"HOOPER_MODELS": str(wanted.models.resolve()), "HOOPER_DEVICE": "cpu"}
    try:
        runs = {
            "no key asked for": measure(settings, wanted),
            "a key asked for, none sent": measure(settings | {"HOOPER_API_KEY_HASHES": KEY_HASH}, wanted),
        }
    except HooperError as error:
        print(f"costly: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    report = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "machine": machine, "bytes": NUM_BYTES, **runs}
    write_json(wanted.output, report)
    for name, run in runs.items():
        print(name, json.dumps({key: value for key, value in run.items() if key != "requests"}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.costly", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model repository")
    parser.add_argument("--paths", nargs="+", help="routes to ask, with a model's name filled in; by default all")
    parser.add_argument("--bodies", nargs="+", choices=BODIES, help="bodies to send; by default all")
    parser.add_argument("--times", type=int, default=10, help="how often each body goes to each route")
    parser.add_argument("--code", type=Path, help="a checkout of another version, measured in place of this one")
    parser.add_argument("--output", type=Path, help="where the report goes, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
