"""Health that is watched: lateness counts from when an answer was due, and what fails is told."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from scripts.bench.service import Address
from scripts.reliability.health import HealthLog, watch_health

EVERY_S = 0.01


def test_the_longest_and_the_middle_are_told_in_milliseconds() -> None:
    figures = HealthLog([0.001 * number for number in range(1, 101)]).figures()
    assert figures == {"asked": 100, "failed": 0, "p50_ms": 51.0, "p99_ms": 100.0, "longest_ms": 100.0}


def test_health_that_nobody_answers_has_failed() -> None:
    with watch_health(Address("127.0.0.1", 1), EVERY_S, ("/health/live", "/health/ready")) as health:
        pass
    assert health.figures()["failed"] >= 2
    assert health.failures[0].startswith("/health/live: ConnectionRefusedError")


@pytest.fixture
def stalled() -> Iterator[tuple[Address, threading.Event, threading.Event]]:
    """A service that says when its second request has come, and answers that when it is told to."""
    begun, go_on, counts = threading.Event(), threading.Event(), iter(range(1000))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if next(counts) == 1:
                begun.set()
                go_on.wait()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Address("127.0.0.1", server.server_port), begun, go_on
        server.shutdown()
        thread.join()


def test_who_would_have_asked_during_a_stall_has_waited_too(stalled: tuple[Address, threading.Event, threading.Event]) -> None:
    address, begun, go_on = stalled
    with watch_health(address, EVERY_S) as health:
        begun.wait()
        threading.Timer(20 * EVERY_S, go_on.set).start()
        go_on.wait()
    waited = sorted(health.seconds)
    assert waited[-1] > 15 * EVERY_S
    assert sum(seconds > 5 * EVERY_S for seconds in waited) >= 8
