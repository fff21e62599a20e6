"""llama.cpp's own server, as the package xllamacpp carries it. Run by `python -m scripts.peers.decoders` in an environment of
its own. Not part of Hooper's own.

    python llama_server.py MODEL.gguf PORT THREADS SLOTS TOKENS_OF_A_SLOT
"""

from __future__ import annotations

import sys
import threading


def main(model: str, port: str, threads: str, slots: str, num_tokens: str) -> None:
    import xllamacpp  # type: ignore[import-not-found, unused-ignore]

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = int(slots) * int(num_tokens)
    params.cpuparams.n_threads = int(threads)
    params.cpuparams_batch.n_threads = int(threads)
    params.cont_batching = True
    params.ui = False
    server = xllamacpp.Server(params)  # which listens until it is forgotten
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
