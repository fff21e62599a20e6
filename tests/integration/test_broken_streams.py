"""Texts that are being written while something happens to the service, over real sockets: each stream ends with an event that
says how, and nobody else is held up."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.live_service import LiveService, serving
from tests.support.tiny_decoder import greedily, publish_tiny_decoder, source_of, text_of
from tests.support.tiny_model import publish_tiny

ADMIN = {"authorization": "Bearer admin"}
SOURCE = "w5 w6"
WHOLE = {"inputs": SOURCE, "model": "writer", "max_new_tokens": 6}
NUM_ROWS, NUM_WAITING = 2, 6


@dataclass
class Paced:
    """A service whose writer is told each step."""

    service: LiveService
    pace: Callable[[str], object]
    models: Path

    def begin(self, **options: Any) -> HTTPConnection:
        """Ask, and wait for nothing."""
        connection = HTTPConnection("127.0.0.1", self.service.port)
        body = json.dumps({**WHOLE, **options})
        connection.request("POST", "/v1/generate", body, {"Content-Type": "application/json"})
        return connection

    @contextmanager
    def stream(self, steps: str = "s", **options: Any) -> Iterator[Stream]:
        """One that has begun: with its first step, where others are written after one more of theirs."""
        with closing(self.begin(**options, stream=True)) as connection:
            if steps != "s":
                self.have_waiting(1)
            self.pace(steps)
            response = connection.getresponse()
            assert response.status == 200
            yield Stream(response)

    def have_waiting(self, num_rows: int) -> None:
        """Return once so many wait for room in the cache, or for a step to end."""
        while self.metric('hooper_waiting_rows{model="writer"}') < num_rows:
            pass

    def ask(self, **options: Any) -> httpx.Response:
        return self.service.ask("POST", "/v1/generate", json={**WHOLE, **options})

    def load(self, version: int) -> int:
        """Its status."""
        return self.service.ask("POST", f"/v1/models/writer/load?version={version}", headers=ADMIN).status_code

    def metric(self, line: str) -> float:
        lines = self.service.ask("GET", "/metrics").text.splitlines()
        return sum(float(entry.rpartition(" ")[2]) for entry in lines if entry.startswith(line))


class Stream:
    """What comes of a stream."""

    def __init__(self, response: HTTPResponse) -> None:
        self._lines = (line.decode().rstrip() for line in response)

    def event(self) -> tuple[str, Any]:
        """The next one."""
        name = next(line for line in self._lines if line.startswith("event: "))
        return name.removeprefix("event: "), json.loads(next(self._lines).removeprefix("data: "))

    def end(self) -> tuple[str, Any]:
        """The last one."""
        name, data = self.event()
        while name == "token":
            name, data = self.event()
        assert not [line for line in self._lines if line]
        return name, data


@contextmanager
def paced(folder: Path, **settings: Any) -> Iterator[Paced]:
    models, pipe = folder / "models", folder / "pace"
    publish_tiny_decoder(models)
    publish_tiny(models)
    os.mkfifo(pipe)
    keys = hashlib.sha256(b"admin").hexdigest()
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("PACE", str(pipe))
        run = ("-m", "tests.support.paced_writer")
        wanted = {"max_batch_rows": NUM_ROWS, "admin_key_hashes": keys, "max_waiting_rows": NUM_WAITING, **settings}
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that writing does not wait for the service
        stack.callback(os.close, reader)
        letters = stack.enter_context(pipe.open("w", encoding="ascii", buffering=1))
        os.set_blocking(reader, False)
        service = stack.enter_context(serving(models, run, **wanted))

        def pace(words: str) -> None:
            letters.write(words)
            letters.flush()

        yield Paced(service, pace, models)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paced]:
    with paced(tmp_path_factory.mktemp("paced")) as service:
        yield service


@pytest.fixture
def writing(shared: Paced) -> Iterator[Paced]:
    """One that waits to be told, and goes on as it likes afterwards."""
    shared.pace("h")
    yield shared
    shared.pace("g")
    assert text(shared.ask().json()) == expected()


def expected() -> str:
    return text_of(greedily(source_of(SOURCE), WHOLE["max_new_tokens"]))


def text(envelope: Any) -> str:
    told: str = envelope["results"][0]["text"]
    return told


def test_a_client_that_leaves_makes_room_while_others_are_written(writing: Paced) -> None:
    long = {"min_new_tokens": 20, "max_new_tokens": 20}
    with writing.stream(**long) as staying:
        with writing.stream("ss", **long) as leaving:
            assert leaving.event()[0] == "token"
        assert writing.service.ask("POST", "/v1/classify", json={"inputs": "good"}).status_code == 200
        with closing(writing.begin(max_new_tokens=1)) as following:
            writing.have_waiting(1)
            writing.pace("s" * 8)
            assert json.loads(following.getresponse().read())["results"][0]["num_new_tokens"] == 1
        writing.pace("g")
        name, envelope = staying.end()
    assert (name, envelope["results"][0]["num_new_tokens"]) == ("done", 20)
    assert writing.metric('hooper_dropped_rows_total{model="writer",reason="client_left"}') == 1


@pytest.mark.parametrize(("letter", "words"), [("r", "the engine failed"), ("n", "no finite numbers")])
def test_a_step_that_fails_ends_its_streams_and_nothing_else(writing: Paced, letter: str, words: str) -> None:
    with writing.stream() as stream:
        assert stream.event()[0] == "token"
        writing.pace(letter)
        name, problem = stream.end()
    assert (name, problem["status"], problem["type"]) == ("error", 503, "engine_failed")
    assert words in problem["detail"]


def test_a_stream_ends_with_the_version_that_began_it(writing: Paced) -> None:
    publish_tiny_decoder(writing.models, version=2)
    with writing.stream() as stream:
        assert stream.event()[0] == "token"
        assert writing.load(2) == 200
        assert writing.ask().json()["model"]["version"] == 2
        writing.pace("g")
        name, envelope = stream.end()
    assert (name, text(envelope), envelope["model"]["version"]) == ("done", expected(), 1)
    assert writing.load(1) == 200


def test_where_the_cache_is_full_requests_wait_and_where_the_queue_is_too_they_are_refused(writing: Paced) -> None:
    with writing.stream(min_new_tokens=6) as first, writing.stream("ss") as second:
        waiting = [writing.begin() for _ in range(NUM_WAITING)]
        writing.have_waiting(NUM_WAITING)
        refused = writing.ask()
        assert (refused.status_code, refused.json()["type"]) == (429, "overloaded")
        assert refused.json()["detail"].startswith(f"{NUM_WAITING} rows of ")
        assert int(refused.headers["retry-after"]) >= 1
        assert writing.service.ask("POST", "/v1/classify", json={"inputs": "good"}).status_code == 200
        writing.pace("g")
        assert (first.end()[0], second.end()[0]) == ("done", "done")
    for connection in waiting:
        assert text(json.loads(connection.getresponse().read())) == expected()
        connection.close()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"inputs": "w5 " * 100_000}, 413, "100000 tokens"),
        ({"max_new_tokens": 10**9}, 422, "max_new_tokens: should be less than"),
        ({"stop": ["x" * 1_000_000]}, 422, "should have at most 256 characters"),
        ({"stop": ["x"] * 10_000}, 422, "10000 items are too many"),
        ({"num_beams": 16}, 413, f"16 beams need as many rows of the cache, which has {NUM_ROWS}"),
    ],
    ids=["tokens", "new tokens", "characters", "stop strings", "beams"],
)
def test_what_is_too_much_is_refused_with_the_numbers(shared: Paced, body: dict[str, Any], status: int, words: str) -> None:
    for is_stream in (False, True):
        response = shared.ask(**body, stream=is_stream)
        assert response.status_code == status
        assert words in response.json()["detail"]


def test_at_a_signal_streams_go_on_within_the_time_to_drain_and_then_end_in_words(tmp_path: Path) -> None:
    with paced(tmp_path, drain_s=1) as writing:
        writing.pace("h")
        with writing.stream(min_new_tokens=6) as long, writing.stream("ss", max_new_tokens=2) as short:
            writing.service.process.send_signal(signal.SIGTERM)
            writing.service.wait_for("Shutting down")
            writing.pace("s")
            assert short.end()[0] == "done"
            name, problem = long.end()
        assert (name, problem["status"]) == ("error", 503)
        assert "stopped before the text was finished" in problem["detail"]
        writing.pace("g")  # else the step that it is in hangs, which is waited for
        assert writing.service.wait() == 0
