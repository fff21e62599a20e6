"""Many clients send large bodies at a time: how much of them the service holds, and what each client is told.

    python -m scripts.reliability.bodies --output docs/measurements/bodies.json

Each client sends its whole body but the last byte, so that nothing is answered for its content before all bodies lie there.
Then it sends the last byte.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import HooperError
from scripts.bench.report import describe_machine, write_json
from scripts.reliability.footprint import Footprint
from scripts.reliability.process import Process, process
from scripts.reliability.service import Running

KEY = "a key"
BODY_BYTES = 2_000_000
MB = 1_000_000
ANSWER_S = 60.0
HELD_S = 1.0
"""So long a client waits before its last byte, to see whether it was refused."""
LOOK_S = 0.01
CONNECTION_MB = 0.5
"""What may be held for each connection besides: buffers of the server, and the objects of a request."""


@dataclass(frozen=True, slots=True)
class Case:
    """Which clients come."""

    name: str
    key: str
    is_chunked: bool
    expected: frozenset[str]
    """Statuses that they may get; `reset` is never one of them."""


CASES = (
    Case("without a key", "", False, frozenset({"401"})),
    Case("without a key, in chunks", "", True, frozenset({"401"})),
    Case("with a key", KEY, False, frozenset({"422", "429"})),
    Case("with a key, in chunks", KEY, True, frozenset({"422", "429"})),
)


def request(case: Case) -> bytes:
    """A request that is refused for its content, cheaply, once all of it is there."""
    body = b'{"inputs": 1, "x": "' + b"x" * (BODY_BYTES - 22) + b'"}'
    length = "Transfer-Encoding: chunked" if case.is_chunked else f"Content-Length: {len(body)}"
    key = f"Authorization: Bearer {case.key}\r\n" if case.key else ""
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}{length}\r\n\r\n"
    return head.encode() + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if case.is_chunked else body)


async def send(port: int, data: memoryview, is_sent: asyncio.Semaphore, go_on: asyncio.Event) -> str:
    """One client.

    Returns:
        The status that it was given, or `reset`.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, data[:-1])
            is_sent.release()
            await go_on.wait()
            await loop.sock_sendall(connection, data[-1:])
            answer = await loop.sock_recv(connection, 65_536)
        except ConnectionError:
            is_sent.release()
            return "reset"
    return answer[9:12].decode() or "closed"


async def send_all(port: int, case: Case, num_connections: int) -> Counter[str]:
    data, is_sent, go_on = memoryview(request(case)), asyncio.Semaphore(0), asyncio.Event()
    clients = [asyncio.create_task(send(port, data, is_sent, go_on)) for _ in range(num_connections)]
    async with asyncio.timeout(ANSWER_S):
        for _ in clients:
            await is_sent.acquire()
        await asyncio.sleep(HELD_S)
        go_on.set()
        return Counter(await asyncio.gather(*clients))


async def watched(service: Process, case: Case, num_connections: int) -> dict[str, Any]:
    """What came of it, and how much memory was taken meanwhile."""
    pid, peak = service.process.pid, 0.0
    before = Footprint.of(pid, 0)
    sending = asyncio.create_task(send_all(service.running.port, case, num_connections))
    while not sending.done():
        peak = max(peak, (await asyncio.to_thread(Footprint.of, pid, 0)).rss_mb)
        await asyncio.wait([sending], timeout=LOOK_S)
    statuses = sending.result()
    return {
        "case": case.name,
        "sent": num_connections,
        "sent_mb": round(num_connections * BODY_BYTES / MB),
        "statuses": dict(sorted(statuses.items())),
        "before_mb": before.rss_mb,
        "peak_mb": peak,
        "more_mb": round(peak - before.rss_mb, 1),
        "expected": sorted(case.expected),
    }


def complaints(told: dict[str, Any], budget_bytes: int) -> list[str]:
    """What a case did that it must not."""
    found = []
    wrong = {status: count for status, count in told["statuses"].items() if status not in told["expected"]}
    if wrong:
        found.append(f"{told['case']}: {wrong}; expected were {', '.join(told['expected'])}")
    allowed = told["sent"] * CONNECTION_MB + (2 * budget_bytes / MB if "429" in told["expected"] else 0)
    if told["more_mb"] > allowed:
        found.append(f"{told['case']}: {told['more_mb']} MB more were taken; {allowed:.0f} are allowed")
    return found


def measure(models: Path, num_connections: int, budget_bytes: int) -> tuple[dict[str, Any], list[str]]:
    """Each case on a service of its own, so that none begins with what another has left in the allocator."""
    settings = {
        "HOOPER_MODELS": str(models),
        "HOOPER_SERVE": "sentiment",
        "HOOPER_DEVICE": "cpu",
        "HOOPER_API_KEY_HASHES": hashlib.sha256(KEY.encode()).hexdigest(),
        "HOOPER_MAX_HELD_BODY_BYTES": str(budget_bytes),
        "HOOPER_MAX_CONNECTIONS": str(num_connections + 10),
    }
    cases = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, process(settings, Path(folder) / "log") as service:
            told = asyncio.run(watched(service, case, num_connections))
            told["is_alive"] = is_alive(service.running)
            print(json.dumps(told), flush=True)
            cases.append(told)
    found = [one for told in cases for one in complaints(told, budget_bytes)]
    found += [f"{told['case']}: the service did not answer afterwards" for told in cases if not told["is_alive"]]
    return {**describe_machine(), "budget_bytes": budget_bytes, "cases": cases}, found


def is_alive(service: Running) -> bool:
    return service.status("/health/live") == 200


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.bodies", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"), help="a repository with a model `sentiment`")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--budget-bytes", type=int, default=67_108_864, help="HOOPER_MAX_HELD_BODY_BYTES")
    parser.add_argument("--output", type=Path, help="the file for the figures")
    options = parser.parse_args(arguments)
    try:
        told, found = measure(options.models, options.connections, options.budget_bytes)
    except (HooperError, OSError) as error:
        print(f"bodies: {error}", file=sys.stderr)
        return 2
    write_json(options.output, told)
    for one in found:
        print(f"bodies: {one}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
