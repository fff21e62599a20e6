"""`hooper` in a process forked from one that has imported it: to import it is most of what a short-lived service costs."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

FORKS = multiprocessing.get_context("forkserver")
# what a service has imported once it answers
FORKS.set_forkserver_preload([
    "app.cli.service", "app.runtime.encoder_engine", "app.server", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", __name__,
])  # fmt: skip


class Fork:
    """A process that runs a command, with what of `subprocess.Popen` is used here."""

    def __init__(self, words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        reader, writer = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_run, args=(list(words), str(cwd), dict(environment), writer))
        self._process.start()
        writer.close()
        self.stderr: IO[str] = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode or 0

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(words: list[str], cwd: str, environment: dict[str, str], stderr: Connection) -> None:
    """What `python -m app.cli` does, in that folder and with these variables."""
    gc.freeze()  # what is shared with the other forks stays shared
    os.dup2(stderr.fileno(), sys.stderr.fileno())
    stderr.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    importlib.invalidate_caches()
    from app.cli import main

    sys.exit(main(words))
