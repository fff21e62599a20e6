"""The registry: lease, then retire. Nothing in flight is dropped, and nothing that was replaced stays open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from app.core.errors import ModelFailed, Unavailable, UnknownModel
from app.serving.failures import FailedModel
from app.serving.registry import Registry, Standing
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from tests.support.gated_engine import Deploy, Gated, turn

TASK = "text-classification"
TASKS = (TASK,)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    made = Registry(drain_s=3600)
    made.loading_finished()
    yield made
    await made.aclose()


async def closed(gated: Gated) -> bool:
    await turn()
    return gated.engine.is_closed


# --- which deployment


async def test_without_a_name_the_model_that_came_first_answers_whatever_comes_after(
    registry: Registry, deploy: Deploy
) -> None:
    for name in ("b", "a", "c"):
        registry.replace(deploy(name).deployment)
        with registry.lease(TASKS) as found:
            assert found.manifest.name == "b"
    assert [deployment.manifest.name for deployment in registry.deployments] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["tiny", "tiny/2"])
async def test_a_model_is_found_by_name_and_by_version(registry: Registry, deploy: Deploy, name: str) -> None:
    registry.replace(deploy("another").deployment)
    two = deploy("tiny", 2)
    registry.replace(two.deployment)
    with registry.lease(TASKS, name) as found:
        assert found is two.deployment


@pytest.mark.parametrize("name", ["other", "tiny/2", "tiny/x", "", "tiny/1/1"])
async def test_what_is_not_loaded_is_unknown_and_the_error_says_what_is(registry: Registry, deploy: Deploy, name: str) -> None:
    registry.replace(deploy().deployment)
    with pytest.raises(UnknownModel, match="loaded are: tiny"), registry.lease(TASKS, name):
        pass


async def test_a_name_alone_is_answered_whatever_its_task(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    with registry.lease((), "tiny/1") as found:
        assert found.manifest.task == TASK
    with pytest.raises(UnknownModel, match="loaded are: tiny"), registry.lease((), "other"):
        pass


async def test_a_model_of_another_task_is_refused(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    with pytest.raises(UnknownModel, match="is for text-classification, not for summarization"):
        registry.lease(("summarization",), "tiny").__enter__()
    with pytest.raises(UnknownModel, match="no loaded model does summarization"):
        registry.lease(("summarization",)).__enter__()
    with pytest.raises(UnknownModel, match="no loaded model does summarization or translation;"):
        registry.lease(("summarization", "translation")).__enter__()


@pytest.mark.parametrize("name", [None, "later"])
async def test_while_models_load_an_absent_one_may_still_come(deploy: Deploy, name: str | None) -> None:
    registry = Registry(0)
    with pytest.raises(Unavailable, match="still loading"), registry.lease(TASKS, name):
        pass
    await registry.aclose()


async def test_a_model_that_is_there_answers_while_others_load(deploy: Deploy) -> None:
    registry = Registry(0)
    registry.replace(deploy().deployment)
    assert not registry.is_ready
    with registry.lease(TASKS) as found:
        assert found.manifest.name == "tiny"
    await registry.aclose()


# --- readiness


async def test_ready_is_loaded_alive_and_not_draining(registry: Registry, deploy: Deploy) -> None:
    assert not registry.is_ready
    assert registry.not_ready_reason == "no model is loaded"
    one = deploy()
    registry.replace(one.deployment)
    assert registry.is_ready
    await one.deployment.scheduler.aclose()
    assert not registry.is_ready


async def test_draining_turns_readiness_red_and_still_answers(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    registry.drain()
    assert not registry.is_ready
    assert "draining" in registry.not_ready_reason
    with registry.lease(TASKS) as found:
        assert found.is_alive


@pytest.mark.parametrize("name", [None, "tiny"])
async def test_after_closing_callers_are_told_that_the_service_drains(
    registry: Registry, deploy: Deploy, name: str | None
) -> None:
    registry.replace(deploy().deployment)
    await registry.aclose()
    with pytest.raises(Unavailable, match="draining"), registry.lease(TASKS, name):
        pass


# --- lease, then retire


async def test_the_old_deployment_closes_only_after_its_last_lease(registry: Registry, deploy: Deploy) -> None:
    old, new = deploy(version=1), deploy(version=2)
    registry.replace(old.deployment)
    with registry.lease(TASKS):
        with registry.lease(TASKS) as leased:
            registry.replace(new.deployment)
            assert leased is old.deployment
            assert not await closed(old)
        assert not await closed(old)
        assert old.deployment.is_alive
        with registry.lease(TASKS) as fresh:
            assert fresh is new.deployment
    assert await closed(old)
    assert not await closed(new)


async def test_an_idle_deployment_that_is_replaced_closes_at_once(registry: Registry, deploy: Deploy) -> None:
    old = deploy()
    registry.replace(old.deployment)
    registry.replace(deploy(version=2).deployment)
    assert await closed(old)


async def test_a_lease_ends_with_an_error_too(registry: Registry, deploy: Deploy) -> None:
    old = deploy()
    registry.replace(old.deployment)
    with pytest.raises(ZeroDivisionError), registry.lease(TASKS):
        raise ZeroDivisionError
    registry.remove("tiny")
    assert await closed(old)


async def test_a_name_that_was_leased_before_can_be_leased_and_retired_again(registry: Registry, deploy: Deploy) -> None:
    old = deploy()
    registry.replace(old.deployment)
    with registry.lease(TASKS):
        pass
    with registry.lease(TASKS):
        registry.remove("tiny")
        assert not await closed(old)
    assert await closed(old)


async def test_a_deployment_whose_engine_died_can_be_replaced(registry: Registry, deploy: Deploy) -> None:
    dead = deploy()
    registry.replace(dead.deployment)
    dead.deployment.scheduler._loop.cancel()
    await turn()
    assert not registry.is_ready
    registry.replace(deploy(version=2).deployment)
    assert registry.is_ready
    assert await closed(dead)


async def test_a_removed_name_is_unknown(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    registry.remove("tiny")
    with pytest.raises(UnknownModel), registry.lease(TASKS, "tiny"):
        pass
    with pytest.raises(UnknownModel, match="'tiny' is not loaded"):
        registry.remove("tiny")


async def test_closing_waits_for_leases_and_for_what_was_retired_before(deploy: Deploy) -> None:
    registry = Registry(drain_s=3600)
    old, new = deploy(version=1), deploy(version=2)
    registry.replace(old.deployment)
    with registry.lease(TASKS):
        registry.replace(new.deployment)
        closing = asyncio.create_task(registry.aclose())
        assert await closed(new)
        assert not closing.done()
    await closing
    assert await closed(old)


async def test_a_lease_that_never_ends_does_not_keep_the_service_from_closing(deploy: Deploy) -> None:
    registry = Registry(drain_s=0.001)
    stuck = deploy()
    registry.replace(stuck.deployment)
    with registry.lease(TASKS):
        await registry.aclose()
        assert stuck.engine.is_closed


async def test_the_drain_time_is_given_once_for_leases_and_rows_together(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(drain_s=0.001)
    stuck = deploy().deployment
    left: list[float] = []

    async def aclose(drain_s: float) -> None:
        left.append(drain_s)

    monkeypatch.setattr(stuck, "aclose", aclose)
    registry.replace(stuck)
    with registry.lease(TASKS):
        await registry.aclose()
    assert left == [0.0]


async def test_rows_in_the_engine_are_answered_before_their_deployment_closes(registry: Registry, deploy: Deploy) -> None:
    old = deploy()
    registry.replace(old.deployment)
    answered = asyncio.ensure_future(old.deployment.predict([ClassificationItem("good")], ClassificationOptions()))
    batch = await old.engine.batch()
    registry.remove("tiny")
    assert not await closed(old)
    batch.finish()
    assert (await answered).num_tokens == 3
    assert await closed(old)


# --- the default of a task


def expecting(ages: dict[str, str], named: dict[str, str] | None = None) -> Registry:
    registry = Registry(drain_s=0)
    registry.expect({TASK: ages}, named or {}, ())
    return registry


@pytest.mark.parametrize(
    ("ages", "default"),
    [
        ({"a": "2026-03-01T00:00:00+00:00", "z": "2026-02-01T00:00:00Z"}, "z"),
        ({"a": "2026-03-01T00:30:00+02:00", "z": "2026-02-28T23:00:00+00:00"}, "a"),  # half past ten in the evening in UTC
        ({"b": "2026-03-01T00:00:00Z", "a": "2026-03-01T00:00:00Z"}, "a"),
        ({"b": "2026-03-01", "a": "some day", "c": ""}, "b"),
        ({"only": ""}, "only"),
    ],
)
def test_the_default_is_the_model_that_was_published_first(ages: dict[str, str], default: str) -> None:
    assert expecting(ages).default_of(TASK) == default
    assert expecting(ages, {TASK: "named"}).default_of(TASK) == "named"


async def test_a_default_that_was_unloaded_is_no_other_model(deploy: Deploy) -> None:
    registry = expecting({"a": "2026-01-01", "b": "2026-02-01"})
    for name in ("b", "a"):
        registry.replace(deploy(name).deployment)
    registry.loading_finished()
    registry.remove("a")
    with (
        pytest.raises(UnknownModel, match=f"'a', the default for {TASK}, is not loaded; name another: b"),
        registry.lease(TASKS),
    ):
        pass
    registry.replace(deploy("a").deployment)
    with registry.lease(TASKS) as found:
        assert found.manifest.name == "a"


async def test_after_a_tasks_last_model_is_gone_the_next_one_is_the_default(registry: Registry, deploy: Deploy) -> None:
    for name in ("a", "b"):
        registry.replace(deploy(name).deployment)
        registry.remove(name)
    registry.replace(deploy("c").deployment)
    with registry.lease(TASKS) as found:
        assert found.manifest.name == "c"


async def test_a_default_that_is_still_loading_is_waited_for(deploy: Deploy) -> None:
    registry = expecting({"a": "2026-01-01", "b": "2026-02-01"})
    registry.replace(deploy("b").deployment)
    with pytest.raises(Unavailable, match="still loading"), registry.lease(TASKS):
        pass


# --- failed models


def failed(name: str, version: int | None = 1, task: str = TASK) -> FailedModel:
    return FailedModel(name, version, "it is broken", task)


async def test_a_failed_model_is_refused_with_its_reason_and_stops_no_other(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy("a").deployment)
    registry.fail(failed("b", 2))
    assert registry.is_ready
    for name in ("b", "b/2"):
        with pytest.raises(ModelFailed, match="model 'b' could not be loaded: it is broken"), registry.lease((), name):
            pass
    with pytest.raises(UnknownModel), registry.lease((), "b/1"):
        pass


async def test_where_the_default_failed_no_other_model_answers(deploy: Deploy) -> None:
    registry = expecting({"a": "2026-01-01", "b": "2026-02-01"})
    registry.fail(failed("a"))
    registry.replace(deploy("b").deployment)
    registry.loading_finished()
    with pytest.raises(ModelFailed, match=f"it is the default for {TASK}"), registry.lease(TASKS):
        pass
    registry.replace(deploy("a").deployment)
    assert registry.failed == []
    with registry.lease(TASKS) as found:
        assert found.manifest.name == "a"


async def test_a_model_that_must_load_and_has_failed_keeps_readiness_red(registry: Registry, deploy: Deploy) -> None:
    registry.expect({}, {}, ["a"])
    registry.replace(deploy("b").deployment)
    registry.fail(failed("b"))  # a version of it answers: nothing has changed
    assert registry.is_ready
    registry.fail(failed("a"))
    assert not registry.is_ready
    assert registry.not_ready_reason == "model 'a' could not be loaded: it is broken"
    registry.remove("a")  # an operator gives it up
    assert registry.is_ready


async def test_how_a_registry_stands_survives_being_sent(registry: Registry, deploy: Deploy) -> None:
    registry.expect({TASK: {"a": ""}}, {}, ["a"])
    registry.replace(deploy("b").deployment)
    registry.saved(registry.deployments[0], False)
    registry.fail(failed("a", None))
    other = Registry(drain_s=0)
    other.follow(Standing.from_json(json.loads(json.dumps(registry.standing.to_json()))))
    assert other.standing == registry.standing
    assert other.default_of(TASK) == "a"
    assert other.unmet_reason == registry.unmet_reason != ""
