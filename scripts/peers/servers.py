"""Others that serve the same model: how each is installed into an environment of its own, started, and asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.service import StartedService, run_program, start_service

ENVIRONMENTS = Path("bench-envs")
START_S = 300.0
HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
"""Where peers that are written here find each other's modules."""
PLAIN = ("onnxruntime==1.32.0", "tokenizers==0.22.2", "numpy")
"""What `plain_server.py` needs."""
Scores = Callable[[Any, Sequence[str]], Mapping[str, float]]
"""From the answer to one text, and the labels in the model's order, to each label's probability."""


def by_label(answer: Any, labels: Sequence[str]) -> Mapping[str, float]:
    """Of those that answer with an object of them."""
    scores: Mapping[str, float] = answer
    return scores


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server; its commands are lists of words, run with its environment's own Python.

    `installs` has arguments of pip, one call after the other; `command` goes from the model's folder and a port to what follows
    the environment's `bin/`; `body` from a text to a request's body. `settings` has more environment variables, in which
    `{folder}` stands for the model's.
    """

    name: str
    version: str
    installs: Sequence[Sequence[str]]
    command: Callable[[Path, int], Sequence[str]]
    path: str
    body: Callable[[str], Any]
    scores: Scores = by_label
    ready_path: str = "/health"
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


PEERS = {
    "infinity": Peer(
        name="infinity-emb",
        version="0.0.78",
        # with the newer optimum-onnx it cannot open a local folder
        installs=(("install", "torch==2.13.0", "infinity-emb[server,optimum]==0.0.78", "optimum[onnxruntime]==1.24.0"),),
        command=lambda folder, port: (
            "infinity_emb", "v2", "--model-id", str(folder), "--served-model-name", "model", "--engine", "optimum",
            "--device", "cpu", "--no-bettertransformer", "--no-model-warmup", "--pooling-method", "mean",
            "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
        ),
        path="/classify",
        body=lambda text: {"model": "model", "input": [text]},
        scores=lambda answer, labels: {entry["label"]: entry["score"] for entry in answer["data"][0]},
    ),
    "litserve": Peer(
        name="LitServe",
        version="0.2.19",
        installs=(("install", "litserve==0.2.19", *PLAIN),),
        command=lambda folder, port: ("python", str(HERE / "litserve_server.py"), str(folder), str(port)),
        path="/predict",
        body=lambda text: {"input": text},
    ),
    "fastapi": Peer(
        name="FastAPI",
        version="0.165.0",
        installs=(("install", "fastapi==0.165.0", "uvicorn[standard]==0.54.0", *PLAIN),),
        command=lambda folder, port: ("python", str(HERE / "plain_server.py"), str(folder), str(port)),
        path="/predict",
        body=lambda text: {"input": text},
    ),
    "mosec": Peer(
        name="mosec",
        version="0.9.8",
        installs=(("install", "mosec==0.9.8", *PLAIN),),
        command=lambda folder, port: (
            "python", "-m", "scripts.peers.mosec_server", "--address", "127.0.0.1", "--port", str(port),
        ),
        path="/inference",
        body=lambda text: {"input": text},
        ready_path="/",
        settings={"HOOPER_PEER_MODEL": "{folder}"},
    ),
}  # fmt: skip
QUIET: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}


def environment(peer: Peer, environments: Path | None = None) -> Path:
    """The `bin` of the peer's environment, made where it is missing; one whose making broke off is made anew.

    Raises:
        SetupError: pip fails.
    """
    folder = (environments or ENVIRONMENTS) / f"{peer.name}-{peer.version}"
    finished = folder / "finished"
    if not finished.exists():
        print(f"installing {peer.title} into {folder}, which takes minutes", file=sys.stderr, flush=True)
        run_program([sys.executable, "-m", "venv", "--clear", folder], "venv")
        for words in peer.installs:
            pip = [str(folder / "bin" / "pip"), "--quiet", "--disable-pip-version-check", "--no-input"]
            run_program([*pip, *words], f"pip {' '.join(words)}")
        finished.touch()
    return folder.absolute() / "bin"


@contextmanager
def start_peer(peer: Peer, binaries: Path, model: Path) -> Iterator[StartedService]:
    """The peer on a free port until the block ends. What it says goes to a log beside the model.

    Raises:
        SetupError: it does not get ready.
    """

    def command(port: int) -> list[str]:
        program, *words = peer.command(model.absolute(), port)
        return [str(binaries / program), *words]

    settings = {
        **QUIET,
        **{name: value.format(folder=model.absolute()) for name, value in peer.settings.items()},
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),  # its own packages, and no package of ours
    }
    with (
        model.with_name(f"{peer.name}.log").open("wb") as log,
        start_service(settings, command, log=log, ready_path=peer.ready_path, start_s=START_S) as service,
    ):
        yield service
