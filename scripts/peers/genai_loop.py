"""onnxruntime-genai's own loop, asked over HTTP by `python -m scripts.peers.decoders` in an environment of its own. Not part of
Hooper's own.

    python genai_loop.py FOLDER PORT

`POST /write` has `texts` and `new_tokens`, all of which are written as one batch, the only one that its loop knows: texts are
filled up to the longest, begin together and end together.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class GenaiWriter:
    """A model of onnxruntime-genai."""

    def __init__(self, folder: str) -> None:
        import onnxruntime_genai  # type: ignore[import-not-found, unused-ignore]

        self._genai = onnxruntime_genai
        self._model = onnxruntime_genai.Model(folder)
        self._tokenizer = onnxruntime_genai.Tokenizer(self._model)

    def write(self, texts: list[str], new_tokens: int) -> dict[str, Any]:
        """Seconds to the first tokens and to the last ones, and how many each text had before."""
        began, began_cpu = time.perf_counter(), time.process_time()
        ids = self._tokenizer.encode_batch(texts)
        ids = ids.as_numpy() if hasattr(ids, "as_numpy") else ids
        longest = ids.shape[1]
        params = self._genai.GeneratorParams(self._model)
        total = longest + new_tokens
        params.set_search_options(batch_size=len(texts), max_length=total, min_length=total, do_sample=False)
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(ids)
        generator.generate_next_token()
        first_s, count = time.perf_counter() - began, 1
        while not generator.is_done() and count < new_tokens:
            generator.generate_next_token()
            count += 1
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        return {"first_s": first_s, "wall_s": wall_s, "cpu_s": cpu_s, "new_tokens": count, "read": longest}


def main(folder: str, port: str) -> None:
    writer = GenaiWriter(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(writer.write(asked["texts"], asked["new_tokens"]))

        def _answer(self, told: dict[str, Any]) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
