"""The image's HEALTHCHECK, asked about real sockets."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.live_service import free_port, serving
from tests.support.tiny_model import publish_tiny

SCRIPT = Path(__file__).parents[3] / "deploy" / "healthcheck.py"


@pytest.fixture(scope="module")
def healthcheck() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthcheck", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers every request with this status; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"models are still loading"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_service_that_is_ready_is_healthy_as_the_image_asks_it(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path, host="0.0.0.0", allow_no_keys=True) as running:
        port = str(running.port)
        environment = {**os.environ, "HOOPER_HOST": "0.0.0.0", "HOOPER_PORT": port, "http_proxy": "http://127.0.0.1:9"}
        ran = subprocess.run(
            [sys.executable, "-I", "-S", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
        )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_one_that_loads_or_drains_is_not_and_the_reason_is_told(healthcheck: ModuleType) -> None:
    with answering(503) as port:
        assert healthcheck.problem({"HOOPER_PORT": str(port)}) == "503 models are still loading"


def test_one_that_does_not_listen_is_not() -> None:
    environment = {**os.environ, "HOOPER_HOST": "0.0.0.0", "HOOPER_PORT": str(free_port())}
    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "does not answer" in ran.stdout


def test_every_address_means_this_machine(healthcheck: ModuleType) -> None:
    with answering(200) as port:
        for host in ("0.0.0.0", "127.0.0.1"):
            assert healthcheck.problem({"HOOPER_HOST": host, "HOOPER_PORT": str(port)}) == ""
