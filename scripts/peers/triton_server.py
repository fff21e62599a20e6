"""The plain classifier behind PyTriton (NVIDIA's Triton with a model in Python), with batches that wait 5 ms for others: run by
`python -m scripts.peers.compare`, in the environment that the comparison made for it. Not part of Hooper's own.

    python -m scripts.peers.triton_server FOLDER PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch  # type: ignore[import-not-found, unused-ignore]
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # type: ignore[import-not-found, unused-ignore]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found, unused-ignore]

from scripts.peers.plain_server import PlainClassifier

NAME = "model"
MAX_BATCH_SIZE, MAX_WAIT_US = 32, 5_000


def serve(folder: Path, port: int) -> None:
    """Until it is ended."""
    classifier = PlainClassifier(folder)

    @batch  # type: ignore[untyped-decorator, unused-ignore]
    def classify(text: Any) -> dict[str, Any]:
        """bytes (rows, 1) to probabilities (rows, labels)."""
        return {"scores": classifier.probabilities([content.decode() for content in text[:, 0]])}

    config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False, log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=NAME,
            infer_func=classify,
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="scores", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=MAX_BATCH_SIZE, batcher=DynamicBatcher(max_queue_delay_microseconds=MAX_WAIT_US)),
        )
        triton.serve()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
