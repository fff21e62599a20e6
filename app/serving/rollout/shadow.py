"""Shadows: a candidate is asked what the main version has answered, and counted is where the two agree. Nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from app.core.errors import DeadlineExceeded, HooperError, Overloaded
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment, Prediction
from app.serving.registry import Registry
from app.serving.rollout.lease import LeasedDeployment
from app.tasks.base import Result

MAX_IN_FLIGHT = 16
"""Copies under way at once; more are dropped. So much is what a batch of copies can cost a caller who comes in during it."""
COPY_S = 30.0
"""Seconds after which nobody wants a copy's answer any more."""

Outcome = Literal["agree", "disagree", "failed", "dropped"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copy:
    """What the main version was asked, and answered. Items that it had no answer to are left out."""

    main: Deployment
    items: Sequence[Any]
    options: Any
    answers: Sequence[Any]


def copy_of(main: Deployment, items: Sequence[Any], options: Any, prediction: Prediction) -> Copy:
    pairs = [
        (item, result.answer) for item, result in zip(items, prediction.results, strict=True) if isinstance(result, Result)
    ]
    return Copy(main, [item for item, _ in pairs], options, [answer for _, answer in pairs])


class Shadows:
    """Invariant: at most `MAX_IN_FLIGHT` copies are under way, none waits to be, and none reaches a caller, however it ends."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry, self._metrics = registry, metrics
        self._under_way: set[asyncio.Task[None]] = set()

    def are_wanted(self, main: Deployment) -> bool:
        """Whether what this deployment answers is to be copied."""
        return self._registry.shadow_of(main) is not None

    async def send(self, copy: Copy) -> None:
        """Begin to ask the candidate, or drop the copy; returns at once. To be called after the caller has the answer."""
        candidate = self._registry.shadow_of(copy.main)
        if candidate is None or not copy.items:
            return
        if len(self._under_way) >= MAX_IN_FLIGHT or copy.main.scheduler.num_waiting_rows:  # callers wait: they have the cores
            self._count(copy, candidate.version, ["dropped"] * len(copy.items))
            return
        task = asyncio.create_task(self._ask(copy, candidate), name=f"shadow-{copy.main.manifest.name}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def aclose(self) -> None:
        """Give up what is under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _ask(self, copy: Copy, candidate: LeasedDeployment) -> None:
        with candidate.lease() as deployment:
            self._count(copy, candidate.version, await _outcomes(copy, deployment))

    def _count(self, copy: Copy, candidate: int, outcomes: Sequence[Outcome]) -> None:
        main = copy.main.manifest
        # all of them, so that the first failure is an increase and not the beginning of a series
        by_outcome = {
            name: self._metrics.shadow_compared.labels(main.name, str(main.version), str(candidate), name)
            for name in get_args(Outcome)
        }
        for outcome in outcomes:
            by_outcome[outcome].inc()


async def _outcomes(copy: Copy, candidate: Deployment) -> list[Outcome]:
    """What came of each item."""
    try:
        deadline = time.monotonic() + COPY_S
        results = (await candidate.predict(copy.items, copy.options, deadline, "bulk", is_copy=True)).results
    except (Overloaded, DeadlineExceeded):  # it has as much to do as it takes
        return ["dropped"] * len(copy.items)
    except HooperError:
        return ["failed"] * len(copy.items)
    except Exception as error:  # whatever it is: a copy must not be heard of but here
        logger.error("a copy for %s/%d failed", candidate.manifest.name, candidate.manifest.version, exc_info=error)
        return ["failed"] * len(copy.items)
    pairs = zip(copy.answers, results, strict=True)
    return [_outcome(copy.main, answer, result, copy.options) for answer, result in pairs]


def _outcome(main: Deployment, answer: Any, result: Result | HooperError, options: Any) -> Outcome:
    if isinstance(result, HooperError):
        return "failed"
    return "agree" if main.task.same_decision(answer, result.answer, options) else "disagree"
