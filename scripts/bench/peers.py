"""Others that serve the same model: how each is installed into an environment of its own, started, and asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import SetupError
from scripts.bench.service import Address, free_port, wait_until_ready

ENVIRONMENTS = Path("bench-envs")
START_S = 180.0
SERVER_FILE = Path(__file__).with_name("litserve_server.py")


@dataclass(frozen=True, slots=True)
class Peer:
    """One of the others. Every command is a list of words, run with the environment's own Python."""

    name: str
    version: str
    installs: Sequence[Sequence[str]]
    """Arguments of pip, one call after the other."""
    command: Callable[[Path, int], Sequence[str]]
    """From the model's folder and a port to what follows the environment's `bin/`."""
    path: str
    body: Callable[[Path, str], Any]
    """From the model's folder and a text to a request's body."""
    health: str = "/health"

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


PEERS = {
    "infinity": Peer(
        name="infinity-emb",
        version="0.0.78",
        # with the newer optimum-onnx it cannot open a local folder
        installs=(
            ("install", "torch==2.13.0", "infinity-emb[server,optimum]==0.0.78"),
            ("uninstall", "--yes", "optimum-onnx"),
            ("install", "torch==2.13.0", "optimum[onnxruntime]==1.24.0"),
        ),
        command=lambda folder, port: (
            "infinity_emb", "v2", "--model-id", str(folder), "--served-model-name", "model", "--engine", "optimum",
            "--device", "cpu", "--no-bettertransformer", "--no-model-warmup", "--host", "127.0.0.1", "--port", str(port),
            "--log-level", "warning",
        ),
        path="/classify",
        body=lambda folder, text: {"model": "model", "input": [text]},
    ),
    "litserve": Peer(
        name="LitServe",
        version="0.2.19",
        installs=(("install", "litserve==0.2.19", "onnxruntime==1.32.0", "tokenizers==0.22.2", "numpy"),),
        command=lambda folder, port: ("python", str(SERVER_FILE), str(folder), str(port)),
        path="/predict",
        body=lambda folder, text: {"input": text},
    ),
}  # fmt: skip
QUIET: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}


def environment(peer: Peer, say: Callable[[str], None]) -> Path:
    """The `bin` of the peer's environment, made where it is missing; one whose making broke off is made anew.

    Raises:
        SetupError: pip fails.
    """
    folder = ENVIRONMENTS / f"{peer.name}-{peer.version}"
    finished = folder / "finished"
    if not finished.exists():
        say(f"installing {peer.title} into {folder}, which takes minutes")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        for words in peer.installs:
            _run([str(folder / "bin" / "pip"), "--quiet", "--disable-pip-version-check", "--no-input", *words])
        finished.touch()
    return folder.absolute() / "bin"


@contextmanager
def running(peer: Peer, binaries: Path, model: Path) -> Iterator[tuple[Address, int]]:
    """The peer on a free port, with the id of its process, until the block ends. What it says goes to a log beside the model.

    Raises:
        SetupError: it does not get ready.
    """
    address = Address("127.0.0.1", free_port())
    program, *words = peer.command(model.absolute(), address.port)
    environment = {**os.environ, **QUIET, "PATH": f"{binaries}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)  # its own packages, not ours
    log = model.with_name(f"{peer.name}.log")
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [str(binaries / program), *words], env=environment, stdout=out, stderr=out, start_new_session=True
        ) as process,
    ):
        try:
            wait_until_ready(address, process, START_S, peer.health)
            yield address, process.pid
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With its workers, which have not all learnt to end with it."""
    import signal

    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise SetupError(f"`{' '.join(command)}` ended with {done.returncode}: {last}")
