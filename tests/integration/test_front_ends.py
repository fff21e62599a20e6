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
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.integration.test_service import check_scores, check_stop, read_response, request_of, text_of
from tests.support.live_service import LiveService, started
from tests.support.mutated_model import sign_again
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import KINDS, publish_tiny, publish_tiny_task

KEY = "an-admin-key"
ADMIN = {"authorization": f"Bearer {KEY}"}
ADMIN_HASH = hashlib.sha256(KEY.encode()).hexdigest()
PAUSE, PAUSE_S = threading.Event(), 0.02
"""Between two looks at what has no event of its own, and between two requests of a caller."""
QUESTIONS = {
    "classify": {"inputs": "the film was good", "model": "text-classification"},
    "answer": {"inputs": {"question": "Was the film good?", "context": "A bad film. The film was good."}},
    "summarize": {"inputs": "The film was good. A bad film. Very good. Not bad."},
    "explain": {"inputs": "the film was good", "model": "text-classification"},
    "generate": {"inputs": ["the film was good", "not bad"]},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_tiny(root)
    for task in KINDS:
        publish_tiny_task(root, task, task)
    publish_tiny_decoder(root)
    return root


def until(is_so: Callable[[], bool]) -> None:
    """A test in which it never is so runs into its time limit."""
    while not is_so():
        PAUSE.wait(PAUSE_S)  # whom it waits for needs the processor


def status(running: LiveService, path: str) -> int:
    """Over a connection of its own, which any front end may get; 0 where nobody answers."""
    try:
        return running.ask("GET", path).status_code
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


@pytest.fixture(scope="module")
def own_service(models: Path) -> Iterator[LiveService]:
    """One whose processes a test may kill. It has replaced them all when Ctrl-C, which each of them gets, ends it in order."""
    with started(models, front_ends=2, admin_key_hashes=ADMIN_HASH, serve="tiny") as running:
        until_ready(running)
        yield running
        remaining = children(running)
        for pid in (running.process.pid, *remaining):
            os.kill(pid, signal.SIGINT)
        assert running.wait() == 0
        assert not any(is_there(pid) for pid in remaining)
        assert "Traceback" not in "\n".join(running.lines)


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
    text = running.ask("GET", "/metrics").text
    return Counter(
        {name: int(float(value)) for name, value in re.findall(r"^(hooper_\S+_(?:total|count)\S*) (\S+)$", text, re.MULTILINE)}
    )


def answered(running: LiveService, label: str = "") -> int:
    return sum(value for name, value in counters(running).items() if name.startswith("hooper_requests_total") and label in name)


# --- one service


def test_it_is_one_engine_process_and_two_front_ends(service: LiveService) -> None:
    assert Counter(children(service).values()) == {"engine": 1, "front_end": 2}


def test_every_task_is_answered_as_by_one_process(models: Path, service: LiveService) -> None:
    with started(models) as alone:
        alone.wait_for("ready: ", "Uvicorn running")
        for route, body in QUESTIONS.items():
            expected = alone.ask("POST", f"/v1/{route}", json=body)
            assert expected.status_code == 200, expected.text
            for _ in range(4):
                got = service.ask("POST", f"/v1/{route}", json=body)
                assert got.json() == expected.json()
        assert service.ask("GET", "/v1/models").json() == alone.ask("GET", "/v1/models").json()


def test_a_text_is_streamed_from_the_engine_process_to_whoever_reads_along(service: LiveService) -> None:
    for text in QUESTIONS["generate"]["inputs"]:
        (whole,) = service.ask("POST", "/v1/generate", json={"inputs": text}).json()["results"]
        events = service.ask("POST", "/v1/generate", json={"inputs": text, "stream": True}).text.strip().split("\n\n")
        kinds = [event.partition("\n")[0] for event in events]
        data = [json.loads(event.partition("data: ")[2]) for event in events]
        assert kinds == ["event: token"] * (len(events) - 1) + ["event: done"]
        assert "".join(piece["text"] for piece in data[:-1]) == whole["text"]
        assert data[-1]["results"] == [whole]


async def test_200_requests_over_32_connections_are_each_answered_with_their_own_scores(service: LiveService) -> None:
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
    async with service.async_client(limits=limits) as client:

        async def ask(number: int) -> None:
            text = text_of(number)
            response = await client.post("/v1/classify", json={"inputs": [text, text], "model": "tiny"})
            assert response.status_code == 200, response.text
            for entry in response.json()["results"]:
                check_scores(entry, text)

        await asyncio.gather(*[ask(number) for number in range(200)])


def test_every_front_end_tells_the_metrics_of_all(service: LiveService) -> None:
    label = 'task="question-answering"'  # no test before has just asked it: an answer is counted after its caller has it
    before = answered(service, label)
    for _ in range(20):
        service.ask("POST", "/v1/answer", json=QUESTIONS["answer"])
    until(lambda: answered(service, label) >= before + 20)
    assert {answered(service, label) for _ in range(10)} == {before + 20}
    assert "hooper_waiting_rows" in service.ask("GET", "/metrics").text


def test_a_model_that_is_loaded_or_unloaded_is_so_for_every_connection(models: Path, service: LiveService) -> None:
    publish_tiny(models, name="another")
    assert service.ask("POST", "/v1/models/another/load", headers=ADMIN).status_code == 200
    assert {status(service, "/v1/models/another") for _ in range(8)} == {200}
    refused = service.ask("POST", "/v1/models/nothing/load", headers=ADMIN)
    assert (refused.status_code, refused.json()["type"]) == (404, "unknown_model")
    assert service.ask("POST", "/v1/models/another/unload", headers=ADMIN).status_code == 200
    assert {status(service, "/v1/models/another") for _ in range(8)} == {404}


def test_two_versions_run_side_by_side_for_every_connection(models: Path, service: LiveService) -> None:
    second = Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2"))
    sign_again(second, version=2)
    loading = service.ask("POST", "/v1/models/tiny/load?version=2", json={"share": 1.0}, headers=ADMIN)
    assert loading.status_code == 200, loading.text
    asked = {"inputs": "good", "model": "tiny"}
    answers = [service.ask("POST", "/v1/classify", json=asked).json() for _ in range(8)]
    assert {answer["model"]["version"] for answer in answers} == {2}
    assert service.ask("POST", "/v1/models/tiny/promote", headers=ADMIN).status_code == 200
    told = [service.ask("GET", "/v1/models/tiny").json() for _ in range(8)]
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
            return [running.ask(method, path, **more) for _ in range(8)]

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
        said = running.ask("POST", "/v1/models/tiny/load?version=1", headers=ADMIN)
        assert said.json()["persistent"] is True
        check(1)
        os.kill(child(running, "engine"), signal.SIGKILL)
        running.wait_for("the engine process is gone (killed by signal 9) and is started again", "2 front ends are ready")
        until(lambda: all(status(running, "/health/ready") == 200 for _ in range(8)))
        check(1)
        shutil.copy(tmp_path / "tiny" / "1" / "model.onnx", tmp_path / "broken" / "1" / "model.onnx")
        assert running.ask("POST", "/v1/models/broken/load", headers=ADMIN).status_code == 200
        answers = ask("POST", "/v1/classify", json={"inputs": "good"})
        assert {answer.json()["model"]["name"] for answer in answers} == {"broken"}


@pytest.mark.slow
def test_a_model_that_must_load_and_does_not_keeps_every_front_end_from_getting_ready(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    (publish_tiny(tmp_path, "broken") / "model.onnx").write_bytes(b"broken")
    named = {"serve": "tiny,broken", "default_models": "text-classification=tiny"}
    with started(tmp_path, front_ends=2, **named) as running:
        running.wait_for("not ready: model 'broken' could not be loaded", "2 front ends are ready")
        answers = [running.ask("GET", "/health/ready") for _ in range(8)]
        assert {answer.status_code for answer in answers} == {503}
        until(lambda: "model 'broken' could not be loaded" in running.ask("GET", "/health/ready").text)
        answer = running.ask("POST", "/v1/classify", json={"inputs": "good"})
        assert answer.json()["model"]["name"] == "tiny"


@pytest.mark.slow
def test_a_key_may_ask_as_often_as_of_one_process(models: Path) -> None:
    with started(models, front_ends=2, serve="tiny", api_key_hashes=ADMIN_HASH, key_requests_per_minute=6) as running:
        until_ready(running)
        asked = [running.ask("POST", "/v1/classify", json={"inputs": "good"}, headers=ADMIN) for _ in range(12)]
    statuses = Counter(entry.status_code for entry in asked)
    assert statuses[200] in (6, 7)  # a token may have come back meanwhile
    assert statuses[429] == 12 - statuses[200]


# --- what dies


NUM_CALLERS = 6


class Load:
    """Callers that ask again and again, each on a connection of its own, until they are told to stop."""

    def __init__(self, port: int, num_callers: int = NUM_CALLERS) -> None:
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
                    await asyncio.sleep(PAUSE_S)
            except (OSError, asyncio.IncompleteReadError):
                self.num_broken += 1
            finally:
                writer.close()

    async def until_answered(self, num_more: int) -> None:
        wanted = self.statuses[200] + num_more
        while self.statuses[200] < wanted:  # noqa: ASYNC110 - any caller's answer may be the last of them
            await asyncio.sleep(PAUSE_S)

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._callers)


async def test_a_killed_front_end_breaks_its_own_connections_and_is_replaced(own_service: LiveService) -> None:
    answered_before = answered(own_service)
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
    assert load.num_broken <= NUM_CALLERS  # as many as the victim had accepted
    after = await asyncio.to_thread(counters, own_service)
    assert all(after[name] >= value for name, value in before.items())
    num_counted = answered(own_service) - answered_before
    assert abs(num_counted - load.statuses[200]) <= load.num_broken  # counted but not received, or the reverse


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
def test_nothing_outlives_a_killed_supervisor(models: Path) -> None:
    with started(models, front_ends=2, serve="tiny") as running:
        until_ready(running)
        found = children(running)
        os.kill(running.process.pid, signal.SIGKILL)
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
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
