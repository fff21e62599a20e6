"""`hooper` in a process forked from one that has imported it: to import it is most of what a short-lived service costs."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import NamedTemporaryFile
from typing import IO

STDIN, STDOUT, STDERR = 0, 1, 2
FORKS = multiprocessing.get_context("forkserver")
PRELOADED = [
    "app.cli.service",
    "app.runtime.encoder_engine",
    "app.server",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    __name__,
]
"""What a service has imported once it answers. No command of a task's options, which would keep which tasks there are."""
FORKS.set_forkserver_preload(PRELOADED)


class Fork:
    """A process that runs a command, with what of `subprocess.Popen` is used here."""

    def __init__(
        self,
        words: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        stdin: Connection | None = None,
        stdout: Path | None = None,
    ) -> None:
        reader, writer = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(
            target=_run, args=(list(words), str(cwd), dict(environment), stdin, stdout and str(stdout), writer)
        )
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


def run_forked(words: Sequence[str], cwd: Path, environment: Mapping[str, str], given: str = "") -> CompletedProcess[str]:
    """A command to its end, as `subprocess.run` has it; it reads what is given, at most 64 kB, from a pipe."""
    reader, writer = FORKS.Pipe(duplex=False)
    os.write(writer.fileno(), given.encode())
    writer.close()
    with NamedTemporaryFile() as stdout:
        process = Fork(words, cwd, environment, reader, Path(stdout.name))
        reader.close()
        with process.stderr as lines:
            stderr = lines.read()
        return CompletedProcess(words, process.wait(), stdout.read().decode(), stderr)


def _run(
    words: list[str], cwd: str, environment: dict[str, str], stdin: Connection | None, stdout: str | None, stderr: Connection
) -> None:
    """What `python -m app.cli` does, in that folder and with these variables."""
    gc.freeze()  # what is shared with the other forks stays shared
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    os.dup2(stderr.fileno(), STDERR)
    stderr.close()
    if stdin is not None:
        os.dup2(stdin.fileno(), STDIN)
        stdin.close()
        sys.stdin = os.fdopen(STDIN, encoding="utf-8")
    if stdout is not None:
        os.dup2(os.open(stdout, os.O_WRONLY), STDOUT)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    importlib.invalidate_caches()
    from app.cli import main

    sys.exit(main(words))


def _end_with_the_tests() -> None:
    """However the process of the tests ends, nobody goes on serving."""
    tests = multiprocessing.parent_process()
    if tests is not None:
        tests.join()
        os._exit(1)
