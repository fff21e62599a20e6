"""Kills a command at each of its steps on the disk in turn: `python -m tests.support.kill_points OUTPUT ARGUMENT ...`.

Each attempt is a fork that ends itself with SIGKILL before its n-th step, so that no clean-up of Python's runs; then the
command runs once more as a person would run it. Prints one JSON line for each attempt: whether it was killed, whether the
output had its name by then, and the output's content in the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app import cli
from app.cli import batch, resumable_writer


class Steps:
    """Counts what is done to the output and what stands beside it, and ends the process at one of these steps."""

    def __init__(self, output: Path, last: int) -> None:
        self._output, self._last, self._taken = str(output), last, 0

    def around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            first = arguments[0]
            if not isinstance(first, Path) or str(first).startswith(self._output):
                self._taken += 1
                if self._taken == self._last:
                    os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **more)

        return step


def attempt(output: Path, last: int, arguments: list[str]) -> bool:
    """Run the command in a fork; whether it was killed."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        steps = Steps(output, last)
        os.fsync = steps.around(os.fsync)
        for name in ("replace", "unlink", "open"):
            setattr(Path, name, steps.around(getattr(Path, name)))
        resumable_writer.ResumableWriter._cut = steps.around(resumable_writer.ResumableWriter._cut)  # type: ignore[method-assign]
        resumable_writer.ResumableWriter.write = steps.around(resumable_writer.ResumableWriter.write)  # type: ignore[method-assign]
        os._exit(cli.main(arguments))
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main(output: Path, arguments: list[str]) -> None:
    resumable_writer.EVERY_S, batch.CHUNK = 0.0, 8
    last, is_killed = 0, True
    while is_killed:
        last += 1
        is_killed = attempt(output, last, arguments)
        there = output.exists()
        if is_killed:
            attempt(output, 0, arguments)
        print(json.dumps({"killed": is_killed, "there": there, "content": output.read_text()}))
        left = [path.name for path in output.parent.iterdir() if path.name.startswith(output.name) and path != output]
        if left:
            raise SystemExit(f"left behind after step {last}: {left}")
        output.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
