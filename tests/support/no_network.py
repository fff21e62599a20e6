"""Run where there is no network but a loopback of its own: serves, asks, and tells what the kernel saw being sent.

    unshare --net --map-root-user python -m tests.support.no_network MODELS

Prints JSON: connections that this script opened, those that the kernel counted, and packets that had nowhere to go. The kernel
counts what any library does, be it Python or not.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.live_service import HOOPER, serving

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
NOBODY = ("192.0.2.1", 9)
BODIES = {
    "/v1/classify": {"inputs": ["good", "bad"]},
    "/v1/answer": {"inputs": {"question": "good", "context": "the film was good"}},
    "/v1/summarize": {"inputs": "The film was good. A bad film."},
    "/v1/explain": {"inputs": "good film"},
    "/predict": {"inputs": "good"},
}


def main(models: Path) -> None:
    raise_loopback()
    with suppress(OSError), socket.socket() as probe:
        probe.connect(NOBODY)  # shows that such a packet would be counted
    expected = 0
    with serving(models, HOOPER) as running:
        for path, body in BODIES.items():
            expected += ask(running.port, "POST", path, json.dumps(body))
        for path in ("/", "/docs", "/metrics", "/health/ready", "/v1/models", "/openapi.json"):
            expected += ask(running.port, "GET", path)
        running.process.send_signal(signal.SIGTERM)
        running.wait()
    print(json.dumps({"opened": expected, **counted()}))


def ask(port: int, method: str, path: str, body: str | None = None) -> int:
    """One connection, which is what it returns."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    connection.close()
    if response.status != 200:
        raise AssertionError(f"{method} {path} was answered with {response.status}")
    return 1


def counted() -> dict[str, int]:
    lines = Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
    found = {}
    for names, numbers in zip(lines[::2], lines[1::2], strict=True):
        layer = names.partition(":")[0]
        found |= {layer + name: int(number) for name, number in zip(names.split()[1:], numbers.split()[1:], strict=True)}
    newer = dict(line.split() for line in Path("/proc/net/snmp6").read_text(encoding="ascii").splitlines())
    return {
        "counted": found["TcpActiveOpens"],
        "datagrams": found["UdpOutDatagrams"] + int(newer["Udp6OutDatagrams"]),
        "nowhere": found["IpOutNoRoutes"] + int(newer["Ip6OutNoRoutes"]),
    }


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
