"""A deployment is closed when the last request that holds it has ended."""

from __future__ import annotations

import asyncio

import pytest

from app.serving.rollout.lease import MAIN, SHADOW, LeasedDeployment, canary_role
from tests.support.gated_engine import Deploy, turn


def test_roles_say_which_share_of_requests_they_answer() -> None:
    assert (MAIN.share, SHADOW.share, canary_role(0.25).share) == (1.0, 0.0, 0.25)
    assert (MAIN.name, SHADOW.name, canary_role(0.25).name) == ("main", "shadow", "share")


async def test_retiring_waits_for_every_lease(deploy: Deploy) -> None:
    leased = LeasedDeployment(deploy(version=3).deployment)
    assert (leased.version, leased.role) == (3, MAIN)
    with leased.lease() as first:
        with leased.lease() as second:
            assert first is second is leased.deployment
            retiring = asyncio.create_task(leased.retire(3600))
            await turn()
        await turn()
        assert leased.deployment.scheduler.is_alive
        assert not retiring.done()
    await retiring
    assert not leased.deployment.scheduler.is_alive


async def test_without_a_lease_it_is_closed_at_once(deploy: Deploy) -> None:
    leased = LeasedDeployment(deploy().deployment)
    with pytest.raises(KeyError), leased.lease():
        raise KeyError  # a lease ends with an error, too
    await leased.retire(3600)
    assert not leased.deployment.scheduler.is_alive


async def test_whoever_holds_it_beyond_the_drain_time_does_not_hold_it_up(deploy: Deploy) -> None:
    leased = LeasedDeployment(deploy().deployment)
    with leased.lease():
        await leased.retire(0)
        assert not leased.deployment.scheduler.is_alive
