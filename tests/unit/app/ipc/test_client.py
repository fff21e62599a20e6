"""A scheduler behind the client: what is asked there is batched, refused, dropped and answered as by the scheduler itself."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from app.batching.admission import QueueLimit
from app.batching.results import SubmissionResult
from app.core.errors import DeadlineExceeded, EngineFailed, Overloaded, TooLarge, Unavailable
from app.core.types import Priority, Row
from app.ipc.registry import RegistryFollower
from app.serving.interfaces import RowQueue
from tests.support.gated_engine import Deploy, Gated
from tests.support.ipc_pair import IpcPair, until

Submit = asyncio.Task[SubmissionResult]


def row(first: int, num_tokens: int = 10) -> Row:
    return Row([first] + [0] * (num_tokens - 1), [0] * num_tokens)


def scheduler_of(follower: RegistryFollower, name: str = "tiny") -> RowQueue:
    return next(deployment.scheduler for deployment in follower.registry.deployments if deployment.manifest.name == name)


def submit(follower: RegistryFollower, *rows: Row, deadline: float | None = None, priority: Priority = "interactive") -> Submit:
    return asyncio.create_task(scheduler_of(follower).submit(rows, deadline, priority))


async def busy(follower: RegistryFollower, gated: Gated) -> Submit:
    """A caller whose row is in the engine, so that everybody else waits."""
    first = submit(follower, row(99))
    await until(lambda: gated.engine.has_batch)
    return first


async def waiting(gated: Gated, num_rows: int) -> None:
    await until(lambda: gated.deployment.scheduler.num_waiting_rows == num_rows)


def firsts(answered: SubmissionResult) -> list[int]:
    return [int(output["logits"][0]) for output in answered.outputs if isinstance(output, dict)]


async def test_rows_of_several_front_ends_share_a_batch_and_each_gets_its_own_answer(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, other = await pair.ready(gated.deployment)
    first = await busy(one, gated)
    second, third = submit(one, row(1), row(2)), submit(other, row(3))
    await waiting(gated, 3)
    (await gated.engine.batch()).finish()
    batch = await gated.engine.batch()
    assert sorted(batch.firsts) == [1, 2, 3]
    batch.finish()
    assert [firsts(await task) for task in (first, second, third)] == [[99], [1, 2], [3]]
    assert (await second).batch_rows == 3
    assert (await second).inference_s == 0.5


async def test_interactive_rows_of_one_front_end_overtake_bulk_rows_of_another(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, other = await pair.ready(gated.deployment)
    first = await busy(one, gated)
    bulk = [submit(one, row(number), priority="bulk") for number in range(8)]
    await waiting(gated, 8)
    urgent = submit(other, row(50))
    await waiting(gated, 9)
    (await gated.engine.batch()).finish()
    batch = await gated.engine.batch()
    assert batch.firsts[0] == 50
    batch.finish()
    (await gated.engine.batch()).finish()
    await asyncio.gather(first, urgent, *bulk)


async def test_an_error_of_the_engine_is_the_rows_own(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, _ = await pair.ready(gated.deployment)
    task = submit(one, row(1))
    (await gated.engine.batch()).fail(EngineFailed("the engine raised"))
    output = (await task).outputs[0]
    assert isinstance(output, EngineFailed)
    assert output.detail == "the engine raised"


async def test_an_answer_of_many_megabytes_arrives_whole(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, _ = await pair.ready(gated.deployment)
    task = submit(one, row(1))
    large = np.random.default_rng(7).random((3_000_000, 2), np.float32)
    (await gated.engine.batch()).finish([{"logits": large}])
    output = (await task).outputs[0]
    assert isinstance(output, dict)
    np.testing.assert_array_equal(output["logits"], large)


# --- the queue


async def test_all_front_ends_share_one_queue_limit(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy(limit=QueueLimit(4, 1000))
    one, other = await pair.ready(gated.deployment)
    first = await busy(one, gated)
    held = [submit(one, row(1), row(2)), submit(other, row(3))]
    await waiting(gated, 3)
    with pytest.raises(Overloaded, match="3 rows of 30 tokens are waiting, which is all the queue takes") as refused:
        await submit(other, row(4), row(5))
    assert refused.value.retry_after_s == 1.0
    (await gated.engine.batch()).finish()
    (await gated.engine.batch()).finish()
    await asyncio.gather(first, *held)


async def test_a_full_queue_is_known_to_every_front_end_before_it_tokenizes(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy(limit=QueueLimit(2, 1000))
    one, other = await pair.ready(gated.deployment)
    first = await busy(one, gated)
    held = submit(one, row(1), row(2))
    await until(lambda: scheduler_of(other).num_waiting_rows == 2)
    with pytest.raises(Overloaded, match="2 rows of 20 tokens are waiting"):
        scheduler_of(other).check_open()
    (await gated.engine.batch()).finish()
    (await gated.engine.batch()).finish()
    await asyncio.gather(first, held)
    await until(lambda: scheduler_of(other).num_waiting_rows == 0)
    scheduler_of(other).check_open()


async def test_rows_that_can_never_run_are_refused(pair: IpcPair, deploy: Deploy) -> None:
    one, _ = await pair.ready(deploy().deployment)
    with pytest.raises(TooLarge, match="a row of 65 tokens exceeds the batch budget of 64"):
        await submit(one, row(1, 65))


# --- those who do not wait to the end


async def test_rows_whose_caller_leaves_are_dropped_from_the_queue(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, _ = await pair.ready(gated.deployment)
    first = await busy(one, gated)
    left = submit(one, row(1))
    await waiting(gated, 1)
    left.cancel()
    await waiting(gated, 0)
    (await gated.engine.batch()).finish()
    await first
    assert not gated.engine.has_batch


async def test_a_deadline_is_kept_by_the_queue(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, _ = await pair.ready(gated.deployment)
    first = await busy(one, gated)
    with pytest.raises(DeadlineExceeded):
        await submit(one, row(1), deadline=time.monotonic() + 0.01)
    assert gated.deployment.scheduler.num_waiting_rows == 0
    (await gated.engine.batch()).finish()
    await first


async def test_a_deadline_is_kept_though_the_engine_process_says_nothing(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, _ = await pair.ready(gated.deployment)
    [session] = [session for session in pair.side._sessions.values() if session.name == "front end 1"]
    session.ask = lambda number, answering: None  # type: ignore[method-assign]  # as a process that was stopped
    with pytest.raises(DeadlineExceeded, match="the deadline passed before the engine answered"):
        await submit(one, row(1), deadline=time.monotonic() + 0.01)


# --- those who die


async def test_a_front_end_that_dies_takes_its_rows_with_it_and_nobody_elses(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, other = await pair.ready(gated.deployment)
    first = await busy(other, gated)
    lost, kept = submit(one, row(1), row(2)), submit(other, row(3))
    await waiting(gated, 3)
    pair.kill(one)
    await waiting(gated, 1)
    (await gated.engine.batch()).finish()
    batch = await gated.engine.batch()
    assert batch.firsts == [3]
    batch.finish()
    assert firsts(await kept) == [3]
    assert firsts(await first) == [99]
    with pytest.raises(Unavailable):
        await lost


async def test_an_engine_process_that_dies_answers_everybody_once_and_at_once(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, other = await pair.ready(gated.deployment)
    asked = [await busy(one, gated), submit(one, row(1)), submit(other, row(2), deadline=time.monotonic() + 60)]
    await waiting(gated, 2)
    await pair.side.aclose()
    for task in asked:
        with pytest.raises(Unavailable, match="the engine is down"):
            await task
    await until(lambda: not one.registry.is_connected and not other.registry.is_connected)
    with pytest.raises(Unavailable, match="the engine is down"):
        scheduler_of(one).check_open()
    assert not one.registry.is_ready
    assert not scheduler_of(one).is_alive
    assert await scheduler_of(one).wait_closed()


async def test_a_frame_that_is_none_ends_its_connection_and_no_other(pair: IpcPair, deploy: Deploy) -> None:
    gated = deploy()
    one, other = await pair.ready(gated.deployment)
    channel = one._client.channel
    assert channel is not None
    assert channel._transport is not None
    channel._transport.write(b"\1\0\0\0\0\0\0\0x")
    await until(lambda: not one.registry.is_connected)
    task = submit(other, row(1))
    (await gated.engine.batch()).finish()
    assert firsts(await task) == [1]
    await until(lambda: one.registry.is_ready)  # it has connected again
