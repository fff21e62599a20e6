"""CTranslate2 behind FastAPI, as one would write it: texts that wait are collected for 5 ms and translated together. Run by
`python -m scripts.peers.generation` in an environment of its own. Not part of Hooper's own.

    python ctranslate2_server.py FOLDER PORT THREADS UNUSED_WORD
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_BATCH_SIZE, COLLECT_S = 32, 0.005
PRECISIONS = {"fp32": "float32", "int8": "int8"}


@dataclass(eq=False)
class Waiting:
    """A text that somebody waits for."""

    tokens: list[str]
    num_new_tokens: int
    arrived: float
    answer: asyncio.Future[list[str]]
    first_token_s: float = 0.0
    """From its arrival to its first token."""


class Collector:
    """Collects texts, and translates those that wait together, one batch after the other."""

    def __init__(self, translate: Callable[[Sequence[Waiting]], list[list[str]]]) -> None:
        self._translate = translate
        self._waiting: list[Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, tokens: list[str], num_new_tokens: int) -> Waiting:
        """Wait until the text is written."""
        entry = Waiting(tokens, num_new_tokens, time.perf_counter(), asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        await entry.answer
        return entry

    async def _work(self) -> None:
        await asyncio.sleep(COLLECT_S)
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH_SIZE], self._waiting[MAX_BATCH_SIZE:]
            written = await asyncio.to_thread(self._translate, batch)
            for entry, tokens in zip(batch, written, strict=True):
                entry.answer.set_result(tokens)
        self._worker = None


def translator_of(model: Any, unused: str) -> Callable[[Sequence[Waiting]], list[list[str]]]:
    """From texts that wait to what is written for them, each up to its own number of tokens.

    Args:
        model: a `ctranslate2.Translator`.
        unused: a token that ends a text, and that no text has.
    """

    def translate(batch: Sequence[Waiting]) -> list[list[str]]:
        def told(result: Any) -> bool:
            entry = batch[result.batch_id]
            if result.step == 0:
                entry.first_token_s = time.perf_counter() - entry.arrived
            return bool(result.step + 1 >= entry.num_new_tokens)

        written = model.translate_batch(
            [entry.tokens for entry in batch],
            max_batch_size=MAX_BATCH_SIZE,
            beam_size=1,
            max_decoding_length=max(entry.num_new_tokens for entry in batch),
            end_token=[unused],
            callback=told,
        )
        return [result.hypotheses[0] for result in written]

    return translate


def make_app(models: dict[str, Any], unused: str) -> Any:
    """The service over a model in several precisions."""
    from fastapi import FastAPI  # here, as uvicorn below: the tests' environment need not have everything

    app = FastAPI()
    collectors = {precision: Collector(translator_of(model, unused)) for precision, model in models.items()}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/translate")
    async def translate(body: dict[str, Any]) -> dict[str, Any]:
        entry = await collectors[body["precision"]].ask(body["text"].split(), body["max_new_tokens"])
        tokens = entry.answer.result()
        return {"text": " ".join(tokens), "num_new_tokens": len(tokens), "first_token_s": entry.first_token_s}

    @app.post("/measure")
    def measure(body: dict[str, Any]) -> dict[str, Any]:
        began, began_cpu = time.perf_counter(), time.process_time()
        written = models[body["precision"]].translate_batch(
            body["sources"], beam_size=1, max_decoding_length=body["new_tokens"], end_token=[unused]
        )
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        return {"wall_s": wall_s, "cpu_s": cpu_s, "tokens": [result.hypotheses[0] for result in written]}

    return app


def main(folder: str, port: str, threads: str, unused: str) -> None:
    import ctranslate2  # type: ignore[import-not-found, unused-ignore]
    import uvicorn

    models = {
        precision: ctranslate2.Translator(folder, "cpu", compute_type=kind, inter_threads=1, intra_threads=int(threads))
        for precision, kind in PRECISIONS.items()
    }
    uvicorn.run(make_app(models, unused), host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
