"""Bodies that are cheap to send: how much memory many large ones take, and how late `/health/live` is while costly ones come.

    python -m scripts.reliability.bodies memory --output docs/measurements/bodies.json
    python -m scripts.reliability.bodies lateness --output docs/measurements/costly.json

For memory, each of many clients sends its whole body but the last byte, so that nothing is answered for its content before all
bodies lie there; then it sends the last byte. For lateness, each body of two megabytes goes to each route of the OpenAPI file,
without a key to a service that asks for none and to one that does.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import OK, Address, StartedService, start_service
from scripts.reliability.health import TIMEOUT_S, HealthLog, watch_health

KEY = "a key"
KEY_HASH = hashlib.sha256(KEY.encode()).hexdigest()
NUM_BYTES = 2_000_000
MB = 1_000_000

# --- memory

ANSWER_S = 60.0
PAUSE_S = 1.0
"""So long a client waits before its last byte, to see whether it was refused."""
LOOK_S = 0.01
CONNECTION_MB = 0.5
"""What may be held for each connection besides: buffers of the server, and the objects of a request."""


@dataclass(frozen=True, slots=True)
class ClientKind:
    """Which clients come, and the statuses that they may get; `reset` is never one of them."""

    name: str
    key: str
    is_chunked: bool
    expected: frozenset[str]


CLIENT_KINDS = (
    ClientKind("without a key", "", False, frozenset({"401"})),
    ClientKind("without a key, in chunks", "", True, frozenset({"401"})),
    ClientKind("with a key", KEY, False, frozenset({"422", "429"})),
    ClientKind("with a key, in chunks", KEY, True, frozenset({"422", "429"})),
)


def large_request(kind: ClientKind) -> bytes:
    """A request that is refused for its content, cheaply, once all of it is there."""
    body = b'{"inputs": 1, "x": "' + b"x" * (NUM_BYTES - 22) + b'"}'
    length = "Transfer-Encoding: chunked" if kind.is_chunked else f"Content-Length: {len(body)}"
    key = f"Authorization: Bearer {kind.key}\r\n" if kind.key else ""
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}{length}\r\n\r\n"
    return head.encode() + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if kind.is_chunked else body)


async def send_slowly(port: int, data: memoryview, is_sent: asyncio.Semaphore, go_on: asyncio.Event) -> str:
    """One client: the status that it was given, or `reset`."""
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


async def send_all(port: int, kind: ClientKind, num_connections: int) -> Counter[str]:
    data, is_sent, go_on = memoryview(large_request(kind)), asyncio.Semaphore(0), asyncio.Event()
    clients = [asyncio.create_task(send_slowly(port, data, is_sent, go_on)) for _ in range(num_connections)]
    async with asyncio.timeout(ANSWER_S):
        for _ in clients:
            await is_sent.acquire()
        await asyncio.sleep(PAUSE_S)
        go_on.set()
        return Counter(await asyncio.gather(*clients))


async def memory_figures(service: StartedService, kind: ClientKind, num_connections: int) -> dict[str, Any]:
    """What the clients got, and how much memory was taken meanwhile."""
    before = peak = service.stats.memory_mb()[0]
    sending = asyncio.create_task(send_all(service.address.port, kind, num_connections))
    while not sending.done():
        peak = max(peak, (await asyncio.to_thread(service.stats.memory_mb))[0])
        await asyncio.wait([sending], timeout=LOOK_S)
    return {
        "case": kind.name,
        "sent": num_connections,
        "sent_mb": round(num_connections * NUM_BYTES / MB),
        "statuses": dict(sorted(sending.result().items())),
        "before_mb": before,
        "peak_mb": peak,
        "more_mb": round(peak - before, 1),
        "expected": sorted(kind.expected),
        "is_alive": service.address.status("/health/live") == OK,
    }


def memory_complaints(case: Mapping[str, Any], budget_bytes: int) -> list[str]:
    """What a kind of client did to the service, or got from it, that must not be."""
    problems = []
    wrong = {status: count for status, count in case["statuses"].items() if status not in case["expected"]}
    if wrong:
        problems.append(f"{case['case']}: {wrong}; expected were {', '.join(case['expected'])}")
    allowed = case["sent"] * CONNECTION_MB + (2 * budget_bytes / MB if "429" in case["expected"] else 0)
    if case["more_mb"] > allowed:
        problems.append(f"{case['case']}: {case['more_mb']} MB more were taken; {allowed:.0f} are allowed")
    if not case["is_alive"]:
        problems.append(f"{case['case']}: the service did not answer afterwards")
    return problems


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Each kind on a service of its own, so that none begins with what another has left in the allocator."""
    settings = {
        "HOOPER_MODELS": str(options.models),
        "HOOPER_SERVE": options.model,
        "HOOPER_DEVICE": "cpu",
        "HOOPER_API_KEY_HASHES": KEY_HASH,
        "HOOPER_MAX_HELD_BODY_BYTES": str(options.budget_bytes),
        "HOOPER_MAX_CONNECTIONS": str(options.connections + 10),
    }
    cases = []
    for kind in CLIENT_KINDS:
        with start_service(settings) as service:
            cases.append(asyncio.run(memory_figures(service, kind, options.connections)))
            print(json.dumps(cases[-1]), file=sys.stderr, flush=True)
    complaints = [complaint for case in cases for complaint in memory_complaints(case, options.budget_bytes)]
    return {"budget_bytes": options.budget_bytes, "cases": cases, "complaints": complaints}


# --- lateness

EVERY_S = 0.01
QUIET_S = 3.0
FIELDS = ",".join(f'"field{number}":0' for number in range(12))
MANY_FIELDS = ",".join(f'"{number:07}":0' for number in range(NUM_BYTES // 12 - 10))


def repeated(start: str, part: str, end: str, max_parts: int = NUM_BYTES) -> bytes:
    """As many of the parts as there is room for, with commas between them."""
    count = min(max_parts, (NUM_BYTES - len(start) - len(end)) // (len(part) + 1))
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


def post_paths(address: Address) -> list[str]:
    """Every path that takes a body, with a loaded model's name in it."""
    model = address.get("/health/ready")["models"][0].partition("/")[0]
    paths = [path for path, methods in address.get("/openapi.json")["paths"].items() if "post" in methods]
    return [path.replace("{name}", model).replace("{version}", "1") for path in paths]


def send_body(address: Address, path: str, body: bytes) -> tuple[int, float]:
    """The status, and the seconds that it took."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    began = time.perf_counter()
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    with connection.getresponse() as answer:
        answer.read()
        status = answer.status
    connection.close()
    return status, time.perf_counter() - began


def lateness_figures(settings: Mapping[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """One service, asked with every body on every route."""
    rows: list[dict[str, Any]] = []
    everything = HealthLog()
    with start_service(settings) as service:
        with watch_health(service.address, EVERY_S) as quiet:
            time.sleep(QUIET_S)
        memory_before = service.stats.memory_mib("VmHWM")
        for path in options.paths or post_paths(service.address):
            for name in options.bodies or BODIES:
                with watch_health(service.address, EVERY_S) as health:
                    answers = [send_body(service.address, path, BODIES[name]) for _ in range(options.times)]
                everything.seconds += health.seconds
                everything.failures += health.failures
                statuses, longest = sorted({status for status, _ in answers}), max(seconds for _, seconds in answers)
                rows.append({"path": path, "body": name, "statuses": statuses, "s": round(longest, 3), **health.figures()})
                print(json.dumps(rows[-1]), file=sys.stderr)
        more_memory = service.stats.memory_mib("VmHWM") - memory_before
    return {
        "quiet": quiet.figures(),
        "meanwhile": everything.figures(),
        "slowest_answer_s": max(row["s"] for row in rows),
        "more_memory_mib": more_memory,
        "requests": rows,
    }


def measure_lateness(options: argparse.Namespace) -> dict[str, Any]:
    settings = {"HOOPER_MODELS": str(options.models.resolve()), "HOOPER_DEVICE": "cpu"}
    runs = {
        "no key asked for": lateness_figures(settings, options),
        "a key asked for, none sent": lateness_figures(settings | {"HOOPER_API_KEY_HASHES": KEY_HASH}, options),
    }
    failures = [f"{name}: health failed" for name, run in runs.items() if run["meanwhile"]["failed"]]
    return {"bytes": NUM_BYTES, **runs, "complaints": failures}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.reliability.bodies", __doc__, "models", "model")
    parser.add_argument("what", choices=("memory", "lateness"), help="what to measure")
    parser.add_argument("--connections", type=int, default=200, help="memory: clients at a time")
    parser.add_argument("--budget-bytes", type=int, default=67_108_864, help="memory: HOOPER_MAX_HELD_BODY_BYTES")
    parser.add_argument("--paths", nargs="+", help="lateness: routes to ask, with a model's name filled in; by default all")
    parser.add_argument("--bodies", nargs="+", choices=BODIES, help="lateness: bodies to send; by default all")
    parser.add_argument("--times", type=int, default=10, help="lateness: how often each body goes to each route")

    def measure(options: argparse.Namespace) -> dict[str, Any]:
        return measure_memory(options) if options.what == "memory" else measure_lateness(options)

    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
