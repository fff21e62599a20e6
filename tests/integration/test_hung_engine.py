"""A process whose engine hangs still ends when it is told to, with the exit code that it should."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live_service import ROOT, free_port
from tests.support.tiny_model import publish_tiny

SERVE = """
import asyncio, functools, sys, threading, urllib.request
from pathlib import Path
import app.server
from app.main import create_app
from app.settings import Settings
from tests.support.faulty_engine import FaultySessionFactory

port, session_factory, held = int(sys.argv[2]), FaultySessionFactory(), threading.Event()

def hang(*_):
    print("hangs", flush=True)
    held.wait()

def ask():
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready").read()
            break
        except OSError:
            held.wait(0.05)
    session_factory.twist = hang
    body, named = b'{"inputs": "good"}', {"Content-Type": "application/json"}
    try:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/v1/classify", body, named))
    except OSError as error:
        print("told", getattr(error, "code", None), flush=True)

threading.Thread(target=ask, daemon=True).start()
settings = Settings(
    models=Path(sys.argv[1]), port=port, device="cpu", engine_threads=1, drain_s=1, engine_run_s=3600, log_level="error"
)
sys.exit(app.server.serve(settings, functools.partial(create_app, session_factory=session_factory)))
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_signal_ends_a_service_whose_engine_hangs(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", SERVE, str(tmp_path), str(free_port())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told 503\n"
        assert process.wait() == 0
