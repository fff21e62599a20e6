"""The training bar: loss, accuracy and time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

PLAIN_LINES = 40
SMOOTHING = 0.95


class TrainingProgress(TrainerCallback):
    """A tqdm bar on a terminal; about forty lines in a log file."""

    def __init__(self) -> None:
        self._loss: float | None = None
        self._accuracy: float | None = None
        self._began = 0.0
        self._first_step = 0
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began, self._first_step = time.monotonic(), state.global_step
        if sys.stderr.isatty():
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="batch")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._loss = logs["loss"]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        right, total = getattr(state, "hooper_correct", (0, 0))
        if total:
            share = right / total
            self._accuracy = share if self._accuracy is None else SMOOTHING * self._accuracy + (1 - SMOOTHING) * share
        if self._bar is not None:
            self._bar.set_postfix_str(self._figures(), refresh=False)
            self._bar.update(state.global_step - self._bar.n)
        elif state.global_step % max(1, state.max_steps // PLAIN_LINES) == 0:
            self._line(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def _figures(self) -> str:
        loss = "–" if self._loss is None else f"{self._loss:.4f}"
        accuracy = "–" if self._accuracy is None else f"{self._accuracy:.3f}"
        return f"loss {loss}, accuracy {accuracy}"

    def _line(self, state: Any) -> None:
        passed = time.monotonic() - self._began
        left = passed / max(1, state.global_step - self._first_step) * (state.max_steps - state.global_step)
        share = state.global_step / state.max_steps
        print(f"training {share:4.0%}  {self._figures()}, {left / 60:.1f} min left", file=sys.stderr, flush=True)
