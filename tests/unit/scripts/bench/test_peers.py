"""Others are installed once into an environment of their own, started, waited for and ended with all their processes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.bench import peers
from scripts.bench.peers import PEERS, Peer, environment, running
from scripts.bench.versus import descendants

SERVER = """
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *arguments): pass
if os.fork() == 0:
    held = open(sys.argv[2], "w")  # closed by the system when the worker ends, and not before
    import signal; signal.pause()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
NOTHING = Peer(
    name="nothing", version="1", installs=(), command=lambda folder, port: (), path="/", body=lambda folder, text: text
)  # fmt: skip


@pytest.fixture
def binaries(tmp_path: Path) -> Path:
    """A folder with a `python`, as of an environment."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    return tmp_path / "bin"


def test_a_peer_is_up_within_the_block_and_gone_with_its_workers_after_it(binaries: Path, tmp_path: Path) -> None:
    script, worker = tmp_path / "server.py", tmp_path / "worker"
    script.write_text(SERVER)
    os.mkfifo(worker)
    peer = replace(NOTHING, command=lambda folder, port: ("python", str(script), str(port), str(worker)))
    with running(peer, binaries, tmp_path) as (address, number):
        assert address.text("/health") == "ok"
        held = worker.open()
        assert len(descendants(number)) == 2
    with pytest.raises(OSError):
        address.text("/health")
    with held:
        assert held.read() == ""  # returns when the worker has ended


def test_one_that_ends_at_once_is_told(binaries: Path, tmp_path: Path) -> None:
    peer = replace(NOTHING, command=lambda folder, port: ("python", "-c", "raise SystemExit(3)"))
    with pytest.raises(SetupError, match="ended with exit code 3"), running(peer, binaries, tmp_path):
        pass


@pytest.mark.slow
def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    said: list[str] = []
    first, second = environment(NOTHING, said.append), environment(NOTHING, said.append)
    assert first == second
    assert (first / "python").exists()
    assert len(said) == 1


@pytest.mark.slow
def test_one_whose_making_failed_is_told_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    broken = replace(NOTHING, installs=[("install", "--no-index", "there-is-no-such-package")])
    with pytest.raises(SetupError, match="there-is-no-such-package"):
        environment(broken, print)
    said: list[str] = []
    environment(NOTHING, said.append)
    assert len(said) == 1


@pytest.mark.parametrize("name", list(PEERS))
def test_versions_are_pinned(name: str) -> None:
    peer = PEERS[name]
    packages = [word for words in peer.installs if words[0] == "install" for word in words[1:]]
    assert any(peer.version in package for package in packages)
    assert "127.0.0.1" in peer.command(Path("m"), 1) or name == "litserve"
