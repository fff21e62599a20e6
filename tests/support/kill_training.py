"""Kills a training at many moments and resumes it: `python -m tests.support.kill_training FOLDER REVIEWS BASE [KEY=VALUE ...]`.

Each attempt is a fork that ends itself with SIGKILL before its n-th moment, so that no clean-up of Python's runs: a moment is
the end of an update, or a file or folder of the run that is opened for writing, renamed or removed. Then the training is run
again as a person would. Prints one JSON line for each attempt: whether it was killed, and what was trained in the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from scripts.training import fine_tune
from scripts.training.data import read_all
from scripts.training.pipeline import Pipeline
from scripts.training.recipe import recipe_of

ATTEMPTS = 8
EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
SETTINGS: dict[str, Any] = {"name": "killed", "epochs": 2, "batch_size": 8, "precision": "fp32", "max_tokens": 16}


class Moments:
    """Counts what happens to a run, and ends the process at one of these moments."""

    def __init__(self, folder: Path, last: int) -> None:
        self._folder, self._last, self.taken = str(folder), last, 0

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wax"
        if (writes or event in EVENTS) and str(arguments[0]).startswith(self._folder):
            self.pass_by()

    def pass_by(self) -> None:
        self.taken += 1
        if self.taken == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder: Path, last: int, settings: dict[str, Any]) -> tuple[bool, int]:
    """Train in a fork, and resume where there is something to resume; whether it was killed, and how many moments it had."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        moments = Moments(folder, last)
        sys.addaudithook(moments.note)
        real = fine_tune.TrainingProgress.on_step_end

        def on_step_end(*arguments: Any, **named: Any) -> None:
            real(*arguments, **named)
            moments.pass_by()

        fine_tune.TrainingProgress.on_step_end = on_step_end  # type: ignore[method-assign]
        recipe = recipe_of({**settings, "runs": str(folder)})
        pipeline = Pipeline(recipe, None, lambda stage, text: None)
        pipeline.train(pipeline.load(read_all(recipe)), (folder / recipe.name / "recipe.json").exists())
        os.write(writer, str(moments.taken).encode())
        os._exit(0)
    os.close(writer)
    status = os.waitpid(child, 0)[1]
    if status and not os.WIFSIGNALED(status):
        raise SystemExit(f"failed after it was killed before moment {last}")
    return os.WIFSIGNALED(status), int(os.read(reader, 9) or 0)


def outcome(folder: Path) -> str:
    return hashlib.sha256((folder / "killed" / "final" / "model.safetensors").read_bytes()).hexdigest()


def main(folder: Path, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)  # a fork has no threads but its own
    _, count = attempt(folder, 0, settings)
    print(json.dumps({"killed": False, "moments": count, "outcome": outcome(folder)}), flush=True)
    for number in range(ATTEMPTS):
        shutil.rmtree(folder)
        last = 1 + round(number * (count - 1) / (ATTEMPTS - 1))
        is_killed, _ = attempt(folder, last, settings)
        attempt(folder, 0, settings)
        print(json.dumps({"killed": is_killed, "moment": last, "outcome": outcome(folder)}), flush=True)


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[4:])
    chosen = {key: json.loads(value) for key, value in given.items()}
    main(Path(sys.argv[1]), {**SETTINGS, "data": [sys.argv[2]], "base_model": sys.argv[3], **chosen})
