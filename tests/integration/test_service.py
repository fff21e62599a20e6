"""`hooper serve` as people run it: a process, a port, signals and an exit code."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.runtime.providers import detect_machine
from tests.support.live_service import HOOPER, ROOT, LiveService, free_port, serving, started
from tests.support.tiny_model import VOCABULARY, WORDS, logits_of, publish_tiny, row

FIRST_WORD, SEPARATOR = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]
TERMINAL = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from app.cli import main; sys.exit(main())"
"""`hooper`, on the terminal that is its standard input."""
NO_TRAINING = {"torch", "transformers", "optimum", "datasets", "accelerate", "onnx", "sklearn", "pandas", "pyarrow", "scripts"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_tiny(root)
    publish_tiny(root, name="wide", labels=("bad", "so-so", "good"), layout="padded")
    return root


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[LiveService]:
    with serving(models, HOOPER) as running:
        yield running


def text_of(number: int) -> str:
    """Of up to 20 words, different for every number."""
    words = [entry for entry in WORDS if entry.isalpha()]
    return " ".join(words[(number // 3**place) % len(words)] for place in range(1 + number % 20))


def expected_scores(text: str) -> np.ndarray:
    tokens = [FIRST_WORD, *(VOCABULARY[word] for word in text.split()), SEPARATOR]
    exponentials = np.exp(logits_of(row(*tokens)))
    scores: np.ndarray = exponentials / exponentials.sum()
    return scores


def check_scores(result: dict[str, list[dict[str, object]]], text: str) -> None:
    scores = {entry["label"]: entry["score"] for entry in result["labels"]}
    np.testing.assert_allclose([scores["bad"], scores["good"]], expected_scores(text), atol=1e-4)


def test_it_gets_ready_and_says_so(service: LiveService) -> None:
    with service.client() as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").json() == {"status": "ready", "models": ["tiny/1", "wide/1"], "failed": []}


def test_every_log_line_is_json(service: LiveService) -> None:
    for line in service.lines:
        assert {"time", "level", "message"} <= json.loads(line).keys()


async def test_200_requests_over_32_connections_are_each_answered_with_their_own_scores(service: LiveService) -> None:
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
    async with service.async_client(limits=limits) as client:

        async def ask(number: int) -> None:
            text = text_of(number)
            model = "wide" if number % 10 == 0 else "tiny"
            response = await client.post("/v1/classify", json={"inputs": [text, text], "model": model})
            assert response.status_code == 200, response.text
            first, second = response.json()["results"]
            assert first == second or model == "tiny"
            if model == "tiny":
                check_scores(first, text)
                check_scores(second, text)

        await asyncio.gather(*[ask(number) for number in range(200)])


def test_an_error_over_the_wire_is_a_problem(service: LiveService) -> None:
    with service.client() as client:
        response = client.post("/v1/classify", json={"inputs": ""})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert "server" not in response.headers


def test_a_client_who_hangs_up_is_forgotten(service: LiveService) -> None:
    body = json.dumps({"inputs": ["good"] * 256}).encode()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request_of(body))
    with service.client() as client:
        assert client.post("/v1/classify", json={"inputs": "good"}).status_code == 200


def request_of(body: bytes) -> bytes:
    head = f"POST /v1/classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# --- the end


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)], ids=lambda number: number.name
)
async def test_a_signal_during_requests_loses_none_of_them(models: Path, number: signal.Signals) -> None:
    with serving(models) as running:
        connections = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(32)]
        for reader, writer in connections:  # every connection is known to the server
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: [::1]\r\n\r\n")
            assert (await read_response(reader))[0] == 200
        texts = [[text_of(32 * caller + place) for place in range(64)] for caller in range(32)]
        for (_, writer), inputs in zip(connections, texts, strict=True):
            writer.write(request_of(json.dumps({"inputs": inputs, "model": "tiny"}).encode()))
        await asyncio.gather(*[writer.drain() for _, writer in connections])
        running.process.send_signal(number)
        for (reader, _), inputs in zip(connections, texts, strict=True):
            status, answer = await read_response(reader)
            assert status == 200
            for result, text in zip(answer["results"], inputs, strict=True):
                check_scores(result, text)
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()
        assert await asyncio.to_thread(running.wait) == 0


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, list[dict[str, object]]]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
def test_a_signal_ends_it_cleanly(models: Path, number: signal.Signals) -> None:
    with serving(models) as running:
        running.process.send_signal(number)
        assert running.wait() == 0
        assert "Traceback" not in "\n".join(running.lines)


def test_a_signal_while_models_load_ends_it_cleanly(models: Path) -> None:
    with started(models) as running:
        running.wait_for("Started server process")
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0


async def test_a_terminal_that_closes_ends_it_as_a_signal_does(models: Path) -> None:
    """In its foreground, as a session's leader has it: what it writes goes nowhere background_tasks."""
    port, (ours, its) = free_port(), pty.openpty()
    environment = os.environ | {
        "HOOPER_MODELS": str(models), "HOOPER_PORT": str(port), "HOOPER_DEVICE": "cpu", "HOOPER_ENGINE_THREADS": "1",
        "HOOPER_LOG_LEVEL": "debug",
    }  # fmt: skip
    command = [sys.executable, "-c", TERMINAL, "serve"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its, start_new_session=True
    )
    os.close(its)
    try:
        seen = b""
        while not (b"ready: " in seen and b"Uvicorn running" in seen):
            seen += await asyncio.to_thread(os.read, ours, 65_536)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_response(reader))[0] == 200
        inputs = [text_of(place) for place in range(64)]
        writer.write(request_of(json.dumps({"inputs": inputs, "model": "tiny"}).encode()))
        os.close(ours)
        status, answer = await read_response(reader)
        assert status == 200
        assert len(answer["results"]) == 64
        writer.close()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.slow
def test_who_is_to_outlive_its_terminal_does(models: Path) -> None:
    ignoring = (
        "-c",
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); from app.cli import main; sys.exit(main())",
    )
    with serving(models, ignoring) as running:
        running.process.send_signal(signal.SIGHUP)
        with running.client() as client:
            assert client.get("/health/live").status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0


# --- what stops the start


def check_stop(running: LiveService, sentence: str) -> None:
    assert running.wait() == 2
    last = running.lines[-1]
    assert last.startswith("hooper: ")
    assert sentence in last
    assert "Traceback" not in "\n".join(running.lines)


def test_a_device_that_is_not_there_stops_the_start(models: Path) -> None:
    missing = "tensorrt" if detect_machine().has_nvidia_driver else "cuda"
    with started(models, device=missing) as running:
        check_stop(running, f"HOOPER_DEVICE={missing} is not available: ")


def test_a_broken_model_stops_the_start(tmp_path: Path) -> None:
    (publish_tiny(tmp_path) / "model.onnx").write_bytes(b"broken")
    with started(tmp_path) as running:
        check_stop(running, "model.onnx differs from the checksum in manifest.json")


@pytest.mark.slow
def test_one_broken_model_of_two_stops_nothing_unless_the_settings_name_it(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    (publish_tiny(tmp_path, "broken") / "model.onnx").write_bytes(b"broken")
    for serve, status in (("", 200), ("tiny", 200), ("tiny,broken", 503)):
        with started(tmp_path, serve=serve) as running, running.client() as client:
            running.wait_for("not ready: model 'broken'" if status == 503 else "ready: ")
            assert client.get("/health/ready").status_code == status
            assert client.post("/v1/classify", json={"inputs": "good", "model": "tiny"}).status_code == 200


def test_an_empty_repository_stops_the_start(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        check_stop(running, "holds no published model; publish one with `hooper train`")


def test_a_mistyped_setting_stops_the_start(models: Path) -> None:
    with started(models, devise="cpu") as running:
        check_stop(running, "HOOPER_DEVISE is not a setting; did you mean HOOPER_DEVICE?")


def test_a_port_that_is_taken_stops_the_start(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with started(models, port=taken.getsockname()[1]) as running:
            check_stop(running, f"HOOPER_PORT={taken.getsockname()[1]} cannot be opened")


# --- what serving needs

SERVE_ONE = """
import asyncio, json, sys
from pathlib import Path
import app.cli, app.server
from app.main import create_app
from app.settings import Settings

async def main():
    app = create_app(Settings(models=Path(sys.argv[1]), device="cpu", engine_threads=1))
    body = [{"type": "http.request", "body": json.dumps({"inputs": "good"}).encode()}]
    async def receive():
        return body.pop() if body else await asyncio.Event().wait()
    async def send(message):
        print(message.get("status", ""), end="")
    async with app.router.lifespan_context(app):
        await app.state.loading
        headers = [(b"content-type", b"application/json"), (b"content-length", b"18")]
        scope = {"type": "http", "method": "POST", "path": "/v1/classify", "headers": headers, "query_string": b""}
        await app(scope, receive, send)
    print("", *sorted({name.partition(".")[0] for name in sys.modules}))

asyncio.run(main())
"""


def test_serving_a_request_imports_nothing_that_trains(models: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVE_ONE, models], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, *imported = ran.stdout.split()
    assert status == "200"
    assert "onnxruntime" in imported
    assert NO_TRAINING.isdisjoint(imported)
