"""`hooper serve` with a certificate: HTTPS and nothing else on its port, from one process and from several."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.support.certificates import Certificate
from tests.support.live_service import ROOT, LiveService, started
from tests.support.tiny_model import publish_tiny


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.create(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["one process", "two front ends"])
def running(request: pytest.FixtureRequest, certificate: Certificate, tmp_path: Path) -> Iterator[LiveService]:
    publish_tiny(tmp_path)
    files = {"ssl_certfile": certificate.chain, "ssl_keyfile": certificate.encrypted_key, "ssl_keyfile_password": "hush"}
    with started(tmp_path, front_ends=request.param, log_format="text", **files) as service:
        service.wait_for("ready: ", *(["Uvicorn running"] if request.param == 1 else ["front ends listen"]))
        yield service


def connection(running: LiveService, certificate: Certificate) -> HTTPSConnection:
    return HTTPSConnection("localhost", running.port, context=ssl.create_default_context(cafile=certificate.authority))


def ask(client: HTTPSConnection) -> tuple[int, dict[str, object]]:
    client.request("POST", "/v1/classify", b'{"inputs": "a good film"}', {"Content-Type": "application/json"})
    response = client.getresponse()
    return response.status, json.loads(response.read())


def test_https_answers_and_http_does_not_and_idle_clients_hold_up_no_stop(
    running: LiveService, certificate: Certificate
) -> None:
    client = connection(running, certificate)
    status, answer = ask(client)
    while status == 503:  # a front end that has not followed the engine yet
        status, answer = ask(client)
    assert (status, answer["model"]) == (200, {"name": "tiny", "version": 1})
    with socket.create_connection(("127.0.0.1", running.port)) as plain:
        plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.recv(1_000).startswith(b"HTTP")
    refused = connection(running, certificate)
    refused.request("POST", "/v1/classify", b"a" * 5_000_000, {"Content-Type": "application/json"})
    assert refused.getresponse().status == 413  # read in spite of the body that came before it, as over HTTP
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not [line for line in running.lines if "exceeded" in line or "killed" in line]
    assert all(not line.startswith("{") for line in running.lines)
    client.close()


def test_the_images_health_check_asks_over_https(certificate: Certificate, tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with started(tmp_path, ssl_certfile=certificate.chain_and_key) as service:
        service.wait_for("ready: ", "Uvicorn running on https")
        environment = {**os.environ, "HOOPER_PORT": str(service.port), "HOOPER_SSL_CERTFILE": certificate.chain_and_key}
        script = [sys.executable, "-I", "-S", str(ROOT / "deploy" / "healthcheck.py")]
        ran = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_certificate_that_is_not_there_stops_the_start_in_a_sentence(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    for front_ends in (1, 2):
        with started(tmp_path, ssl_certfile=tmp_path / "no.pem", front_ends=front_ends) as service:
            assert service.wait() == 2
        assert service.lines == [f"hooper: HOOPER_SSL_CERTFILE={tmp_path / 'no.pem'} cannot be read: No such file or directory"]
