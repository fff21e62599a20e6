"""`hooper serve`, whose decoders take a step only when they are told to: `PACE` names a pipe that says so, a letter for each.

`s`: take a step; `r`: raise in it; `n`: give no numbers; `g`: go on without being told, `h`: no more. Versions other than the
first go on as they like.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.configuration import read_settings
from app.core.manifest import Decoder
from app.main import create_app
from app.runtime.decoder_session import BoundSession, open_decoder
from app.runtime.onnx_session import InputInfo
from app.runtime.providers import Provider
from app.server import serve
from scripts.reliability.decoders import bound_output


class Pace:
    """What the pipe says, letter by letter."""

    def __init__(self, pipe: str) -> None:
        self._letters: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._is_free = True
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: str) -> None:
        with Path(pipe).open(encoding="ascii") as letters:
            while letter := letters.read(1):
                self._letters.put(letter)

    def next(self) -> str:
        """What the next step does, once that is known."""
        while True:
            try:
                letter = self._letters.get(block=not self._is_free)
            except queue.Empty:
                return "s"
            if letter in "gh":
                self._is_free = letter == "g"
            else:
                return letter


class PacedDecoder:
    """Satisfies `BoundSession`."""

    def __init__(self, decoder: BoundSession, pace: Pace) -> None:
        self._decoder, self._pace = decoder, pace

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        letter = self._pace.next()
        if letter == "r":
            raise RuntimeError("the injected failure")
        self._decoder.run_with_iobinding(binding, options)
        if letter == "n":
            bound_output(binding)[:] = np.nan

    def io_binding(self) -> Any:
        return self._decoder.io_binding()

    def get_inputs(self) -> Sequence[InputInfo]:
        return self._decoder.get_inputs()

    def get_outputs(self) -> Sequence[InputInfo]:
        return self._decoder.get_outputs()

    def get_providers(self) -> list[str]:
        return self._decoder.get_providers()


def main() -> int:
    pace = Pace(os.environ["PACE"])

    def open_paced(file: Path, decoder: Decoder, provider: Provider, num_threads: int) -> BoundSession:
        opened = open_decoder(file, decoder, provider, num_threads)
        return PacedDecoder(opened, pace) if file.parent.name == "1" else opened

    return serve(read_settings(), partial(create_app, decoder_factory=open_paced))


if __name__ == "__main__":
    sys.exit(main())
