"""The command that measures how late liveness answers: its bodies are what they say, and a run accounts for all of them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bench.service import Address
from scripts.reliability.costly import BODIES, EVERY_S, NUM_BYTES, Lateness, main, watched
from tests.support.tiny_model import publish_tiny


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_json_of_the_size_that_a_service_takes(name: str) -> None:
    body = BODIES[name]
    assert 30_000 < len(body) <= NUM_BYTES + 100
    if name not in ("nested", "digits"):  # which Python does not read either
        assert json.loads(body)


def test_the_longest_and_the_middle_are_told_in_milliseconds() -> None:
    told = Lateness([0.001 * number for number in range(1, 101)]).told()
    assert told == {"asked": 100, "p50_ms": 51.0, "p99_ms": 100.0, "longest_ms": 100.0}


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
    with watched(address) as lateness:
        begun.wait()
        threading.Timer(20 * EVERY_S, go_on.set).start()
        go_on.wait()
    waited = sorted(lateness.seconds)
    assert waited[-1] > 15 * EVERY_S
    assert sum(seconds > 5 * EVERY_S for seconds in waited) >= 8


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_body_of_a_short_run_is_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path / "models")
    output = tmp_path / "costly.json"
    asked = ["--models", str(tmp_path / "models"), "--paths", "/v1/classify", "/models/tiny", "--bodies", "numbers", "nested"]
    assert main([*asked, "--times", "2", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    for run, statuses in (("no key asked for", [422]), ("a key asked for, none sent", [401])):
        rows = report[run]["requests"]
        assert [(row["path"], row["body"]) for row in rows] == [
            (path, body) for path in ("/v1/classify", "/models/tiny") for body in ("numbers", "nested")
        ]
        assert all(row["statuses"] == statuses for row in rows)
        assert report[run]["quiet"]["asked"] > 0
    assert "meanwhile" in capsys.readouterr().out
