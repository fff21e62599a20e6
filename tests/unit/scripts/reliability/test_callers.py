"""Callers count every answer: none, a second one, another's, or a wrong one is never taken for a good one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from scripts.reliability import callers
from scripts.reliability.callers import AnswerCounts, CountedRequest, Said, drive

Reply = Callable[[str], bytes | None]
"""From the id of a request to what is written; None closes the connection instead."""


def message(request_id: str, status: int = 200, score: float = 0.9, close: bool = False) -> bytes:
    body = {"model": {"name": "tiny", "version": 2}, "results": [{"labels": [{"label": "good", "score": score}]}]}
    content = json.dumps(body if status == 200 else {"type": "engine_failed"}).encode()
    end = "Connection: close\r\n" if close else ""
    head = f"HTTP/1.1 {status} Any\r\nX-Request-Id: {request_id}\r\n{end}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Replies:
    """A service that answers as a test says."""

    def __init__(self) -> None:
        self.reply: Reply = message
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(head.partition("Content-Length: ")[2].split()[0]))
                self.heads.append(head)
                answer = self.reply(head.partition("X-Request-Id: ")[2].split()[0])
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Replies, int]]:
    monkeypatch.setattr(callers, "SETTLE_S", 0.01)
    replies = Replies()
    server = await asyncio.start_server(replies.serve, "127.0.0.1", 0)
    yield replies, server.sockets[0].getsockname()[1]
    server.close()


Service = tuple[Replies, int]


async def counts(service: Service, *requests: CountedRequest, expected: dict[str, Said] | None = None) -> AnswerCounts:
    return await drive(service[1], requests, 1, {"a": 0.9} if expected is None else expected)


def ask(number: int = 1, **options: object) -> CountedRequest:
    return CountedRequest(number, "a", **options)  # type: ignore[arg-type]


async def test_good_answers_are_counted_with_their_version(service: Service) -> None:
    seen = await counts(service, ask(1), ask(2), ask(3))
    assert (seen.sent, seen.answered, seen.without_exactly_one_answer) == (3, 3, 0)
    assert (dict(seen.statuses), dict(seen.versions)) == ({200: 3}, {2: 3})
    assert seen.longest_s > 0


async def test_what_a_text_is_answered_is_learned_first(service: Service) -> None:
    expected: dict[str, Said] = {}
    await counts(service, ask(), expected=expected)
    assert expected == {"a": 0.9}


@pytest.mark.parametrize("reply", [lambda _: message("another-1"), lambda sent: message(sent, score=0.8)], ids=["id", "score"])
async def test_anothers_answer_is_wrong(service: Service, reply: Reply) -> None:
    service[0].reply = reply
    assert (await counts(service, ask())).wrong_answers == 1


async def test_a_second_answer_is_seen(service: Service) -> None:
    service[0].reply = lambda sent: message(sent) * 2
    assert (await counts(service, ask())).second_answers == 1


async def test_a_connection_that_ends_leaves_its_request_unanswered(service: Service) -> None:
    pending = iter([None, message("request-2")])
    service[0].reply = lambda _: next(pending)
    seen = await counts(service, ask(1), ask(2))
    assert (seen.unanswered, seen.answered) == (["request-1"], 1)


async def test_a_connection_that_the_service_closes_with_an_answer_is_replaced(service: Service) -> None:
    service[0].reply = lambda sent: message(sent, close=True)
    assert (await counts(service, ask(1), ask(2))).without_exactly_one_answer == 0


@pytest.mark.parametrize(
    ("status", "request_", "innocents"), [(503, ask(), 1), (503, ask(is_guilty=True), 0), (504, ask(timeout_ms=1), 0)]
)
async def test_only_guilty_rows_and_deadlines_may_fail(
    service: Service, status: int, request_: CountedRequest, innocents: int
) -> None:
    service[0].reply = lambda sent: message(sent, status)
    seen = await counts(service, request_)
    assert (seen.innocents_failed, dict(seen.errors)) == (innocents, {"engine_failed": 1})


async def test_who_leaves_is_not_answered_and_not_missed(service: Service) -> None:
    seen = await counts(service, ask(1, leaves_after_s=0.0), ask(2))
    assert (seen.sent, seen.left, seen.answered, seen.unanswered) == (2, 1, 1, [])


async def test_a_deadline_is_sent_in_its_header(service: Service) -> None:
    await counts(service, ask(1, timeout_ms=7), ask(2))
    assert ["X-Request-Timeout-Ms: 7" in head for head in service[0].heads] == [True, False]


async def test_a_service_that_is_gone_ends_callers_who_were_to_stay_until_then(unused_tcp_port: int) -> None:
    seen = await drive(unused_tcp_port, [ask()], 2, {}, until_closed=True)
    assert seen.sent == 0
    with pytest.raises(ConnectionError):
        await drive(unused_tcp_port, [ask()], 1, {})


# --- streams


def stream(request_id: str, *events: tuple[str, object]) -> bytes:
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events).encode()
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:]))
    head = f"HTTP/1.1 200 OK\r\nX-Request-Id: {request_id}\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    return head.encode() + b"\r\n" + parts + b"0\r\n\r\n"


RESULT = {"text": "a b", "finish_reason": "stop"}
DONE = "done", {"model": {"name": "tiny", "version": 2}, "results": [RESULT]}
PIECES = ("token", {"text": "a"}), ("token", {"text": " b"})
BROKEN = "error", {"type": "engine_failed", "status": 503}


@pytest.mark.parametrize(
    ("events", "statuses", "wrong", "unanswered"),
    [
        ((*PIECES, DONE), {200: 1}, 0, 0),
        ((DONE,), {200: 1}, 0, 0),
        ((PIECES[0], DONE), {200: 1}, 1, 0),
        ((PIECES[0], BROKEN), {503: 1}, 0, 0),
        (PIECES, {}, 0, 1),
        ((*PIECES, DONE, DONE), {}, 0, 1),
        ((BROKEN, DONE), {}, 0, 1),
    ],
    ids=["whole", "with beams", "a piece is missing", "broken off", "without an end", "with two ends", "goes on"],
)
async def test_of_a_stream_its_end_counts(
    service: Service, events: tuple[tuple[str, object], ...], statuses: dict[int, int], wrong: int, unanswered: int
) -> None:
    service[0].reply = lambda sent: stream(sent, *events)
    seen = await counts(service, ask(fields={"stream": True}), expected={"a": json.dumps(RESULT)})
    assert (dict(seen.statuses), seen.wrong_answers, len(seen.unanswered)) == (statuses, wrong, unanswered)


async def test_a_text_that_differs_in_anything_is_wrong(service: Service) -> None:
    service[0].reply = lambda sent: stream(sent, DONE)
    assert (await counts(service, ask(), expected={"a": json.dumps({**RESULT, "text": "a c"})})).wrong_answers == 1
