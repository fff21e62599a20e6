"""A front end's registry follows the engine process's, and holds its deployments open as long as somebody uses them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from app.core.errors import EngineLost, Unavailable, UnknownModel
from app.core.types import Row
from app.ipc import registry as registry_module
from app.ipc.registry import RegistryFollower
from app.serving.rollout.lease import SHADOW, canary_role
from tests.support.gated_engine import Deploy, turn
from tests.support.ipc_pair import IpcPair, until

ROW = Row([1, 2, 3], [0, 0, 0])


def names(follower: RegistryFollower) -> list[str]:
    return [f"{deployment.manifest.name}/{deployment.manifest.version}" for deployment in follower.registry.deployments]


async def test_a_front_end_knows_of_each_model_what_the_engine_process_knows(pair: IpcPair, deploy: Deploy) -> None:
    there = deploy().deployment
    follower, _ = await pair.ready(there)
    [here] = follower.registry.deployments
    assert here.manifest == there.manifest
    assert here.provider == there.provider
    assert here.execution_providers == list(there.execution_providers)
    assert here.num_threads == there.num_threads
    assert (here.scheduler.budget, here.scheduler.limit) == (there.scheduler.budget, there.scheduler.limit)
    assert here.live_model() == there.live_model()


async def test_no_front_end_is_ready_before_all_are(pair: IpcPair, deploy: Deploy) -> None:
    pair.registry.replace(deploy().deployment)
    pair.registry.loading_finished()
    one = pair.open()
    await one.has_followed.wait()
    assert names(one) == ["tiny/1"]
    await until(lambda: len(one.registry.state.loads) == 1)
    assert not one.registry.is_ready
    other = pair.open()
    await until(lambda: one.registry.is_ready and other.registry.is_ready)


async def test_while_models_load_a_front_end_says_so(pair: IpcPair, deploy: Deploy) -> None:
    one = pair.open()
    await one.has_followed.wait()
    assert one.registry.not_ready_reason == "models are still loading"
    with pytest.raises(Unavailable, match="models are still loading"), one.registry.lease("text-classification"):
        pass


async def test_a_successor_of_a_dead_front_end_is_ready_at_once(pair: IpcPair, deploy: Deploy) -> None:
    one, other = await pair.ready(deploy().deployment)
    pair.kill(one)
    successor = pair.open()
    await until(lambda: successor.registry.is_ready)
    assert other.registry.is_ready


# --- loading and unloading


async def test_a_version_that_is_loaded_through_one_front_end_answers_on_all(pair: IpcPair, deploy: Deploy) -> None:
    one, other = await pair.ready(deploy().deployment)
    pair.loadable["tiny"] = lambda: deploy(version=2).deployment
    assert (await one.load("tiny", 2)).manifest.version == 2
    assert names(one) == names(other) == ["tiny/2"]


async def test_what_cannot_be_loaded_is_said_to_whoever_asked(pair: IpcPair, deploy: Deploy) -> None:
    one, _ = await pair.ready(deploy().deployment)
    with pytest.raises(UnknownModel, match="there is no model other"):
        await one.load("other", None)
    assert names(one) == ["tiny/1"]


async def test_a_name_that_is_unloaded_through_one_front_end_is_unknown_to_all(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, other = await pair.ready(gated.deployment, deploy("wide").deployment)
    await one.unload("tiny")
    assert names(one) == names(other) == ["wide/1"]
    await until(lambda: gated.engine.is_closed)
    with pytest.raises(UnknownModel, match="model 'tiny' is not loaded"):
        await other.unload("tiny")


async def test_an_old_version_closes_only_when_no_front_end_uses_it(pair: IpcPair, deploy: Deploy) -> None:
    old, new = deploy(), deploy(version=2)
    one, other = await pair.ready(old.deployment)
    pair.loadable["tiny"] = lambda: new.deployment
    with one.registry.lease(None, "tiny") as leased:
        await other.load("tiny", 2)
        asked = asyncio.create_task(leased.scheduler.submit([ROW]))
        (await old.engine.batch()).finish()
        await asked
        assert not old.engine.is_closed
    await until(lambda: old.engine.is_closed)
    assert not new.engine.is_closed


async def test_a_dead_front_end_holds_nothing_open(pair: IpcPair, deploy: Deploy) -> None:
    old, new = deploy(), deploy(version=2)
    one, other = await pair.ready(old.deployment)
    pair.loadable["tiny"] = lambda: new.deployment
    with one.registry.lease(None, "tiny"):
        pair.kill(one)
        await other.load("tiny", 2)
        await until(lambda: old.engine.is_closed)


# --- two versions of a name


def roles(follower: RegistryFollower) -> list[tuple[str, str, float]]:
    return [
        (f"{version.deployment.manifest.name}/{version.deployment.manifest.version}", version.role.name, version.role.share)
        for version in follower.registry.live
    ]


async def test_a_candidate_has_the_same_role_on_every_front_end(pair: IpcPair, deploy: Deploy) -> None:
    one, other = await pair.ready(deploy().deployment)
    second = deploy(version=2)
    pair.loadable["tiny"] = lambda: second.deployment
    assert (await one.load("tiny", 2, canary_role(0.25))).manifest.version == 2
    assert roles(one) == roles(other) == [("tiny/1", "main", 0.75), ("tiny/2", "share", 0.25)]
    pair.registry.give_role("tiny", 2, SHADOW)
    await until(lambda: roles(one) == roles(other) == [("tiny/1", "main", 1.0), ("tiny/2", "shadow", 0.0)])
    with one.registry.lease(None, "tiny/2") as deployment:
        asked = asyncio.create_task(deployment.scheduler.submit([ROW]))
        (await second.engine.batch()).finish()
        await asked


async def test_a_candidate_is_promoted_on_every_front_end_and_stays_open(pair: IpcPair, deploy: Deploy) -> None:
    first, second = deploy(), deploy(version=2)
    one, other = await pair.ready(first.deployment)
    pair.loadable["tiny"] = lambda: second.deployment
    await one.load("tiny", 2, SHADOW)
    there = [follower.registry.live[1].deployment for follower in (one, other)]
    assert (await other.promote("tiny")) is there[1]
    assert roles(one) == roles(other) == [("tiny/2", "main", 1.0)]
    assert one.registry.deployments == [there[0]]
    await until(lambda: first.engine.is_closed)
    asked = asyncio.create_task(there[0].scheduler.submit([ROW]))
    (await second.engine.batch()).finish()
    await asked
    with pytest.raises(UnknownModel, match="no other version runs beside model 'tiny'"):
        await one.promote("tiny")


async def test_a_candidate_alone_is_unloaded_from_every_front_end(pair: IpcPair, deploy: Deploy) -> None:
    second = deploy(version=2)
    one, other = await pair.ready(deploy().deployment)
    pair.loadable["tiny"] = lambda: second.deployment
    await one.load("tiny", 2, canary_role(1.0))
    await one.unload("tiny", 2)
    assert roles(one) == roles(other) == [("tiny/1", "main", 1.0)]
    await until(lambda: second.engine.is_closed)


# --- engines that are lost


async def test_a_lost_engine_is_known_to_every_front_end(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, other = await pair.ready(gated.deployment)
    asked = asyncio.create_task(one.registry.deployments[0].scheduler.submit([ROW]))
    (await gated.engine.batch()).fail(EngineLost("its thread is stuck"))
    with pytest.raises(Unavailable, match="its thread is stuck"):
        await asked
    await until(lambda: not one.registry.is_ready and not other.registry.is_ready)
    assert not other.registry.deployments[0].is_alive


async def test_an_engine_process_beyond_help_is_known_to_every_front_end(pair: IpcPair, deploy: Deploy) -> None:
    one, other = await pair.ready(deploy().deployment)
    pair.registry.fatal_error = "too many engines were lost"
    pair.side._schedule_update()
    await until(lambda: one.registry.fatal_error == other.registry.fatal_error == "too many engines were lost")


async def test_a_ping_waits_for_the_engine_process_but_not_for_one_that_is_gone(pair: IpcPair, deploy: Deploy) -> None:
    one, _ = await pair.ready(deploy().deployment)
    await one.ping()
    on_message, pair.side._on_message = pair.side._on_message, lambda channel, frame: None  # type: ignore[method-assign]
    for channel in pair.side._sessions:
        channel._on_frame = pair.side._on_message  # as a process whose event loop stands still
    waiting = asyncio.create_task(one.ping())
    await turn()
    assert not waiting.done()
    pair.side._on_message = on_message  # type: ignore[method-assign]
    await pair.side.aclose()
    await waiting
    await until(lambda: not one.registry.is_connected)
    await one.ping()


async def test_after_the_engine_process_died_its_successors_models_take_over(pair: IpcPair, deploy: Deploy) -> None:
    one, other = await pair.ready(deploy().deployment, deploy("gone").deployment)
    await pair.restart_engine()
    await until(lambda: one.registry.is_connected and other.registry.is_connected)
    assert names(one) == ["gone/1", "tiny/1"]  # which answer 503 for as long as the successor loads
    assert not one.registry.is_ready
    assert one.registry.not_ready_reason == "models are still loading"
    assert one.registry.default_of("text-classification") == "tiny"  # which is not there yet: 503, and not 404
    fresh = deploy()
    pair.registry.replace(fresh.deployment)
    pair.registry.loading_finished()
    await until(lambda: one.registry.is_ready and other.registry.is_ready)
    assert names(one) == names(other) == ["tiny/1"]
    asked = asyncio.create_task(one.registry.deployments[0].scheduler.submit([ROW]))
    (await fresh.engine.batch()).finish()
    await asked


async def test_what_was_being_built_when_the_engine_process_died_is_not_taken_for_its_successors(
    pair: IpcPair, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_go_on = threading.Event(), threading.Event()
    build = registry_module._build

    def slowly(*arguments: Any) -> Any:
        began.set()
        may_go_on.wait()
        return build(*arguments)

    monkeypatch.setattr(registry_module, "_build", slowly)
    pair.registry.replace(deploy("old").deployment)
    one = pair.open()
    await until(began.is_set)
    await pair.restart_engine()
    pair.registry.replace(deploy("new").deployment)  # which has the number that the old one had
    await until(lambda: one.registry.is_connected)
    may_go_on.set()
    await until(lambda: names(one) == ["new/1"])


async def test_a_front_end_that_cannot_follow_gives_up(pair: IpcPair, deploy: Deploy) -> None:
    gave_up: list[bool] = []
    broken = deploy()
    broken.deployment.tokenizers = ["no tokenizer"]
    pair.registry.replace(broken.deployment)
    pair.open(lambda: gave_up.append(True))
    await until(lambda: gave_up == [True])


async def test_taking_leave_waits_for_what_was_asked(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, _ = await pair.ready(gated.deployment)
    with one.registry.lease(None, "tiny") as deployment:
        asked = asyncio.create_task(deployment.scheduler.submit([ROW]))
        batch = await gated.engine.batch()
        leaving = asyncio.create_task(one.aclose())
        await until(lambda: not one.registry.is_ready)
        batch.finish()
        assert len((await asked).outputs) == 1
    await leaving
