"""A classifier behind LitServe, as its documentation would have one written: run by `hooper bench --peer litserve`, in the
environment that the benchmark made for it. Not part of Hooper's own.

    python litserve_server.py FOLDER PORT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-not-found, unused-ignore]
import numpy as np
import onnxruntime
import tokenizers

MAX_BATCH_SIZE, BATCH_TIMEOUT_S, MAX_TOKENS = 32, 0.005, 512


class LitServeClassifier(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    """The folder's ONNX export, on batches padded to their longest text."""

    def __init__(self, folder: Path) -> None:
        super().__init__(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S)
        self._folder = folder

    def setup(self, device: str) -> None:
        self._session = onnxruntime.InferenceSession(
            self._folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"]
        )  # fmt: skip
        self._tokenizer = tokenizers.Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        labels = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        self._labels = [labels[str(number)] for number in range(len(labels))]

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads an annotation as a schema
        return str(request["input"])

    def batch(self, inputs: list[str]) -> list[str]:
        return list(inputs)

    def predict(self, texts: list[str]) -> Any:
        encoded = self._tokenizer.encode_batch(texts)
        tensors = {
            "input_ids": np.array([encoding.ids for encoding in encoded], np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encoded], np.int64),
            "token_type_ids": np.array([encoding.type_ids for encoding in encoded], np.int64),
        }
        (logits,) = self._session.run(["logits"], tensors)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, float]:
        return dict(zip(self._labels, output.tolist(), strict=True))


if __name__ == "__main__":
    server = litserve.LitServer(LitServeClassifier(Path(sys.argv[1])), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
