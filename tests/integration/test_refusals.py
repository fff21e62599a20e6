"""A refusal reaches clients who send first and read later, and an upgrade that nobody takes costs no body."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
import requests

from app.api.connection import MAX_LINGERING_BYTES
from app.api.rates import MAX_A_CONNECTION
from tests.support.live_service import LiveService, serving
from tests.support.tiny_model import publish_tiny_task

MAX_BODY_BYTES = 2_097_152
JSON = {"Content-Type": "application/json"}
SIZES = [3_000_000, 50_000_000]
BODY = json.dumps({"inputs": "good"}).encode()
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    root = tmp_path_factory.mktemp("models")
    publish_tiny_task(root, "text-classification", "sentiment")
    with serving(root, max_body_bytes=MAX_BODY_BYTES) as running:
        yield running


def pieces(num_bytes: int) -> Iterator[bytes]:
    for _ in range(num_bytes // 65_536 + 1):
        yield b" " * 65_536


def read_all(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65_536), b""))


# --- refused while the body is under way


def by_urllib(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def by_http_client(url: str, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(url.split("/")[2])
    connection.request("POST", "/" + url.split("/", 3)[3], body, headers)
    with connection.getresponse() as answer:
        return answer.status


def by_requests(url: str, body: bytes, headers: dict[str, str]) -> int:
    return requests.post(url, body, headers=headers).status_code


def by_httpx(url: str, body: bytes, headers: dict[str, str]) -> int:
    return httpx.post(url, content=body, headers=headers, trust_env=False, timeout=None).status_code


def in_chunks(url: str, body: bytes, headers: dict[str, str]) -> int:
    return httpx.post(url, content=pieces(len(body)), headers=headers, trust_env=False, timeout=None).status_code


CLIENTS = [by_urllib, by_http_client, by_requests, by_httpx, in_chunks]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("send", CLIENTS)
def test_a_body_over_the_limit_gets_its_refusal(service: LiveService, send: object, size: int) -> None:
    assert send(f"{service.url}/v1/classify", b" " * size, JSON) == 413  # type: ignore[operator]


@pytest.mark.parametrize("send", CLIENTS)
def test_so_does_a_body_of_a_type_that_nobody_reads(service: LiveService, send: object) -> None:
    assert send(f"{service.url}/v1/classify", b" " * SIZES[0], {"Content-Type": "text/csv"}) == 415  # type: ignore[operator]


def head(length: int) -> bytes:
    lines = f"POST /v1/classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    return lines.encode()


def test_a_client_who_sends_all_of_it_before_it_reads_a_byte_gets_the_whole_refusal(service: LiveService) -> None:
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(head(SIZES[1]))
    connection.sendall(b" " * SIZES[1])
    answered, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["detail"] == f"the body exceeds {MAX_BODY_BYTES} bytes"


def test_a_head_over_the_limit_gets_its_refusal_too(service: LiveService) -> None:
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: [::1]\r\n" + b"X: y\r\n" * 1_000_000)
    assert read_all(connection).startswith(b"HTTP/1.1 431 ")


def test_what_is_no_http_is_told_so_however_much_of_it_comes(service: LiveService) -> None:
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(b"\x16\x03\x01" * 1_000_000)
    assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_who_never_stops_sending_is_cut_off(service: LiveService) -> None:
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(head(9_000_000_000))
    sent = 0
    with connection, suppress(ConnectionError):
        while sent < 4 * MAX_LINGERING_BYTES:
            sent += connection.send(b" " * 1_048_576)
    assert MAX_LINGERING_BYTES <= sent < 2 * MAX_LINGERING_BYTES


# --- an upgrade


def raw(service: LiveService, data: bytes) -> bytes:
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(data)
    return read_all(connection)


def upgrading(body: bytes, more: str = "") -> bytes:
    """As Java's HttpClient writes it."""
    head = (
        f"POST /v1/classify HTTP/1.1\r\n{H2C}Content-Length: {len(body)}\r\nHost: localhost\r\n"
        f"User-Agent: Java-http-client/17\r\nContent-Type: application/json\r\n{more}\r\n"
    )
    return head.encode() + body


LAST_ONE = b"GET /health/live HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n"


def test_a_request_that_asks_for_http_2_is_answered_as_any_other(service: LiveService) -> None:
    answer = raw(service, upgrading(BODY) + upgrading(BODY) + LAST_ONE)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.count(b'"labels"') == 2


def test_a_body_that_is_a_whole_request_is_not_answered_as_one(service: LiveService) -> None:
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: [::1]\r\n\r\n"
    answer = raw(service, upgrading(smuggled) + LAST_ONE)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.startswith(b"HTTP/1.1 422 ")


def test_a_web_socket_that_nobody_offers_is_a_request_for_nothing(service: LiveService) -> None:
    head = b"GET /nowhere HTTP/1.1\r\nHost: [::1]\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nX: x\r\n\r\n"
    assert raw(service, head).startswith(b"HTTP/1.1 404 ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_may_ask_for_http_2(service: LiveService) -> None:
    command = ["curl", "-s", "--http2", "-H", "Content-Type: application/json", "-d", BODY, f"{service.url}/v1/classify"]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    assert json.loads(answer)["results"][0]["labels"]


# --- a client who waits to be told to send its body, and keys


KEY = "a-key-of-the-test"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    root = tmp_path_factory.mktemp("models")
    publish_tiny_task(root, "text-classification", "sentiment")
    hashes = hashlib.sha256(KEY.encode()).hexdigest()
    with serving(root, api_key_hashes=hashes, max_held_body_bytes=3_000_000) as running:
        yield running


@pytest.mark.parametrize("send", CLIENTS)
def test_who_brings_no_key_is_told_so_whatever_else_comes(keyed: LiveService, send: object) -> None:
    assert send(f"{keyed.url}/v1/classify", b" " * SIZES[0], JSON) == 401  # type: ignore[operator]


def expecting(length: int, key: str = KEY, path: str = "/v1/classify") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: [::1]\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("head_of_it", "status"),
    [(expecting(99, "wrong"), 401), (expecting(3_000_000), 413), (expecting(99, path="/nowhere"), 404)],
    ids=["no key", "too large", "no route"],
)
def test_who_asks_whether_to_send_a_body_is_refused_without_it(keyed: LiveService, head_of_it: bytes, status: int) -> None:
    answer = raw(keyed, head_of_it)  # it ends the connection: what comes next on it would be taken for the body
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in answer


def test_who_asks_and_is_welcome_is_told_to_go_on(keyed: LiveService) -> None:
    with socket.create_connection(("127.0.0.1", keyed.port)) as connection:
        connection.sendall(expecting(len(BODY)))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_bodies_for_which_there_is_no_room_are_refused_and_there_is_room_again_when_others_are_done(keyed: LiveService) -> None:
    """Two at two million bytes have no room beside each other here."""
    length = 2_000_000
    body = b'{"inputs": "' + b"x" * (length - 14) + b'"}'
    head_of_it = expecting(length)
    first, second = (socket.create_connection(("127.0.0.1", keyed.port)) for _ in range(2))
    first.sendall(head_of_it)
    assert first.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    second.sendall(head_of_it)
    refused = read_all(second)
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1\r\n" in refused
    first.sendall(body)
    with first:
        assert b" 429 " not in first.recv(1000)
    assert raw(keyed, head_of_it.replace(b"Expect", b"Connection: close\r\nX-Expect") + body).startswith(b"HTTP/1.1 2")


def test_a_connection_on_which_keys_are_guessed_ends_and_the_right_key_is_answered_on_the_next(keyed: LiveService) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", keyed.port)
    endings: list[str | None] = []
    for number in range(MAX_A_CONNECTION):
        connection.request("GET", "/v1/models", headers={"X-API-Key": f"wrong{number}"})
        with connection.getresponse() as answer:
            assert answer.status in (401, 429)
            answer.read()
            endings.append(answer.getheader("connection"))
    assert endings == [None] * (MAX_A_CONNECTION - 1) + ["close"]
    assert connection.sock is None
    assert httpx.get(f"{keyed.url}/v1/models", headers={"X-API-Key": KEY}, trust_env=False).status_code == 200
