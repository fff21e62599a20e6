"""The registry: lease, then retire. Nothing in flight is dropped, and nothing that was replaced stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.core.errors import Unavailable, UnknownModel
from app.serving.registry import Registry
from app.tasks.text_classification import ClassificationItem, ClassificationOptions
from tests.gated import Deploy, Gated, turn

TASK = "text-classification"


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


async def test_without_a_name_the_first_model_of_the_task_answers(registry: Registry, deploy: Deploy) -> None:
    for name in ("b", "a", "c"):
        registry.replace(deploy(name).deployment)
    with registry.lease(TASK) as found:
        assert found.manifest.name == "a"
    assert [one.manifest.name for one in registry.deployments] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["tiny", "tiny/2"])
async def test_a_model_is_found_by_name_and_by_version(registry: Registry, deploy: Deploy, name: str) -> None:
    registry.replace(deploy("another").deployment)
    two = deploy("tiny", 2)
    registry.replace(two.deployment)
    with registry.lease(TASK, name) as found:
        assert found is two.deployment


@pytest.mark.parametrize("name", ["other", "tiny/2", "tiny/x", "", "tiny/1/1"])
async def test_what_is_not_loaded_is_unknown_and_the_error_says_what_is(registry: Registry, deploy: Deploy, name: str) -> None:
    registry.replace(deploy().deployment)
    with pytest.raises(UnknownModel, match="loaded are: tiny"), registry.lease(TASK, name):
        pass


async def test_a_name_alone_is_answered_whatever_its_task(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    with registry.lease(None, "tiny/1") as found:
        assert found.manifest.task == TASK
    with pytest.raises(UnknownModel, match="loaded are: tiny"), registry.lease(None, "other"):
        pass


async def test_a_model_of_another_task_is_refused(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    with pytest.raises(UnknownModel, match="is for text-classification, not for summarization"):
        registry.lease("summarization", "tiny").__enter__()
    with pytest.raises(UnknownModel, match="no loaded model does summarization"):
        registry.lease("summarization").__enter__()


@pytest.mark.parametrize("name", [None, "later"])
async def test_while_models_load_an_absent_one_may_still_come(deploy: Deploy, name: str | None) -> None:
    registry = Registry(0)
    with pytest.raises(Unavailable, match="still loading"), registry.lease(TASK, name):
        pass
    await registry.aclose()


async def test_a_model_that_is_there_answers_while_others_load(deploy: Deploy) -> None:
    registry = Registry(0)
    registry.replace(deploy().deployment)
    assert not registry.is_ready
    with registry.lease(TASK) as found:
        assert found.manifest.name == "tiny"
    await registry.aclose()


# --- readiness


async def test_ready_is_loaded_alive_and_not_draining(registry: Registry, deploy: Deploy) -> None:
    assert registry.is_ready
    one = deploy()
    registry.replace(one.deployment)
    assert registry.is_ready
    await one.deployment.batcher.aclose()
    assert not registry.is_ready


async def test_draining_turns_readiness_red_and_still_answers(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    registry.drain()
    assert not registry.is_ready
    assert "draining" in registry.not_ready_because
    with registry.lease(TASK) as found:
        assert found.is_alive


@pytest.mark.parametrize("name", [None, "tiny"])
async def test_after_closing_callers_are_told_that_the_service_drains(
    registry: Registry, deploy: Deploy, name: str | None
) -> None:
    registry.replace(deploy().deployment)
    await registry.aclose()
    with pytest.raises(Unavailable, match="draining"), registry.lease(TASK, name):
        pass


# --- lease, then retire


async def test_the_old_deployment_closes_only_after_its_last_lease(registry: Registry, deploy: Deploy) -> None:
    old, new = deploy(version=1), deploy(version=2)
    registry.replace(old.deployment)
    with registry.lease(TASK):
        with registry.lease(TASK) as leased:
            registry.replace(new.deployment)
            assert leased is old.deployment
            assert not await closed(old)
        assert not await closed(old)
        assert old.deployment.is_alive
        with registry.lease(TASK) as fresh:
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
    with pytest.raises(ZeroDivisionError), registry.lease(TASK):
        raise ZeroDivisionError
    registry.remove("tiny")
    assert await closed(old)


async def test_a_name_that_was_leased_before_can_be_leased_and_retired_again(registry: Registry, deploy: Deploy) -> None:
    old = deploy()
    registry.replace(old.deployment)
    with registry.lease(TASK):
        pass
    with registry.lease(TASK):
        registry.remove("tiny")
        assert not await closed(old)
    assert await closed(old)


async def test_a_deployment_whose_engine_died_can_be_replaced(registry: Registry, deploy: Deploy) -> None:
    dead = deploy()
    registry.replace(dead.deployment)
    dead.deployment.batcher._loop.cancel()
    await turn()
    assert not registry.is_ready
    registry.replace(deploy(version=2).deployment)
    assert registry.is_ready
    assert await closed(dead)


async def test_a_removed_name_is_unknown(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    registry.remove("tiny")
    with pytest.raises(UnknownModel), registry.lease(TASK, "tiny"):
        pass
    with pytest.raises(UnknownModel, match="'tiny' is not loaded"):
        registry.remove("tiny")


async def test_closing_waits_for_leases_and_for_what_was_retired_before(deploy: Deploy) -> None:
    registry = Registry(drain_s=3600)
    old, new = deploy(version=1), deploy(version=2)
    registry.replace(old.deployment)
    with registry.lease(TASK):
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
    with registry.lease(TASK):
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
    with registry.lease(TASK):
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
