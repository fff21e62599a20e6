"""The plain classifier behind mosec, with batches that wait 5 ms for others: run by `python -m scripts.peers.compare`, in the
environment that the comparison made for it. Not part of Hooper's own.

    HOOPER_PEER_MODEL=FOLDER python -m scripts.peers.mosec_server --address 127.0.0.1 --port PORT
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import mosec  # type: ignore[import-not-found, unused-ignore]

from scripts.peers.plain_server import PlainClassifier

MODEL = "HOOPER_PEER_MODEL"
MAX_BATCH_SIZE, MAX_WAIT_MS = 32, 5


class MosecClassifier(mosec.Worker):  # type: ignore[misc, unused-ignore]
    """One process with the engine; mosec's own, in Rust, speaks HTTP and makes the batches."""

    def __init__(self) -> None:
        super().__init__()
        self._classifier = PlainClassifier(Path(os.environ[MODEL]))

    def forward(self, data: Sequence[dict[str, str]]) -> list[dict[str, float]]:
        return self._classifier.classify([question["input"] for question in data])


if __name__ == "__main__":
    server = mosec.Server()
    server.append_worker(MosecClassifier, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=MAX_WAIT_MS)
    server.run()
