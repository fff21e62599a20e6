"""`hooper serve` with two front ends: one service to whoever asks, whichever of its processes dies.

Each start is that of three processes: what one process or the unit tests show too, and what rarely breaks, is slow here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.integration.test_service import check_scores, check_stop, read_response, request_of, text_of
from tests.support.ipc_pair import until as until_so
from tests.support.live_service import LiveService, started
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import KINDS, publish_tiny, publish_tiny_task

KEY = "an-admin-key"
ADMIN = {"authorization": f"Bearer {KEY}"}
ADMIN_HASH = hashlib.sha256(KEY.encode()).hexdigest()
QUESTIONS = {
    "classify": {"inputs": "the film was good", "model": "text-classification"},
    "answer": {"inputs": {"question": "Was the film good?", "context": "A bad film. The film was good."}},
    "summarize": {"inputs": "The film was good. A bad film. Very good. Not bad."},
    "explain": {"inputs": "the film was good", "model": "text-classification"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_tiny(root)
    for task in KINDS:
        publish_tiny_task(root, task, task)
    return root


def until(is_so: Callable[[], bool]) -> None:
    """A test in which it never is so runs into its time limit."""
    while not is_so():
        os.sched_yield()


def status(running: LiveService, path: str) -> int:
    """Over a connection of its own, which any front end may get; 0 where nobody answers."""
    try:
        return httpx.get(running.url + path, trust_env=False, timeout=None).status_code
    except httpx.TransportError:
        return 0


def until_ready(running: LiveService) -> None:
    running.wait_for("2 front ends are ready")
    until(lambda: all(status(running, "/health/ready") == 200 for _ in range(8)))


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[LiveService]:
    with started(models, front_ends=2, admin_key_hashes=ADMIN_HASH) as running:
        until_ready(running)
        yield running


@pytest.fixture
def own_service(models: Path) -> Iterator[LiveService]:
    """One that a test may break."""
    with started(models, front_ends=2, admin_key_hashes=ADMIN_HASH, serve="tiny") as running:
        until_ready(running)
        yield running


def children(running: LiveService) -> dict[int, str]:
    """Process ids of the supervisor's children, and what they are."""
    pid = running.process.pid
    found = {}
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()):
        with suppress(OSError):  # it has ended meanwhile
            found[child] = Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8").rstrip("\0").rpartition(".")[2]
    return found


def shared_folders(inside: Path) -> list[int]:
    """Their modes."""
    return [path.stat().st_mode & 0o777 for path in inside.iterdir()]


def child(running: LiveService, kind: str) -> int:
    return next(pid for pid, found in children(running).items() if found == kind)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def counters(running: LiveService) -> Counter[str]:
    text = httpx.get(running.url + "/metrics", trust_env=False, timeout=None).text
    return Counter(
        {name: int(float(value)) for name, value in re.findall(r"^(hooper_\S+_(?:total|count)\S*) (\S+)$", text, re.MULTILINE)}
    )


def answered(running: LiveService) -> int:
    return sum(value for name, value in counters(running).items() if name.startswith("hooper_requests_total"))


# --- one service


def test_it_is_one_engine_process_and_two_front_ends(service: LiveService) -> None:
    assert Counter(children(service).values()) == {"engine": 1, "front_end": 2}


def test_every_task_is_answered_as_by_one_process(models: Path, service: LiveService) -> None:
    with started(models) as alone:
        alone.wait_for("ready: ", "Uvicorn running")
        for route, body in QUESTIONS.items():
            expected = httpx.post(f"{alone.url}/v1/{route}", json=body, trust_env=False, timeout=None)
            assert expected.status_code == 200, expected.text
            for _ in range(4):
                got = httpx.post(f"{service.url}/v1/{route}", json=body, trust_env=False, timeout=None)
                assert got.json() == expected.json()
        assert (
            httpx.get(f"{service.url}/v1/models", timeout=None).json()
            == httpx.get(f"{alone.url}/v1/models", timeout=None).json()
        )


async def test_200_requests_over_32_connections_are_each_answered_with_their_own_scores(service: LiveService) -> None:
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=None, trust_env=False) as client:

        async def ask(number: int) -> None:
            text = text_of(number)
            response = await client.post("/v1/classify", json={"inputs": [text, text], "model": "tiny"})
            assert response.status_code == 200, response.text
            for entry in response.json()["results"]:
                check_scores(entry, text)

        await asyncio.gather(*[ask(number) for number in range(200)])


def test_every_front_end_tells_the_metrics_of_all(service: LiveService) -> None:
    before = answered(service)
    for _ in range(20):
        httpx.post(f"{service.url}/v1/classify", json=QUESTIONS["classify"], trust_env=False, timeout=None)
    assert {answered(service) for _ in range(10)} == {before + 20}
    assert "hooper_waiting_rows" in httpx.get(f"{service.url}/metrics").text


def test_a_model_that_is_loaded_or_unloaded_is_so_for_every_connection(models: Path, service: LiveService) -> None:
    publish_tiny(models, name="another")
    assert httpx.post(f"{service.url}/v1/models/another/load", headers=ADMIN, timeout=None).status_code == 200
    assert {status(service, "/v1/models/another") for _ in range(8)} == {200}
    refused = httpx.post(f"{service.url}/v1/models/nothing/load", headers=ADMIN, timeout=None)
    assert (refused.status_code, refused.json()["type"]) == (404, "unknown_model")
    assert httpx.post(f"{service.url}/v1/models/another/unload", headers=ADMIN, timeout=None).status_code == 200
    assert {status(service, "/v1/models/another") for _ in range(8)} == {404}


def test_two_versions_run_side_by_side_for_every_connection(models: Path, service: LiveService) -> None:
    second = Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2"))
    sign_again(second, version=2)
    loading = httpx.post(
        f"{service.url}/v1/models/tiny/load?version=2", json={"share": 1.0}, headers=ADMIN, timeout=None, trust_env=False
    )
    assert loading.status_code == 200, loading.text
    asked = {"inputs": "good", "model": "tiny"}
    answers = [httpx.post(f"{service.url}/v1/classify", json=asked, timeout=None).json() for _ in range(8)]
    assert {answer["model"]["version"] for answer in answers} == {2}
    assert httpx.post(f"{service.url}/v1/models/tiny/promote", headers=ADMIN, timeout=None).status_code == 200
    told = [httpx.get(f"{service.url}/v1/models/tiny", timeout=None).json() for _ in range(8)]
    assert {(entry["version"], entry["role"]) for entry in told} == {(2, "main")}


@pytest.mark.slow
def test_a_failed_model_a_default_and_a_rollback_are_the_same_for_every_connection_and_after_a_crash(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    sign_again(Path(shutil.copytree(tmp_path / "tiny" / "1", tmp_path / "tiny" / "2")), version=2)
    publish_tiny(tmp_path, "aardvark")
    sign_again(tmp_path / "aardvark" / "1", first_published="2026-02-01T00:00:00+00:00")
    (publish_tiny(tmp_path, "broken") / "model.onnx").write_bytes(b"broken")
    with started(tmp_path, front_ends=2, admin_key_hashes=ADMIN_HASH) as running:
        until_ready(running)

        def ask(method: str, path: str, **more: object) -> list[httpx.Response]:
            return [httpx.request(method, running.url + path, timeout=None, trust_env=False, **more) for _ in range(8)]

        def check(version: int) -> None:
            told = [entry.json() for entry in ask("GET", "/health/ready")]
            reason = "model.onnx differs from the checksum in manifest.json"
            failed = [{"model": "broken/1", "detail": reason}]
            assert told == [{"status": "ready", "models": ["aardvark/1", f"tiny/{version}"], "failed": failed}] * 8
            answers = ask(
                "POST", "/v1/classify", json={"inputs": "good"}
            )  # Broken was published as early, and comes first by name
            assert {(answer.status_code, answer.json()["type"]) for answer in answers} == {(503, "model_failed")}
            assert all(reason in answer.text for answer in answers)
            assert {entry.text.count('hooper_model_failed{model="broken"} 1.0') for entry in ask("GET", "/metrics")} == {1}

        check(2)
        said = httpx.post(f"{running.url}/v1/models/tiny/load?version=1", headers=ADMIN, timeout=None, trust_env=False)
        assert said.json()["persistent"] is True
        check(1)
        os.kill(child(running, "engine"), signal.SIGKILL)
        running.wait_for("the engine process is gone (killed by signal 9) and is started again", "2 front ends are ready")
        until(lambda: all(status(running, "/health/ready") == 200 for _ in range(8)))
        check(1)
        shutil.copy(tmp_path / "tiny" / "1" / "model.onnx", tmp_path / "broken" / "1" / "model.onnx")
        assert (
            httpx.post(f"{running.url}/v1/models/broken/load", headers=ADMIN, timeout=None, trust_env=False).status_code == 200
        )
        answers = ask("POST", "/v1/classify", json={"inputs": "good"})
        assert {answer.json()["model"]["name"] for answer in answers} == {"broken"}


@pytest.mark.slow
def test_a_model_that_must_load_and_does_not_keeps_every_front_end_from_getting_ready(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    (publish_tiny(tmp_path, "broken") / "model.onnx").write_bytes(b"broken")
    named = {"serve": "tiny,broken", "default_models": "text-classification=tiny"}
    with started(tmp_path, front_ends=2, **named) as running:
        running.wait_for("not ready: model 'broken' could not be loaded", "2 front ends are ready")
        answers = [httpx.get(f"{running.url}/health/ready", timeout=None, trust_env=False) for _ in range(8)]
        assert {answer.status_code for answer in answers} == {503}
        until(lambda: "model 'broken' could not be loaded" in httpx.get(f"{running.url}/health/ready", trust_env=False).text)
        answer = httpx.post(f"{running.url}/v1/classify", json={"inputs": "good"}, timeout=None, trust_env=False)
        assert answer.json()["model"]["name"] == "tiny"


@pytest.mark.slow
def test_a_key_may_ask_as_often_as_of_one_process(models: Path) -> None:
    with started(models, front_ends=2, serve="tiny", api_key_hashes=ADMIN_HASH, key_requests_per_minute=6) as running:
        until_ready(running)
        asked = [
            httpx.post(f"{running.url}/v1/classify", json={"inputs": "good"}, headers=ADMIN, timeout=None) for _ in range(12)
        ]
    statuses = Counter(entry.status_code for entry in asked)
    assert statuses[200] in (6, 7)  # a token may have come back meanwhile
    assert statuses[429] == 12 - statuses[200]


# --- what dies


class Load:
    """Callers that ask again and again, each on a connection of its own, until they are told to stop."""

    def __init__(self, port: int, num_callers: int = 12) -> None:
        self.port = port
        self.statuses: Counter[int] = Counter()
        self.num_broken = 0
        self._is_over = False
        self._callers = [asyncio.create_task(self._call(number)) for number in range(num_callers)]

    async def _call(self, number: int) -> None:
        while not self._is_over:
            text = text_of(number)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:  # nobody listens any more
                return
            try:
                while not self._is_over:
                    writer.write(request_of(json.dumps({"inputs": [text], "model": "tiny"}).encode()))
                    code, answer = await read_response(reader)
                    self.statuses[code] += 1
                    if code == 200:
                        check_scores(answer["results"][0], text)
            except (OSError, asyncio.IncompleteReadError):
                self.num_broken += 1
            finally:
                writer.close()

    async def until_answered(self, num_more: int) -> None:
        wanted = self.statuses[200] + num_more
        await until_so(lambda: self.statuses[200] >= wanted)

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._callers)


async def test_a_killed_front_end_breaks_its_own_connections_and_is_replaced(own_service: LiveService) -> None:
    load = Load(own_service.port)
    await load.until_answered(50)
    before = await asyncio.to_thread(counters, own_service)
    victim = child(own_service, "front_end")
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(own_service.wait_for, "is started again")
    await load.until_answered(50)
    assert status(own_service, "/health/ready") == 200
    restarts = 'hooper_process_restarts_total{process="front_end"}'
    await asyncio.to_thread(until, lambda: counters(own_service)[restarts] == 1)
    assert Counter(children(own_service).values()) == {"engine": 1, "front_end": 2}
    await load.until_answered(50)
    await load.end()
    assert set(load.statuses) == {200}
    assert load.num_broken <= 12  # as many as the victim had accepted
    after = await asyncio.to_thread(counters, own_service)
    assert all(after[name] >= value for name, value in before.items())
    assert abs(answered(own_service) - load.statuses[200]) <= load.num_broken  # counted but not received, or the reverse


async def test_a_killed_engine_process_is_503_to_everybody_until_another_has_loaded(own_service: LiveService) -> None:
    load = Load(own_service.port)
    await load.until_answered(50)
    before = await asyncio.to_thread(counters, own_service)
    os.kill(child(own_service, "engine"), signal.SIGKILL)
    await asyncio.to_thread(own_service.wait_for, "the engine process is gone (killed by signal 9) and is started again")
    await asyncio.to_thread(own_service.wait_for, "2 front ends are ready")
    await load.until_answered(50)
    await load.end()
    assert set(load.statuses) == {200, 503}
    assert load.num_broken == 0
    await asyncio.to_thread(until, lambda: all(status(own_service, "/health/ready") == 200 for _ in range(8)))
    assert status(own_service, "/health/live") == 200
    after = await asyncio.to_thread(counters, own_service)
    assert all(after[name] >= value for name, value in before.items())
    assert after['hooper_process_restarts_total{process="engine"}'] == 1


@pytest.mark.slow
def test_an_engine_process_that_dies_too_often_ends_the_service(models: Path) -> None:
    with started(models, front_ends=2, serve="tiny", engine_replacements=0) as running:
        until_ready(running)
        os.kill(child(running, "engine"), signal.SIGKILL)
        assert running.wait() == 3
    assert running.lines[-1] == (
        "hooper: the engine process has died 1 times, of which 0 are made good (HOOPER_ENGINE_REPLACEMENTS);"
        " the last one ended with killed by signal 9"
    )


@pytest.mark.slow
def test_nothing_outlives_a_killed_supervisor(own_service: LiveService) -> None:
    found = children(own_service)
    os.kill(own_service.process.pid, signal.SIGKILL)
    until(lambda: not any(is_there(pid) for pid in found))


# --- the end


async def test_a_signal_during_requests_loses_none_of_them_and_leaves_nothing_behind(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started(models, front_ends=2, serve="tiny") as running:
        await asyncio.to_thread(until_ready, running)
        assert shared_folders(tmp_path) == [0o700]
        connections = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(32)]
        for reader, writer in connections:  # every connection is known to a front end
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: [::1]\r\n\r\n")
            assert (await read_response(reader))[0] == 200
        texts = [[text_of(32 * number + place) for place in range(64)] for number in range(32)]
        for (_, writer), inputs in zip(connections, texts, strict=True):
            writer.write(request_of(json.dumps({"inputs": inputs, "model": "tiny"}).encode()))
        await asyncio.gather(*[writer.drain() for _, writer in connections])
        running.process.send_signal(signal.SIGTERM)
        for (reader, _), inputs in zip(connections, texts, strict=True):
            code, answer = await read_response(reader)
            assert code == 200
            for result, text in zip(answer["results"], inputs, strict=True):
                check_scores(result, text)
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()
        assert await asyncio.to_thread(running.wait) == 0
    assert shared_folders(tmp_path) == []


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
async def test_a_signal_to_the_whole_group_ends_it_in_order(models: Path, number: signal.Signals) -> None:
    with started(models, front_ends=2, serve="tiny") as running:
        await asyncio.to_thread(until_ready, running)
        found = children(running)
        load = Load(running.port)
        await load.until_answered(20)
        for pid in (running.process.pid, *found):
            os.kill(pid, number)
        assert await asyncio.to_thread(running.wait) == 0
        await load.end()
    assert set(load.statuses) == {200}
    assert not any(is_there(pid) for pid in found)
    assert "Traceback" not in "\n".join(running.lines)


@pytest.mark.slow
def test_a_signal_while_models_load_ends_it_cleanly(models: Path) -> None:
    with started(models, front_ends=2) as running:
        running.wait_for("Started server process")
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0


# --- what stops the start


@pytest.mark.slow
def test_a_broken_model_stops_the_start(tmp_path: Path) -> None:
    (publish_tiny(tmp_path) / "model.onnx").write_bytes(b"broken")
    with started(tmp_path, front_ends=2) as running:
        check_stop(running, "model.onnx differs from the checksum in manifest.json")


def test_a_port_that_is_taken_stops_the_start(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with started(models, front_ends=2, port=taken.getsockname()[1]) as running:
            check_stop(running, f"HOOPER_PORT={taken.getsockname()[1]} cannot be opened")
