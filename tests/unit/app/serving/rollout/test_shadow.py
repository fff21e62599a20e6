"""Shadows: what a candidate makes of the main version's items is counted, and the caller notices nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from app.batching.admission import QueueLimit
from app.core.errors import EngineFailed, EngineLost, HooperError, InvalidInput
from app.core.types import RowOutput
from app.observability.metrics import Metrics
from app.serving.deployment import Prediction, Timings
from app.serving.registry import Registry
from app.serving.rollout import shadow
from app.serving.rollout.lease import SHADOW
from app.serving.rollout.shadow import MAX_IN_FLIGHT, Shadows, copy_of
from app.tasks.base import Result
from app.tasks.text_classification.task import Classification, ClassificationItem, ClassificationOptions, LabelScore
from tests.support.gated_engine import Deploy, Gated, turn

GOOD, BAD = "good", "bad"
OPTIONS = ClassificationOptions()


def says(label: str) -> RowOutput:
    return {"logits": np.array([5.0, 0.0] if label == BAD else [0.0, 5.0], np.float32)}


def answer(label: str) -> Result:
    return Result(Classification([LabelScore(label, 0.9)]), 3, False)


@dataclass(frozen=True)
class Scene:
    """`tiny/1` with its shadow `tiny/2`."""

    main: Gated
    candidate: Gated
    registry: Registry
    shadows: Shadows
    metrics: Metrics

    async def send(self, *results: Result | HooperError) -> None:
        items = [ClassificationItem("good film")] * len(results)
        prediction = Prediction(results, Timings(0, 0, 0))
        await self.shadows.send(copy_of(self.main.deployment, items, OPTIONS, prediction))
        await turn()

    def outcomes(self) -> dict[str, float]:
        found = {}
        for outcome in ("agree", "disagree", "failed", "dropped"):
            labels = {"model": "tiny", "version": "1", "candidate": "2", "outcome": outcome}
            found[outcome] = self.metrics.registry.get_sample_value("hooper_shadow_compared_total", labels) or 0
        return {outcome: count for outcome, count in found.items() if count}


@pytest.fixture
async def stage(deploy: Deploy) -> AsyncIterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(**candidate: Any) -> Scene:
        metrics, registry = Metrics(), Registry(0)
        scene = Scene(
            deploy(metrics=metrics), deploy(version=2, metrics=metrics, **candidate), registry,
            Shadows(registry, metrics), metrics,
        )  # fmt: skip
        registry.replace(scene.main.deployment)
        registry.run_beside(scene.candidate.deployment, SHADOW)
        made.append(scene)
        return scene

    yield make
    for entry in made:
        await entry.shadows.aclose()
        await entry.registry.aclose()


Stage = Callable[..., Scene]


async def test_each_item_agrees_or_not_and_the_main_version_s_engine_is_left_alone(stage: Stage) -> None:
    scene = stage()
    await scene.send(answer(GOOD), answer(GOOD), answer(BAD))
    (await scene.candidate.engine.batch()).finish([says(GOOD), says(BAD), says(BAD)])
    await turn()
    assert scene.outcomes() == {"agree": 2, "disagree": 1}
    assert not scene.main.engine.has_batch


async def test_a_copy_is_begun_and_not_waited_for(stage: Stage) -> None:
    scene = stage()
    await asyncio.wait_for(scene.send(answer(GOOD)), 10)  # the candidate's engine has not answered
    assert scene.outcomes() == {}


async def test_items_that_the_main_version_could_not_answer_are_not_copied(stage: Stage) -> None:
    scene = stage()
    await scene.send(InvalidInput("must not be empty"), answer(GOOD))
    batch = await scene.candidate.engine.batch()
    assert len(batch.rows) == 1
    batch.finish([says(GOOD)])
    await turn()
    assert scene.outcomes() == {"agree": 1}


async def test_where_none_was_answered_nothing_is_asked(stage: Stage) -> None:
    scene = stage()
    await scene.send(InvalidInput("must not be empty"))
    assert not scene.candidate.engine.has_batch
    assert scene.outcomes() == {}


@pytest.mark.parametrize("error", [EngineFailed("no"), EngineLost("gone"), RuntimeError("what?")])
async def test_an_engine_that_fails_is_a_failure_and_no_more(stage: Stage, error: Exception) -> None:
    scene = stage()
    await scene.send(answer(GOOD), answer(BAD))
    while not scene.outcomes():
        (await scene.candidate.engine.batch()).fail(error)
        await turn()
    assert scene.outcomes() == {"failed": 2}
    assert scene.main.deployment.is_alive


async def test_a_fault_of_our_own_is_logged_and_stays_here(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = stage()
    monkeypatch.setattr(scene.candidate.deployment, "encode", None)
    await scene.send(answer(GOOD))
    assert scene.outcomes() == {"failed": 1}
    assert "a copy for tiny/2 failed" in caplog.text


async def test_so_many_copies_are_under_way_and_the_next_ones_are_dropped(stage: Stage) -> None:
    scene = stage()
    for _ in range(MAX_IN_FLIGHT + 3):
        await scene.send(answer(GOOD))
    assert scene.outcomes() == {"dropped": 3}
    while scene.outcomes().get("agree") != MAX_IN_FLIGHT:
        batch = await scene.candidate.engine.batch()
        batch.finish([says(GOOD)] * len(batch.rows))
        await turn()
    await scene.send(answer(GOOD))  # there is room again
    assert scene.outcomes() == {"agree": MAX_IN_FLIGHT, "dropped": 3}


async def test_while_callers_wait_for_the_main_version_copies_are_dropped(stage: Stage) -> None:
    scene = stage()
    asked = []
    for _ in range(2):
        asked.append(asyncio.ensure_future(scene.main.deployment.predict([ClassificationItem("good")], OPTIONS)))
        await turn()
    assert scene.main.deployment.scheduler.num_waiting_rows == 1
    await scene.send(answer(GOOD))
    assert scene.outcomes() == {"dropped": 1}
    for _ in asked:
        (await scene.main.engine.batch()).finish()
    await asyncio.gather(*asked)
    await scene.send(answer(GOOD))
    assert (await scene.candidate.engine.batch()).rows


async def test_a_candidate_with_a_full_queue_drops_copies(stage: Stage) -> None:
    scene = stage(limit=QueueLimit(2, 1000))  # of which bulk rows get one
    for _ in range(3):
        await scene.send(answer(GOOD))
    assert scene.outcomes() == {"dropped": 1}  # one in the engine, one waits


async def test_a_copy_that_takes_too_long_is_dropped(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "COPY_S", 0.0)
    scene = stage()
    await scene.send(answer(GOOD))
    assert scene.outcomes() == {"dropped": 1}


async def test_copies_count_for_drift_and_not_for_what_callers_waited(stage: Stage) -> None:
    scene = stage()
    await scene.send(answer(GOOD))
    (await scene.candidate.engine.batch()).finish([says(GOOD)])
    await turn()
    assert scene.outcomes() == {"agree": 1}
    told = scene.metrics.registry.get_sample_value
    assert told("hooper_queue_seconds_count", {"model": "tiny"}) is None
    assert told("hooper_tokenize_seconds_count", {"model": "tiny"}) is None


async def test_a_candidate_that_is_stopped_gets_no_more_copies(stage: Stage) -> None:
    scene = stage()
    assert scene.shadows.are_wanted(scene.main.deployment)
    scene.registry.remove("tiny", 2)
    assert not scene.shadows.are_wanted(scene.main.deployment)
    await scene.send(answer(GOOD))  # was made before
    assert scene.outcomes() == {}


async def test_a_candidate_with_a_copy_under_way_is_closed_after_it(deploy: Deploy) -> None:
    metrics, registry = Metrics(), Registry(3600)
    main, candidate = deploy(metrics=metrics), deploy(version=2, metrics=metrics)
    registry.replace(main.deployment)
    registry.run_beside(candidate.deployment, SHADOW)
    scene = Scene(main, candidate, registry, Shadows(registry, metrics), metrics)
    await scene.send(answer(GOOD))
    registry.remove("tiny", 2)
    await turn()
    assert not candidate.engine.is_closed
    (await candidate.engine.batch()).finish([says(GOOD)])
    await turn()
    assert scene.outcomes() == {"agree": 1}
    assert candidate.engine.is_closed
    await registry.aclose()


async def test_closing_gives_up_what_is_under_way(stage: Stage) -> None:
    scene = stage()
    await scene.send(answer(GOOD))
    await scene.shadows.aclose()
    assert scene.outcomes() == {}
    assert not scene.shadows._under_way
