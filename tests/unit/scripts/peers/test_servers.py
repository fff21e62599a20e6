"""Others are installed once into an environment of their own, started, waited for and ended with all their processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.peers import servers
from scripts.peers.servers import PEERS, Peer, environment, start_peer

NOTHING = Peer(
    name="nothing", version="1", installs=(), command=lambda folder, port: (), path="/", body=lambda text: text
)  # fmt: skip


@pytest.fixture
def binaries(tmp_path: Path) -> Path:
    """A folder with a `python`, as of an environment."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    return tmp_path / "bin"


SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/health", os.environ["PEER_READY"]) else 404)
        self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *arguments): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_peer_is_up_within_the_block_and_gone_after_it(binaries: Path, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    peer = replace(
        NOTHING,
        command=lambda folder, port: ("python", str(script), str(port)),
        ready_path=f"{tmp_path}/ready",
        settings={"PEER_READY": "{folder}/ready"},
    )
    with start_peer(peer, binaries, tmp_path) as service:
        assert service.address.text("/health") == "ok"
    with pytest.raises(OSError):
        service.address.text("/health")


def test_one_that_ends_at_once_is_told(binaries: Path, tmp_path: Path) -> None:
    peer = replace(NOTHING, command=lambda folder, port: ("python", "-c", "raise SystemExit(3)"))
    with pytest.raises(SetupError, match="ended with exit code 3"), start_peer(peer, binaries, tmp_path):
        pass


@pytest.mark.slow
def test_an_environment_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "ENVIRONMENTS", tmp_path)
    first, second = environment(NOTHING), environment(NOTHING)
    assert first == second
    assert (first / "python").exists()
    assert capsys.readouterr().err.count("installing nothing 1") == 1


@pytest.mark.slow
def test_one_whose_making_failed_is_told_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "ENVIRONMENTS", tmp_path)
    broken = replace(NOTHING, installs=[("install", "--no-index", "there-is-no-such-package")])
    with pytest.raises(SetupError, match="there-is-no-such-package"):
        environment(broken)
    capsys.readouterr()
    environment(NOTHING)
    assert "installing nothing 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(PEERS))
def test_versions_are_pinned(name: str) -> None:
    peer = PEERS[name]
    packages = [word for words in peer.installs if words[0] == "install" for word in words[1:]]
    assert any(peer.version in package for package in packages)
    assert "127.0.0.1" in peer.command(Path("m"), 1) or name in ("litserve", "fastapi")  # whose files say so


ANSWERS = {
    "infinity": {"data": [[{"label": "b", "score": 0.75}, {"label": "a", "score": 0.25}]]},
}


@pytest.mark.parametrize("name", list(PEERS))
def test_scores_are_read_out_of_every_peers_own_answer(name: str) -> None:
    answer = ANSWERS.get(name, {"a": 0.25, "b": 0.75})
    assert dict(PEERS[name].scores(answer, ["a", "b"])) == {"a": 0.25, "b": 0.75}
