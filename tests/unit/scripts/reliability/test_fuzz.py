"""The fuzzer's own judgement: what counts as a failure, what is sent, and that it would see one."""

from __future__ import annotations

import json
import random
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.bench.service import Address
from scripts.reliability import fuzz
from scripts.reliability.fuzz_sockets import KINDS, MAX_FAILURES_SHOWN, PATHS, ClientAct, SocketCounts, fuzz_sockets


@pytest.mark.parametrize(
    ("status", "has_deadline", "is_failure"),
    [(200, False, False), (422, False, False), (429, False, False), (500, False, True), (503, True, True), (504, False, True),
     (504, True, False)],
)  # fmt: skip
def test_a_5xx_is_a_failure_but_for_a_deadline_that_was_asked_for(status: int, has_deadline: bool, is_failure: bool) -> None:
    hooks = pytest.importorskip("scripts.reliability.fuzz_hooks", reason="schemathesis is not installed (extra `dev`)")
    case = SimpleNamespace(headers={"X-Request-Timeout-Ms": "5"} if has_deadline else {}, body={})
    try:
        hooks.no_server_error(None, SimpleNamespace(status_code=status), case)
    except AssertionError:
        assert is_failure
    else:
        assert not is_failure


def test_a_nasty_text_takes_the_place_of_each_text_and_of_nothing_else() -> None:
    hooks = pytest.importorskip("scripts.reliability.fuzz_hooks", reason="schemathesis is not installed (extra `dev`)")
    assert hooks.replace_texts({"inputs": ["a", {"text": "b"}], "top_k": 3}, "x") == {
        "inputs": ["x", {"text": "x"}],
        "top_k": 3,
    }


def test_every_act_is_counted_and_failures_are_told_in_moderation() -> None:
    counts, act = SocketCounts(), ClientAct("slow", [b"x" * 10_000], "wait")
    counts.add(act, "200")
    for _ in range(50):
        counts.add(act, "500", "was answered with [500]")
    figures = counts.figures()
    assert (figures["cases"], figures["failed"]) == (51, 50)
    assert figures["statuses"] == {"200": 1, "500": 50}
    assert len(figures["failures"]) == MAX_FAILURES_SHOWN
    assert len(figures["failures"][0]) < 400


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_client_sends_something_and_says_what_it_is(kind: Any) -> None:
    for number in range(50):
        rng = random.Random(number)
        act = kind(rng, rng.choice(PATHS))
        assert act.kind
        assert b"".join(act.pieces)


@contextmanager
def answering(answer: bytes) -> Iterator[Address]:
    """A server that answers every connection so, whatever it is sent; it waits for all of them in the end."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(answer)
            self.request.shutdown(socket.SHUT_WR)
            while self.request.recv(65_536):  # until the client has left: what is unread when a socket is closed resets it
                pass

    class Server(socketserver.ThreadingTCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away in the middle is what is played here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Address("127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_a_5xx_on_a_socket_is_a_failure() -> None:
    with answering(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n") as address:
        counts = fuzz_sockets(address, len(KINDS), random.Random(0), 10.0)
    assert counts.kinds.total() == len(KINDS)
    assert counts.num_failures > 0
    assert any("was answered with [500]" in failure for failure in counts.failures)


def test_log_lines_that_no_request_may_cause_are_found() -> None:
    log = ['{"message": "loaded"}', '{"message": "unexpected error"}', "Traceback (most recent call last):"]
    assert fuzz.marked_lines(log) == log[1:]


def test_what_stops_the_start_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--cases", "10", "--models", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("fuzz: the service ended with exit code 2")


@pytest.mark.parametrize(("complaints", "code"), [([], 0), (["1 failures"], 1)])
def test_a_failure_is_in_the_exit_code_and_the_counts_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], complaints: list[str], code: int
) -> None:
    monkeypatch.setattr(fuzz, "fuzz", lambda *_: {"complaints": complaints})
    assert fuzz.main(["--output", str(tmp_path / "counts.json")]) == code
    report = json.loads((tmp_path / "counts.json").read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert report["complaints"] == complaints
