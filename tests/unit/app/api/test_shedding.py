"""Where no model of a task has room, its requests are turned away before anybody reads them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from app.api.shedding import LoadShedder
from app.batching.admission import QueueLimit
from app.serving.rollout.lease import SHADOW, Role, canary_role
from app.tasks.registry import installed_tasks
from tests.support.gated_engine import Deploy, turn
from tests.support.requests import Caller, Service, check_problem
from tests.support.tiny_model import publish_tiny_task
from tests.unit.app.conftest import Start

FULL = QueueLimit(0, 0)


def shedder(app: FastAPI, root_path: str = "") -> LoadShedder:
    return LoadShedder(app, [route.path for route in installed_tasks().routes], root_path)


@pytest.fixture
def service(own_service: Service) -> Service:
    """One whose queue may be filled."""
    return own_service


def fill(service: Service, *names: str) -> None:
    """Nothing fits into these models' queues any more."""
    for deployment in service.live.registry.deployments:
        if deployment.manifest.name in names:
            deployment.scheduler.limit = FULL


async def refused_unread(service: Service, **headers: str) -> Any:
    """The head of the answer to a request whose body never comes; None where the body is waited for."""
    caller = Caller(service.app, **headers)
    await turn()
    await turn()
    head = next((entry for entry in caller.sent if entry["type"] == "http.response.start"), None)
    caller.leave()
    await caller.task
    return head


async def test_a_body_is_not_waited_for_where_it_would_be_turned_away(service: Service) -> None:
    assert await refused_unread(service) is None
    fill(service, "tiny")
    head = await refused_unread(service)
    assert head["status"] == 429
    headers = dict(head["headers"])
    assert int(headers[b"retry-after"]) >= 1
    assert b"connection" not in headers


@pytest.mark.parametrize("length", ["65537", "9" * 5000, "", "x"])
async def test_a_body_that_would_take_long_to_drain_ends_the_connection(service: Service, length: str) -> None:
    fill(service, "tiny")
    head = await refused_unread(service, **{"content-length": length})
    assert head["status"] == 429
    assert dict(head["headers"])[b"connection"] == b"close"


async def test_it_is_told_and_counted_as_every_refusal_is(service: Service) -> None:
    fill(service, "tiny")
    response = await service.classify("good", {"X-Request-Id": "mine"})
    assert "are waiting" in check_problem(response, 429, "overloaded")
    assert response.headers["x-request-id"] == "mine"
    labels = {"task": "text-classification", "model": "tiny", "status": "429"}
    assert service.sample("hooper_requests_total", **labels) == 1


async def test_other_tasks_are_answered(published_tasks: Path, start: Start) -> None:
    async with start(models=published_tasks) as service:
        fill(service, "text-classification")
        assert (await service.classify("good")).status_code == 429
        assert (await service.ask("answer", {"question": "good", "context": "the film was good"})).status_code == 200


async def test_as_long_as_one_model_of_the_task_has_room_the_body_says_which_is_asked(start: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish_tiny_task(tmp_path, "text-classification", name)
    async with start(models=tmp_path) as service:
        fill(service, "a")
        assert (await service.classify("good", model="a")).status_code == 429
        assert (await service.classify("good", model="b")).status_code == 200
        fill(service, "a", "b")
        assert (await refused_unread(service))["status"] == 429
        labels = {"task": "text-classification", "model": "", "status": "429"}
        assert service.sample("hooper_requests_total", **labels) == 1


async def test_bulk_work_is_turned_away_earlier(service: Service) -> None:
    (deployment,) = service.live.registry.deployments
    deployment.scheduler.limit = Halved(4, 1000)
    assert (await service.classify("good")).status_code == 200
    assert (await refused_unread(service, **{"x-priority": "bulk"}))["status"] == 429


class Halved(QueueLimit):
    """A queue of which the half that bulk may use is full."""

    __slots__ = ()

    def of(self, priority: Any) -> QueueLimit:
        return FULL if priority == "bulk" else self


async def test_who_has_no_key_is_told_that_first(start: Any) -> None:
    async with start(api_key_hashes=("0" * 64,)) as service:
        fill(service, "tiny")
        check_problem(await service.classify("good"), 401, "unauthorized")


async def test_a_body_is_not_waited_for_where_keys_are_asked_for_either(start: Any) -> None:
    async with start(api_key_hashes=(hashlib.sha256(b"key").hexdigest(),)) as service:
        fill(service, "tiny")
        assert (await refused_unread(service, authorization="Bearer key"))["status"] == 429
        assert (await refused_unread(service, authorization="Bearer other"))["status"] == 401


async def test_an_engine_that_is_down_is_told_in_place_of_its_full_queue(service: Service) -> None:
    fill(service, "tiny")
    (deployment,) = service.live.registry.deployments
    await deployment.scheduler.aclose()
    check_problem(await service.send(json.dumps({"inputs": "good"}).encode()), 503, "unavailable")


@pytest.mark.parametrize(("role", "is_waited_for"), [(SHADOW, False), (canary_role(0.5), True)])
async def test_a_candidate_s_room_counts_where_it_answers(
    service: Service, deploy: Deploy, role: Role, is_waited_for: bool
) -> None:
    service.live.registry.run_beside(deploy(version=2).deployment, role)
    fill(service, "tiny")
    head = await refused_unread(service)
    assert (head is None) is is_waited_for


# --- at the door

PLAIN = [(b"content-type", b"application/json"), (b"content-length", b"20")]


def split(answer: bytes) -> tuple[str, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), json.loads(body)


async def test_the_door__says_what_is_said_further_in(service: Service) -> None:
    shed = shedder(service.app)
    assert shed(b"/v1/classify", PLAIN) is None
    fill(service, "tiny")
    answer = shed(b"/v1/classify", [*PLAIN, (b"x-request-id", b"mine")])
    assert answer is not None
    first, headers, problem = split(answer)
    response = await service.classify("good", {"X-Request-Id": "mine"})
    assert first == "HTTP/1.1 429 Too Many Requests"
    assert problem == response.json()
    assert headers == dict(response.headers)
    assert service.sample("hooper_requests_total", task="text-classification", model="tiny", status="429") == 2


async def test_each_who_is_turned_away_at_the_door_gets_an_id(service: Service) -> None:
    fill(service, "tiny")
    answers = [shedder(service.app)(b"/v1/classify", [*PLAIN, (b"x-request-id", b"not an id")]) for _ in range(2)]
    ids = {split(answer)[1]["x-request-id"] for answer in answers if answer is not None}
    assert len(ids) == 2
    assert all(len(entry) == 32 for entry in ids)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (b"/v1/explain", PLAIN),
        (b"/v1/classify?a=b", PLAIN),
        (b"/v1/answer", PLAIN),  # nobody answers questions here, which has an error of its own
        (b"/v1/classify", [(b"content-type", b"application/json")]),
        (b"/v1/classify", [(b"content-length", b"65537")]),
        (b"/v1/classify", [(b"transfer-encoding", b"chunked")]),
        (b"/v1/classify", [*PLAIN, (b"origin", b"https://app.example")]),  # a browser wants to know who may read the answer
    ],
)
async def test_the_door__leaves_to_others_what_is_not_plain(
    service: Service, target: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    fill(service, "tiny")
    assert shedder(service.app)(target, headers) is None


async def test_the_door__asks_for_no_keys_and_leaves_that_to_others(start: Start) -> None:
    async with start(api_key_hashes="a" * 64) as service:
        fill(service, "tiny")
        assert shedder(service.app)(b"/v1/classify", PLAIN) is None


async def test_the_door__knows_the_prefix_of_a_proxy_which_may_cut_it_off(start: Start) -> None:
    async with start(root_path="/hooper/") as service:
        fill(service, "tiny")
        shed = shedder(service.app, "/hooper/")
        assert shed(b"/hooper/v1/classify", PLAIN) is not None
        assert shed(b"/v1/classify", PLAIN) is not None


async def test_the_door__reads_the_priority(service: Service) -> None:
    service.live.registry.deployments[0].scheduler.limit = QueueLimit(0, 1000)
    shed = shedder(service.app)
    assert shed(b"/v1/classify", [*PLAIN, (b"x-priority", b"bulk")]) is None  # one row of bulk always may
    assert shed(b"/v1/classify", PLAIN) is not None
    twice = [(b"x-priority", b"interactive"), (b"x-priority", b"bulk")]
    assert shed(b"/v1/classify", [*PLAIN, *twice]) is not None  # the first counts, as it does further in


async def test_before_the_application_lives_everybody_is_let_in() -> None:
    assert shedder(FastAPI())(b"/v1/classify", PLAIN) is None
