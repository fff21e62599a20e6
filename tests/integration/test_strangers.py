"""The real service before strangers: it calls nobody, ends who is slow, keeps nothing of who left, and logs no text."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.live_service import ROOT, LiveService, serving, started
from tests.support.tiny_model import KINDS, publish_tiny_task

RECEIVE_S = 3
MARKER = "quokka"
"""Stands in every text that is sent here."""
WATCHED = """
import sys
EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg", "socket.bind",
          "subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "urllib.Request"}
def watch(event, arguments):
    if event in EVENTS:
        sys.stderr.write(f"AUDIT {event} {arguments[1:]}\\n")
sys.addaudithook(watch)
from app.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for task in KINDS:
        publish_tiny_task(root, task, task)
    return root


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[LiveService]:
    with serving(models, ("-c", WATCHED), receive_s=RECEIVE_S, log_level="debug") as running:
        yield running


def ready(service: LiveService) -> bool:
    with service.client() as client:
        return client.get("/health/ready").status_code == 200


# --- it calls nobody


def predict_everything(service: LiveService) -> None:
    with service.client() as client:
        for path, inputs in {
            "/v1/classify": "good", "/v1/answer": {"question": "good", "context": "a good film"},
            "/v1/summarize": "A good film. It was bad.", "/v1/explain": "good", "/predict": "good",
        }.items():  # fmt: skip
            assert client.post(path, json={"inputs": inputs}).status_code == 200
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/v1/models", "/static/playground/main.js"):
            assert client.get(path).status_code == 200


def test_it_opens_no_connection_looks_up_no_name_and_starts_no_program(service: LiveService) -> None:
    predict_everything(service)
    assert [line for line in service.lines if line.startswith("AUDIT") and "socket.bind" not in line] == []
    assert remotes(service) <= {service.port}


def sockets(service: LiveService) -> list[str]:
    """The inodes of those that its process holds open."""
    found = []
    for path in Path(f"/proc/{service.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += re.findall(r"socket:\[(\d+)\]", str(path.readlink()))
    return found


def remotes(service: LiveService) -> set[int]:
    """Own ports of all TCP and UDP sockets of the process: those it listens on, unless it opened one itself."""
    inodes = set(sockets(service))
    ports = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{service.process.pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


def can_be_alone() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_be_alone(), reason="a network of its own cannot be made here")
def test_nor_does_any_library_below_it_from_start_to_end_as_the_kernel_counts(models: Path) -> None:
    command = ["unshare", "--net", "--map-root-user", sys.executable, "-m", "tests.support.no_network", models]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    counts = json.loads(ran.stdout)
    assert counts["counted"] == counts["opened"] > 0
    assert (counts["datagrams"], counts["nowhere"]) == (0, 1)  # the one is the test's own, to see that it counts


# --- who is slow


def opened(service: LiveService, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(data)
    return connection


def head(length: int, path: str = "/v1/classify") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


def read_all(connection: socket.socket) -> bytes:
    """Until the service ends it."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_whoever_is_silent_or_slow_is_ended_and_told_so_where_it_helps(service: LiveService) -> None:
    silent, half_head, half_body = (opened(service, entry) for entry in (b"", head(99)[:-4], head(99) + b"{"))
    assert read_all(silent) == b""
    for answer in (read_all(half_head), read_all(half_body)):
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"type":"too_slow"' in answer
        assert f"was not complete after {RECEIVE_S} seconds".encode() in answer
    assert ready(service)


def num_sockets(service: LiveService) -> int:
    return len(sockets(service))


def test_who_leaves_by_halves_leaves_nothing_behind(service: LiveService) -> None:
    body = json.dumps({"inputs": [MARKER] * 8}).encode()
    before = num_sockets(service)
    connections = [
        opened(service, entry) for entry in (b"", head(99), head(99) + b"{", head(len(body)) + body) for _ in range(16)
    ]
    for connection in connections:
        connection.shutdown(socket.SHUT_WR)
    for connection in connections:
        read_all(connection)  # it has closed its side
    assert num_sockets(service) <= before
    assert ready(service)


def test_an_endless_head_and_what_is_no_http_get_a_problem(service: LiveService) -> None:
    assert read_all(opened(service, b"\x16\x03\x01\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    endless = read_all(opened(service, head(5)[:-2] + b"X: " + b"x" * 70_000))
    assert endless.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in endless


def test_an_upgrade_that_nobody_offers_is_an_ordinary_request(service: LiveService) -> None:
    asked = b"GET /v1/models HTTP/1.1\r\nHost: [::1]\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert read_all(opened(service, asked)).startswith(b"HTTP/1.1 200 ")


# --- the log


def test_no_line_shows_a_text_at_the_level_of_debugging(service: LiveService) -> None:
    text = f"a {MARKER} film"
    bodies = [
        {"inputs": text}, {"inputs": [text, ""]}, {"inputs": {"text": text, MARKER: 1}}, {"inputs": text, "top_k": MARKER},
        {"inputs": text, "model": MARKER}, {"inputs": {"question": text, "context": text}}, {"inputs": [[text]] * 300},
        {"inputs": text, "truncation": "error", MARKER: text}, {"inputs": f"{text}\ud800"}, {"inputs": text, "target": MARKER},
        {"inputs": text, "parameters": {"generate_parameters": {MARKER: text}, "top_k": text}}, [text], text,
        {"inputs": [{"name": MARKER, "shape": [1], "datatype": MARKER, "data": [text]}]},
        {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": [text]}], "id": MARKER},
    ]  # fmt: skip
    paths = ["/v1/classify", "/v1/answer", "/v1/summarize", "/v1/explain", "/predict", "/models/text-classification",
             "/v2/models/text-classification/infer"]  # fmt: skip
    raw = [text.encode(), f'{{"inputs": "{text}'.encode(), b"[" * 999 + text.encode()]
    with service.client() as client:
        for path in paths:
            for content in [json.dumps(body).encode() for body in bodies] + raw:
                assert client.post(path, content=content, headers={"Content-Type": "application/json"}).status_code < 500
            client.post(path, content=text, headers={"Content-Type": "text/plain"})
            client.post(f"{path}?{MARKER}={MARKER}", json={"inputs": text}, headers={"X-Request-Id": f"{MARKER} {MARKER}"})
        client.get("/health/live", headers={"X-Request-Id": "the-last-of-them"})
    service.wait_for("the-last-of-them")
    assert sum("POST" in line for line in service.lines) > 100
    assert [line for line in service.lines if MARKER in line] == []
    assert [line for line in service.lines if "Traceback" in line or "unexpected" in line] == []


# --- the start


def test_an_address_that_others_reach_needs_a_key_or_a_word(models: Path) -> None:
    with started(models, host="0.0.0.0") as running:
        assert running.wait() == 2
        assert running.lines[-1].startswith("hooper: HOOPER_HOST=0.0.0.0 lets others reach the service")
        assert "docs/how-to/keys.md" in running.lines[-1]
    with serving(models, host="0.0.0.0", allow_no_keys=True) as running:
        assert ready(running)
