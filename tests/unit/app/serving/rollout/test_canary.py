"""A version beside the main one: which requests it gets, and that neither is closed under a request."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from app.core.errors import InvalidInput, Unavailable, UnknownModel
from app.serving.registry import Registry
from app.serving.rollout.lease import SHADOW, Role, canary_role
from tests.support.gated_engine import Deploy, Gated, turn

TASK = "text-classification"
Pair = tuple[Gated, Gated]


class Drawn:
    """Gives the numbers that a test lays out, and a complaint where it is asked for none."""

    def __init__(self) -> None:
        self.coming: Iterable[float] = iter(())

    def __call__(self) -> float:
        return next(iter(self.coming))


@pytest.fixture
def drawn() -> Drawn:
    return Drawn()


@pytest.fixture
async def registry(drawn: Drawn) -> AsyncIterator[Registry]:
    made = Registry(3600, drawn)
    made.loading_finished()
    yield made
    await made.aclose()


@pytest.fixture
def pair(registry: Registry, deploy: Deploy) -> Callable[[Role], Pair]:
    """`tiny/1`, and `tiny/2` beside it."""

    def make(role: Role) -> Pair:
        main, candidate = deploy(version=1), deploy(version=2)
        registry.replace(main.deployment)
        registry.run_beside(candidate.deployment, role)
        return main, candidate

    return make


def assigned(registry: Registry, name: str | None = None) -> int:
    with registry.assign((TASK,), name) as deployment:
        return deployment.manifest.version


def live(registry: Registry) -> list[tuple[int, str, float]]:
    return [(version.deployment.manifest.version, version.role.name, version.role.share) for version in registry.live]


async def closed(gated: Gated) -> bool:
    await turn()
    return gated.engine.is_closed


# --- which requests it gets


async def test_a_request_falls_to_the_candidate_where_the_number_drawn_is_below_its_share(
    registry: Registry, drawn: Drawn, pair: Callable[[Role], Pair]
) -> None:
    pair(canary_role(0.25))
    drawn.coming = iter((0.0, 0.2499, 0.25, 0.9999))
    assert [assigned(registry, "tiny") for _ in range(4)] == [2, 2, 1, 1]
    assert next(iter(drawn.coming), None) is None


async def test_of_many_requests_the_candidate_gets_its_share(
    registry: Registry, drawn: Drawn, pair: Callable[[Role], Pair]
) -> None:
    pair(canary_role(0.25))
    generator = random.Random(1)
    drawn.coming = iter(generator.random, None)
    assert Counter(assigned(registry) for _ in range(1000)) == {1: 773, 2: 227}


async def test_a_share_of_one_is_every_request(registry: Registry, drawn: Drawn, pair: Callable[[Role], Pair]) -> None:
    pair(canary_role(1.0))
    drawn.coming = iter((0.0, 0.999999))
    assert {assigned(registry), assigned(registry, "tiny")} == {2}


@pytest.mark.parametrize(("name", "version"), [("tiny/1", 1), ("tiny/2", 2)])
@pytest.mark.parametrize("role", [canary_role(1.0), canary_role(0.001), SHADOW])
async def test_a_request_that_names_a_version_gets_it_and_nothing_is_drawn(
    registry: Registry, pair: Callable[[Role], Pair], name: str, version: int, role: Role
) -> None:
    pair(role)
    assert assigned(registry, name) == version
    with registry.lease((), name) as deployment:
        assert deployment.manifest.version == version


async def test_what_is_no_request_for_an_answer_sees_the_main_version(registry: Registry, pair: Callable[[Role], Pair]) -> None:
    pair(canary_role(1.0))
    for name in (None, "tiny"):
        with registry.lease((TASK,), name) as deployment:
            assert deployment.manifest.version == 1
    assert [deployment.manifest.version for deployment in registry.deployments] == [1]


async def test_a_shadow_answers_nobody_and_is_known_to_its_main_version_alone(
    registry: Registry, deploy: Deploy, pair: Callable[[Role], Pair]
) -> None:
    main, candidate = pair(SHADOW)
    other = deploy("other").deployment
    registry.replace(other)
    assert assigned(registry, "tiny") == 1
    shadow = registry.shadow_of(main.deployment)
    assert shadow is not None
    assert shadow.deployment is candidate.deployment
    assert registry.shadow_of(other) is None
    assert registry.shadow_of(candidate.deployment) is None


async def test_a_candidate_with_a_share_is_no_shadow(registry: Registry, pair: Callable[[Role], Pair]) -> None:
    main, _ = pair(canary_role(0.5))
    assert registry.shadow_of(main.deployment) is None


@pytest.mark.parametrize("role", [canary_role(0.75), SHADOW])
async def test_roles_and_shares_are_told_the_main_version_first(
    registry: Registry, deploy: Deploy, pair: Callable[[Role], Pair], role: Role
) -> None:
    pair(role)
    registry.replace(deploy("a").deployment)
    assert live(registry) == [(1, "main", 1.0), (1, "main", 1.0 - role.share), (2, role.name, role.share)]


async def test_a_candidate_can_be_given_another_role_without_loading_it_again(
    registry: Registry, pair: Callable[[Role], Pair]
) -> None:
    _, candidate = pair(SHADOW)
    assert registry.give_role("tiny", 2, canary_role(0.5)) is candidate.deployment
    assert live(registry)[1] == (2, "share", 0.5)
    assert registry.give_role("tiny", 3, SHADOW) is None
    assert registry.give_role("other", 2, SHADOW) is None


# --- what may run beside what


async def test_nothing_runs_beside_a_model_that_is_not_loaded(registry: Registry, deploy: Deploy) -> None:
    with pytest.raises(UnknownModel, match="nothing that another version could run beside"):
        registry.run_beside(deploy().deployment, SHADOW)


async def test_a_version_does_not_run_beside_itself(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    with pytest.raises(InvalidInput, match="tiny/1 is the main version itself"):
        registry.run_beside(deploy().deployment, SHADOW)


async def test_a_version_for_another_task_does_not_run_beside(registry: Registry, deploy: Deploy) -> None:
    registry.replace(deploy().deployment)
    other = deploy(version=2).deployment
    other.manifest = other.manifest.model_copy(update={"task": "summarization"})
    with pytest.raises(InvalidInput, match=r"tiny/2 is for summarization, tiny/1 for text-classification"):
        registry.run_beside(other, SHADOW)
    assert len(registry.live) == 1


# --- coming and going


async def test_a_second_candidate_takes_the_place_of_the_first_after_its_leases(
    registry: Registry, deploy: Deploy, pair: Callable[[Role], Pair]
) -> None:
    main, second = pair(SHADOW)
    with registry.lease((TASK,), "tiny/2"):
        registry.run_beside(deploy(version=3).deployment, canary_role(0.5))
        assert not await closed(second)
    assert await closed(second)
    assert not await closed(main)
    assert live(registry) == [(1, "main", 0.5), (3, "share", 0.5)]


async def test_promotion_makes_the_candidate_the_main_version_and_the_old_one_finishes(
    registry: Registry, pair: Callable[[Role], Pair]
) -> None:
    main, candidate = pair(canary_role(0.5))
    with registry.lease((TASK,), "tiny/1"):
        assert registry.promote("tiny") is candidate.deployment
        assert not await closed(main)
        assert assigned(registry, "tiny") == 2
    assert await closed(main)
    assert live(registry) == [(2, "main", 1.0)]
    assert registry.stands(candidate.deployment)
    with pytest.raises(UnknownModel, match="no other version runs beside model 'tiny'"):
        registry.promote("tiny")


async def test_a_dead_candidate_is_not_promoted(registry: Registry, pair: Callable[[Role], Pair]) -> None:
    main, candidate = pair(SHADOW)
    await candidate.deployment.scheduler.aclose()
    with pytest.raises(Unavailable, match="engine of tiny/2 is down"):
        registry.promote("tiny")
    assert registry.stands(main.deployment)


async def test_a_stopped_candidate_closes_after_its_leases_and_the_main_version_stays(
    registry: Registry, pair: Callable[[Role], Pair]
) -> None:
    main, candidate = pair(canary_role(1.0))
    with registry.lease((TASK,), "tiny/2"):
        registry.remove("tiny", 2)
        assert not await closed(candidate)
    assert await closed(candidate)
    assert not await closed(main)
    assert assigned(registry) == 1


@pytest.mark.parametrize("version", [1, 3])
async def test_only_a_candidate_is_stopped_by_its_version(
    registry: Registry, pair: Callable[[Role], Pair], version: int
) -> None:
    pair(SHADOW)
    with pytest.raises(UnknownModel, match=f"tiny/{version} does not run beside"):
        registry.remove("tiny", version)
    assert len(registry.live) == 2


async def test_unloading_the_name_takes_the_candidate_with_it(registry: Registry, pair: Callable[[Role], Pair]) -> None:
    main, candidate = pair(SHADOW)
    registry.remove("tiny")
    assert await closed(main)
    assert await closed(candidate)
    assert registry.live == []


async def test_another_main_version_leaves_the_candidate_where_it_is(
    registry: Registry, deploy: Deploy, pair: Callable[[Role], Pair]
) -> None:
    main, candidate = pair(SHADOW)
    registry.replace(deploy(version=3).deployment)
    assert await closed(main)
    assert not await closed(candidate)
    assert live(registry) == [(3, "main", 1.0), (2, "shadow", 0.0)]


async def test_the_candidate_s_own_version_as_the_main_one_leaves_no_candidate(
    registry: Registry, deploy: Deploy, pair: Callable[[Role], Pair]
) -> None:
    _, candidate = pair(SHADOW)
    registry.replace(deploy(version=2).deployment)
    assert await closed(candidate)
    assert live(registry) == [(2, "main", 1.0)]


async def test_a_candidate_whose_engine_is_down_gets_no_request_and_readiness_is_not_its_matter(
    registry: Registry, pair: Callable[[Role], Pair]
) -> None:
    main, candidate = pair(canary_role(1.0))
    await candidate.deployment.scheduler.aclose()
    assert assigned(registry) == 1
    assert registry.is_ready
    assert registry.give_role("tiny", 2, SHADOW) is None
    assert registry.shadow_of(main.deployment) is None
    await main.deployment.scheduler.aclose()
    assert not registry.is_ready


async def test_a_shadow_whose_engine_is_down_gets_no_copies(registry: Registry, pair: Callable[[Role], Pair]) -> None:
    main, candidate = pair(SHADOW)
    await candidate.deployment.scheduler.aclose()
    assert registry.shadow_of(main.deployment) is None


async def test_only_a_candidate_can_be_dropped(registry: Registry, pair: Callable[[Role], Pair]) -> None:
    main, candidate = pair(SHADOW)
    assert not registry.drop(main.deployment)
    assert registry.drop(candidate.deployment)
    assert not registry.drop(candidate.deployment)
    assert await closed(candidate)


async def test_a_draining_service_sends_no_copies(registry: Registry, pair: Callable[[Role], Pair]) -> None:
    main, _ = pair(SHADOW)
    registry.drain()
    assert registry.shadow_of(main.deployment) is None
