"""Answers that are sent while they are written: what each event says, and how a stream ends that is not finished."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from app.api import events
from app.core.errors import EngineFailed
from app.settings import Settings
from tests.support.echo_writer import EchoEngine, echoing
from tests.support.gated_engine import turn
from tests.support.requests import Caller, Service, check_problem

TEXT = "the film was good."
MODEL = "text2text-generation"
Writing = tuple[Service, EchoEngine]


@pytest.fixture
async def writing() -> AsyncIterator[Writing]:
    async with echoing(MODEL) as pair:
        yield pair


def parsed(body: str) -> list[tuple[str, Any]]:
    """Name and data of each event."""
    found = []
    for block in body.split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def stream(service: Service, inputs: object = TEXT, route: str = "generate", **options: Any) -> list[tuple[str, Any]]:
    response = await service.ask(route, inputs, stream=True, **options)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return parsed(response.text)


async def begun(service: Service, engine: EchoEngine, path: str = "/v1/generate", key: str = "", **options: Any) -> Caller:
    """A stream whose first word was told, and whose engine now waits."""
    engine.hold()
    caller = Caller(service.app, path=path, host="localhost", **{"x-api-key": key})
    caller.send({"inputs": TEXT, "stream": True, **options})
    engine.let(2)
    while len(caller.sent) < 2:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    return caller


def body_of(caller: Caller) -> str:
    return b"".join(message.get("body", b"") for message in caller.sent).decode()


@pytest.mark.parametrize(
    ("route", "options", "expected"),
    [
        ("generate", {}, f" {TEXT}"),  # of the default, which continues texts
        ("generate", {"model": MODEL}, TEXT),
        ("translate", {}, TEXT),
        ("summarize", {}, TEXT),
    ],
)
async def test_the_text_comes_word_by_word_and_then_the_whole_answer(
    echo_service: Service, route: str, options: dict[str, Any], expected: str
) -> None:
    *tokens, (name, envelope) = await stream(echo_service, route=route, **options)
    assert [name for name, _ in tokens] == ["token"] * len(tokens)
    assert len(tokens) > 3
    whole = (await echo_service.ask(route, TEXT, **options)).json()
    assert (name, envelope) == ("done", whole)
    text = next(whole["results"][0][key] for key in ("text", "translation", "summary") if key in whole["results"][0])
    assert "".join(data["text"] for _, data in tokens) == text == expected
    counts = [data["num_new_tokens"] for _, data in tokens]
    assert counts == sorted(counts)
    assert whole["results"][0]["num_new_tokens"] == counts[-1] + 1  # the end of the text is a token without text


async def test_sentences_come_in_their_order(echo_service: Service) -> None:
    text = "The film was bad.\n\nA good film. Very very good."
    *tokens, (_, envelope) = await stream(echo_service, text, "translate")
    assert "".join(data["text"] for _, data in tokens) == envelope["results"][0]["translation"]
    assert "\n\n" in envelope["results"][0]["translation"]


async def test_with_beams_there_is_only_the_whole_answer(echo_service: Service) -> None:
    ((name, envelope),) = await stream(echo_service, model=MODEL, num_beams=2, num_return_sequences=2)
    assert name == "done"
    (result,) = envelope["results"]
    assert result["text"] == TEXT
    assert result["alternatives"] == [". good was film the"]


async def test_a_stop_string_is_not_told(echo_service: Service) -> None:
    *tokens, (_, envelope) = await stream(echo_service, model=MODEL, stop=["was"])
    assert "".join(data["text"] for _, data in tokens) == "the film " == envelope["results"][0]["text"]
    assert envelope["results"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("inputs", "options", "field"),
    [
        ([TEXT], {}, "stream: takes one item"),
        (" ", {}, "inputs: must not be empty"),
        (TEXT, {"max_new_tokens": 999}, "max_new_tokens: should be at most 63"),
        (TEXT, {"top_p": 0.5}, "top_p: counts only with"),
    ],
)
async def test_what_is_refused_is_refused_as_without_a_stream(
    echo_service: Service, inputs: object, options: dict[str, Any], field: str
) -> None:
    response = await echo_service.ask("generate", inputs, model=MODEL, stream=True, **options)
    assert check_problem(response, 422, "invalid_input").startswith(field)


async def test_a_long_text_is_refused_before_anything_is_sent(echo_service: Service) -> None:
    response = await echo_service.ask("generate", TEXT * 20, model=MODEL, stream=True)
    assert "truncation" in check_problem(response, 413, "too_large")


async def test_a_failing_engine_ends_the_stream_with_the_problem(writing: Writing) -> None:
    service, engine = writing
    caller = await begun(service, engine)
    engine.error = EngineFailed("the engine failed")
    engine.let()
    await caller.task
    *_, (name, problem) = parsed(body_of(caller))
    assert (name, problem["type"], problem["status"]) == ("error", "engine_failed", 503)
    assert service.sample("hooper_requests_total", task=MODEL, model=MODEL, status="503") == 1


async def test_a_deadline_ends_the_stream_with_the_problem(writing: Writing) -> None:
    service, engine = writing
    engine.hold()
    caller = Caller(service.app, path="/v1/generate", host="localhost", **{"x-request-timeout-ms": "200"})
    caller.send({"inputs": TEXT, "stream": True})
    engine.let(2)
    await caller.task
    *_, (name, problem) = parsed(body_of(caller))
    assert (name, problem["status"]) == ("error", 504)


async def test_a_client_that_leaves_frees_its_place(writing: Writing) -> None:
    service, engine = writing
    caller = await begun(service, engine)
    caller.leave()
    await caller.task
    engine.let()
    await turn()
    with service.live.registry.lease((MODEL,)) as deployment:
        assert deployment.scheduler._slots.num_free == 16  # type: ignore[attr-defined]
    assert service.sample("hooper_requests_total", task=MODEL, model=MODEL, status="499") == 1
    assert b"event: error" not in caller.sent[-1]["body"]


async def test_a_stream_that_the_service_cannot_finish_says_so(writing: Writing) -> None:
    service, engine = writing
    caller = await begun(service, engine)
    caller.task.cancel()  # as the server does when its time to drain is over
    await caller.task
    *_, (name, problem) = parsed(body_of(caller))
    assert (name, problem["status"], problem["detail"]) == ("error", 503, events.STOPPED)
    assert caller.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_silent_stream_has_a_heartbeat(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT_S", 0.01)
    service, engine = writing
    caller = await begun(service, engine)
    before = len(caller.sent)
    while len(caller.sent) < before + 2:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    assert caller.sent[-1]["body"] == events.COMMENT
    engine.let(10)
    await caller.task
    assert parsed(body_of(caller))[-1][0] == "done"


class Stalled(Caller):
    """One who takes the head of an answer, and nothing of its body."""

    async def _keep(self, message: Any) -> None:
        await super()._keep(message)
        if message["type"] == "http.response.body":
            await asyncio.get_running_loop().create_future()


async def test_a_reader_that_takes_nothing_holds_up_nobody(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LAST_WORD_S", 0.01)
    service, _ = writing
    stalled = Stalled(service.app, path="/v1/generate", host="localhost")
    stalled.send({"inputs": TEXT, "stream": True})
    assert (await stream(service))[-1][0] == "done"
    await turn()  # slots are free at the scheduler's next tick
    with service.live.registry.lease((MODEL,)) as deployment:
        assert deployment.scheduler._slots.num_free == 16  # type: ignore[attr-defined]
    assert len(stalled.sent) == 2  # its text is written all the same, and no more of it sent than it takes
    stalled.leave()
    await stalled.task


async def test_an_extractive_model_streams_nothing() -> None:
    async with echoing("translation") as (service, _):
        problem = await service.ask("summarize", TEXT, stream=True, method="abstractive")
        assert "`hooper models add` adds one" in check_problem(problem, 404, "unknown_model")


# --- what a key may have written


def allowed(num_tokens: int) -> Settings:
    hashes = tuple(hashlib.sha256(key.encode()).hexdigest() for key in ("a", "b"))
    return Settings(api_key_hashes=hashes, key_new_tokens_per_minute=num_tokens)


async def test_new_tokens_count_for_the_key_those_of_every_beam() -> None:
    async with echoing(MODEL, settings=allowed(7)) as (service, _):
        key = {"x-api-key": "a"}
        assert (await service.ask("generate", TEXT, key)).status_code == 200  # 6 tokens
        assert (await service.ask("generate", TEXT, key, stream=True, num_beams=2)).status_code == 200  # one is left; 12
        refused = await service.ask("generate", TEXT, key, stream=True)
        assert "7 new tokens a minute" in check_problem(refused, 429, "rate_limited")
        assert 60 * 11 / 7 < int(refused.headers["retry-after"]) <= 60 * 12 / 7 + 1
        assert (await service.ask("generate", TEXT, {"x-api-key": "b"})).status_code == 200


async def test_what_was_written_for_one_who_left_counts_too() -> None:
    async with echoing(MODEL, settings=allowed(2)) as (service, engine):
        caller = await begun(service, engine, key="a")
        caller.leave()
        await caller.task
        refused = await service.ask("generate", TEXT, {"x-api-key": "a"})
        check_problem(refused, 429, "rate_limited")


async def test_a_character_of_several_tokens_comes_whole(echo_service: Service) -> None:
    text = "the \U0001f642\U0001f469\u200d\U0001f469 film é"
    *tokens, (name, envelope) = await stream(echo_service, text, model=MODEL)
    pieces = [data["text"] for _, data in tokens]
    assert name == "done"
    assert "".join(pieces) == envelope["results"][0]["text"] == text
    assert not any("\ufffd" in piece for piece in pieces)


async def test_several_streams_are_told_as_they_come_and_the_first_error_ends_them() -> None:
    closed, let = [], asyncio.Event()

    async def counted(number: int, count: int) -> AsyncGenerator[int]:
        try:
            for value in range(count):
                yield value
                if number == 1:
                    await let.wait()
            if number == 2:
                raise EngineFailed("broken")
        finally:
            closed.append(number)

    async with aclosing(events.merged([counted(0, 3), counted(1, 2)])) as together:
        seen = [await anext(together) for _ in range(4)]
        assert sorted(seen) == [(0, 0), (0, 1), (0, 2), (1, 0)]
        let.set()
        assert [entry async for entry in together] == [(1, 1)]
    let.clear()
    with pytest.raises(EngineFailed):
        _ = [entry async for entry in events.merged([counted(1, 2), counted(2, 2)])]
    async with aclosing(events.merged([counted(3, 9), counted(1, 9)])) as left:
        await anext(left)
    assert sorted(closed) == [0, 1, 1, 1, 2, 3]
