"""A classifier behind plain FastAPI, without batches: each request is one call of the engine, on a thread of a pool. Run by
`python -m scripts.peers.compare`, in the environment that the comparison made for it. Not part of Hooper's own.

    python plain_server.py FOLDER PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers

MAX_TOKENS = 512


class PlainClassifier:
    """The folder's ONNX export with its tokenizer, on batches padded to their longest text."""

    def __init__(self, folder: Path) -> None:
        self._session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        self._labels = [labels[str(number)] for number in range(len(labels))]

    def classify(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The probability of each label, by text."""
        return [dict(zip(self._labels, row, strict=True)) for row in self.probabilities(texts).tolist()]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, labels), the labels in the model's order."""
        encoded = self._tokenizer.encode_batch(list(texts))
        tensors = {
            "input_ids": np.array([encoding.ids for encoding in encoded], np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encoded], np.int64),
            "token_type_ids": np.array([encoding.type_ids for encoding in encoded], np.int64),
        }
        (logits,) = self._session.run(["logits"], tensors)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
        return shares


def application(classifier: PlainClassifier) -> Any:
    """A FastAPI application, which answers `/health` and `/predict`."""
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/predict")
    async def predict(question: dict[str, str]) -> dict[str, float]:
        (answer,) = await asyncio.get_running_loop().run_in_executor(None, classifier.classify, [question["input"]])
        return answer

    return app


if __name__ == "__main__":
    import uvicorn

    classifier = PlainClassifier(Path(sys.argv[1]))
    uvicorn.run(application(classifier), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
