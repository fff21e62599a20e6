"""The service behind Ray Serve, on a real cluster of two nodes: nothing changes for a caller but how much there is of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.live_service import ROOT, LiveService, free_port, serving
from tests.support.ray_cluster import end_as_a_power_cut_does, parent_of
from tests.support.ray_cluster import two_nodes as cluster_of_two
from tests.support.tiny_model import publish_tiny, publish_tiny_task

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'hooper[ray]')")
yaml = pytest.importorskip("yaml")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
POLL_S = 0.2
PATIENT = {
    # on a machine under load, Ray takes its own proxy for dead
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    # seconds until Ray sees a change of the load
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
}
FOLLOWING = {"upscale_delay_s": 0.5, "downscale_delay_s": 1.0, "look_back_period_s": 10.5, "target_ongoing_requests": 1}
MOST_AT_ONCE = 4
"""Requests that a replica takes at once. Beyond them the proxy asks another node: below, it prefers its own."""


@dataclass
class TwoNodes:
    """A Ray cluster on this machine: a head and another node with room for one replica each."""

    cluster: Any
    other: Any
    models: Path
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self, **autoscaling: float) -> None:
        """`serve run` with the shipped configuration, changed in what a test must change."""
        config = yaml.safe_load((ROOT / "deploy/ray/hooper.yaml").read_text())
        config |= {"proxy_location": "HeadOnly", "http_options": {"host": "127.0.0.1", "port": self.port}}
        (application,) = config["applications"]
        application["args"] |= {"models": str(self.models)}
        (deployment,) = application["deployments"]
        deployment["autoscaling_config"] = autoscaling
        deployment["ray_actor_options"] = {"num_cpus": 1}
        deployment["max_ongoing_requests"] = MOST_AT_ONCE
        deployment["health_check_period_s"] = 1
        file = self.folder / "hooper.yaml"
        file.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "ray.serve.scripts", "run", str(file), "--address", self.cluster.address]
        ran = subprocess.run([*command, "--non-blocking"], cwd=ROOT, check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-3000:]
        self.wait_for_replicas(int(autoscaling["min_replicas"]))

    def num_replicas(self) -> int:
        """Those that answer, with none starting or stopping beside them; else 0."""
        from ray import serve

        application = serve.status().applications["hooper"]
        assert application.status != "DEPLOY_FAILED", application
        deployment = application.deployments.get("Hooper")  # none while Ray builds the application
        states = deployment.replica_states if deployment else {}
        return states.get("RUNNING", 0) if set(states) <= {"RUNNING"} else 0

    def wait_for_replicas(self, number: int) -> None:
        while self.num_replicas() != number:
            time.sleep(POLL_S)  # another process's state, and nothing to wait on

    def answered_by(self, prefix: str) -> dict[int, int]:
        """How many requests whose id begins so each process answered, by process id: from the access log."""
        logs = Path(self.cluster.head_node.get_session_dir_path()) / "logs"
        lines = {
            int(file.stem.rpartition("-")[2]): file.read_text().count(f'"request_id": "{prefix}')
            for file in logs.glob("worker-*.err")
        }
        return {process: number for process, number in lines.items() if number}

    async def all_answered_by(self, prefix: str, number: int) -> dict[int, int]:
        """The same, once the log has so many: it has a request only after its answer has left."""
        while sum((answered := self.answered_by(prefix)).values()) < number:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(POLL_S)
        return answered

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_tiny(root)
    for task in ("question-answering", "summarization"):
        publish_tiny_task(root, task, task)
    return root


@pytest.fixture(scope="module")
def two_nodes(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    from ray import serve

    with cluster_of_two(PATIENT) as (cluster, other):
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            made = TwoNodes(cluster, other, models, free_port(), tmp_path_factory.mktemp("ray"))
            made.deploy(min_replicas=2, max_replicas=2)
            yield made
        finally:
            serve.shutdown()
            ray.shutdown()


@pytest.fixture(scope="module")
def alone(models: Path) -> Iterator[LiveService]:
    """The same models, served by one process."""
    with serving(models) as running:
        yield running


GOOD = [
    ("classify", {"inputs": ["good film", "bad", "the film was not very good ."]}),
    ("classify", {"inputs": {"text": "good", "text_pair": "bad film"}, "top_k": 1}),
    ("answer", {"inputs": {"question": "Was the film good?", "context": "A film. Very good. Not bad."}}),
    ("summarize", {"inputs": "The film was good. A bad film. Not very good.", "max_sentences": 1}),
    ("explain", {"inputs": "not good", "model": "tiny"}),
]
BAD = [
    ("classify", {"inputs": ""}),
    ("classify", {"inputs": "good", "tok_k": 1}),
    ("classify", {"inputs": ["good"] * 300}),
    ("classify", {"inputs": "good", "model": "unknown"}),
    ("answer", {"inputs": {"question": "", "context": "A film."}}),
    ("summarize", {"inputs": 5}),
    ("classify", {"inputs": "good film " * 40, "truncation": "error"}),
    ("classify", {"inputs": "x" * 2_200_000}),
]


def told(response: httpx.Response) -> Any:
    """What a caller gets, but for what is different at each call."""
    body = response.json()
    assert response.headers["x-request-id"] == body.pop("request_id", response.headers["x-request-id"])
    timed = [part.partition(";")[0] for part in response.headers.get("server-timing", "").split(", ")]
    return response.status_code, response.headers["content-type"], timed, body


@pytest.mark.parametrize(("route", "body"), GOOD + BAD, ids=lambda name: str(name)[:60])
def test_every_answer_and_every_error_is_the_single_process_s(
    two_nodes: TwoNodes, alone: LiveService, route: str, body: dict[str, Any]
) -> None:
    with two_nodes.client() as many, alone.client() as one:
        found = told(many.post(f"/v1/{route}", json=body))
        assert found == told(one.post(f"/v1/{route}", json=body))
    assert (found[0] == 200) == ((route, body) in GOOD)  # the same failure on both sides would show nothing
    assert found[0] < 500


@pytest.mark.parametrize("path", ["/v1/models/tiny", "/health/ready", "/v2", "/no/such/path", "/v1/models/unknown"])
def test_what_is_read_is_the_single_process_s(two_nodes: TwoNodes, alone: LiveService, path: str) -> None:
    with two_nodes.client() as many, alone.client() as one:
        assert told(many.get(path)) == told(one.get(path))


def test_a_callers_request_id_comes_back_once(two_nodes: TwoNodes) -> None:
    with two_nodes.client() as client:
        response = client.post("/v1/classify", json={"inputs": "good"}, headers={"X-Request-Id": "mine"})
        assert response.headers.get_list("x-request-id") == ["mine"]
        assert len(client.post("/v1/classify", json={"inputs": "good"}).headers.get_list("x-request-id")) == 1


async def test_requests_spread_over_the_nodes(two_nodes: TwoNodes) -> None:
    await load(two_nodes.url, 200, "spread")
    answered = await two_nodes.all_answered_by("spread-", 200)
    assert len(answered) == 2
    assert min(answered.values()) > 20  # how many depends on how soon four are answered; not a stray one
    assert len({parent_of(process) for process in answered}) == 2  # of each replica, the raylet of its node


async def test_a_node_that_dies_under_load_loses_nothing_that_a_retry_does_not_recover(two_nodes: TwoNodes) -> None:
    def kill(number: int) -> None:
        if number == 200:
            end_as_a_power_cut_does(two_nodes.cluster, two_nodes.other)

    tries = await load(two_nodes.url, 1000, "loss", after=kill)
    await asyncio.to_thread(two_nodes.wait_for_replicas, 0)  # Ray has noticed, and seeks room for another
    two_nodes.other = two_nodes.cluster.add_node(num_cpus=1)
    await asyncio.to_thread(two_nodes.wait_for_replicas, 2)
    await load(two_nodes.url, 100, "again")
    assert len(await two_nodes.all_answered_by("again-", 100)) == 2
    failures = sum(number - 1 for number in tries)
    print(f"1000 requests, {failures} failed tries, {max(tries)} tries for one at most")
    assert len(two_nodes.answered_by("loss-")) >= 2  # the one that died had its part of the load
    assert failures <= 50


async def test_replicas_follow_the_load_up_and_down(two_nodes: TwoNodes) -> None:
    await asyncio.to_thread(two_nodes.deploy, min_replicas=1, max_replicas=2, **FOLLOWING)
    busy = asyncio.create_task(load(two_nodes.url, 1_000_000, "busy"))
    await asyncio.to_thread(two_nodes.wait_for_replicas, 2)
    assert not busy.done()
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    await asyncio.to_thread(two_nodes.wait_for_replicas, 1)
    assert set(await load(two_nodes.url, 20, "calm")) == {1}


async def load(url: str, num_requests: int, name: str, after: Callable[[int], None] = lambda _: None) -> list[int]:
    """Requests from 16 callers, each repeated until it is answered; every answer must be its text's own.

    Args:
        after: called on a thread with how many have been answered.

    Returns:
        How many tries each request took.
    """
    tries: list[int] = []
    numbers = iter(range(num_requests))
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:

        async def call() -> None:
            for number in numbers:
                inputs = ["good"] * (64 + number % 7)  # so much that the replicas are what everybody waits for
                headers = {"X-Request-Id": f"{name}-{number}"}
                num_tries, answer = await until_answered(client, {"inputs": inputs}, headers)
                assert len(answer["results"]) == len(inputs)
                assert {entry["labels"][0]["label"] for entry in answer["results"]} == {"good"}
                tries.append(num_tries)
                await asyncio.to_thread(after, len(tries))

        await asyncio.gather(*(call() for _ in range(16)))
    return tries


async def until_answered(client: httpx.AsyncClient, body: object, headers: dict[str, str]) -> tuple[int, Any]:
    """How many tries it took, and the answer; what a caller did wrong is not tried again."""
    seen: Counter[str] = Counter()
    while True:
        try:
            response = await client.post("/v1/classify", json=body, headers=headers)
        except httpx.TransportError as error:
            seen[type(error).__name__] += 1
        else:
            if response.status_code == 200:
                return 1 + seen.total(), json.loads(response.content)
            assert response.status_code >= 500, response.text
            seen[str(response.status_code)] += 1
        assert seen.total() < 20, seen
