"""The training bar: loss, accuracy, and what is left of the time; plain lines where there is no terminal."""

from __future__ import annotations

import platform
import resource
import sys
import time
from typing import Any

import torch
from tqdm.std import tqdm
from transformers import TrainerCallback

from scripts.training.bars import bar_class, is_quiet, shows_bars
from scripts.training.processes import is_main_process
from scripts.training.training_setup import Workload

PLAIN_LINES = 40
SMOOTHING = 0.95
FORECAST_AFTER = 3
"""Updates after the first, which also warms up, that the first forecast is made from."""
FORECAST_AGAIN = 0.1
"""Share of a run after which the forecast is made again, from all updates until then."""


class TrainingProgress(TrainerCallback):
    """A tqdm bar on a terminal; about forty lines in a log file; in both, twice, what the whole run will cost."""

    def __init__(self, workload: Workload, updates_per_epoch: int) -> None:
        self._workload, self._per_epoch = workload, updates_per_epoch
        self._loss: float | None = None
        self._accuracy: float | None = None
        self._began = 0.0
        self._first_step = 0
        self._is_timed = False
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began, self._first_step = time.monotonic(), state.global_step
        if shows_bars() and is_main_process():
            self._bar = bar_class()(total=state.max_steps, initial=state.global_step, desc="training", unit="batch")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._loss = logs["loss"]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not is_main_process() or is_quiet():
            return
        right, total = getattr(state, "hooper_correct", (0, 0))
        if total:
            share = right / total
            self._accuracy = share if self._accuracy is None else SMOOTHING * self._accuracy + (1 - SMOOTHING) * share
        done = state.global_step - self._first_step
        if not self._is_timed:
            self._is_timed, self._began, self._first_step = True, time.monotonic(), state.global_step
        elif done in (FORECAST_AFTER, round(FORECAST_AGAIN * state.max_steps)):
            self._forecast(state)
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
        return f"loss {loss}, accuracy {accuracy} on training rows"

    def _line(self, state: Any) -> None:
        share = state.global_step / state.max_steps
        left_s = self._rate(state)[1]
        print(f"training {share:4.0%}  {self._figures()}, {left_s / 60:.1f} min left", file=sys.stderr, flush=True)

    def _forecast(self, state: Any) -> None:
        tokens_per_s, left_s = self._rate(state)
        memory = peak_memory_bytes()
        sentence = (
            f"training       about {spoken_time(left_s)} left for {state.max_steps - state.global_step:,} updates at"
            f" {tokens_per_s:,.0f} tokens/s; memory {memory / 2**30:.1f} GiB, longest texts included"
        )
        tqdm.write(sentence, file=sys.stderr)

    def _rate(self, state: Any) -> tuple[float, float]:
        """Tokens a second since the first update, and seconds that the rest takes at this rate."""
        first, now, end = (
            self._workload.until(step / self._per_epoch) for step in (self._first_step, state.global_step, state.max_steps)
        )
        passed = time.monotonic() - self._began
        rate = max(now - first, 1.0) / max(passed, 1e-9)
        return rate, (end - now) / rate


def spoken_time(seconds: float) -> str:
    """`40 s`, `12 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def peak_memory_bytes() -> int:
    """The most memory that training held until now: of the GPU where it runs on one, else of the whole process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
