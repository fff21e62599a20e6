"""What a client does for its caller, step by step: nothing is sent here, and no time passes but the test's own."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from app.core.errors import HooperError, InvalidInput, ModelFailed, Overloaded, Unavailable
from hooper.client.exchange import (
    Call,
    Pause,
    RawAnswer,
    Send,
    ServiceLimits,
    TimeLimit,
    ask_part,
    encoded,
    error_of,
    exchange,
    piece_of,
    retry_after,
    wait_before,
)
from hooper.client.routes import FEEDBACK, routes
from hooper.errors import NotFound, ServiceFailed, TimedOut, Unreachable
from tests.support.scripted_server import envelope, problem

CLASSIFY = routes()["classify"]


@dataclass
class World:
    """Answers what is sent, and lets time pass."""

    replies: list[Any]
    now: float = 0.0
    sent: list[Send] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def run(self, steps: Any) -> Any:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = steps.send(None)
                    continue
                self.sent.append(step)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                reply = reply(step) if callable(reply) else reply
                step = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
        except StopIteration as end:
            return end.value

    def ask(self, timeout_s: float | None = 60.0, is_repeatable: bool = True) -> RawAnswer:
        steps = exchange("POST", "v1/x", b"{}", {}, TimeLimit(timeout_s, self.clock), random.Random(1), is_repeatable)
        answer: RawAnswer = self.run(steps)
        return answer

    def call(self, limits: ServiceLimits | None = None, **changes: Any) -> Call:
        values: dict[str, Any] = {
            "route": CLASSIFY, "options": {}, "headers": {}, "limits": limits or ServiceLimits(), "timeout_s": 60.0,
            "deadline": TimeLimit(None, self.clock), "rng": random.Random(1), **changes,
        }  # fmt: skip
        return Call(**values)


def told(status: int, kind: str, **headers: str) -> RawAnswer:
    return RawAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, encoded(problem(status, kind)))


def good(*labels: str) -> RawAnswer:
    return RawAnswer(200, {"x-request-id": "abc"}, encoded(envelope(*labels)))


GOOD = RawAnswer(200, {}, b"{}")


def test_a_full_queue_is_asked_again_after_what_it_says_and_not_before() -> None:
    world = World([told(429, "overloaded", retry_after="7"), told(429, "rate_limited", retry_after="2"), GOOD])
    assert world.ask() == GOOD
    first, second = world.pauses
    assert 7 <= first <= 7.7
    assert 2 <= second <= 2.2


@pytest.mark.parametrize("failure", [told(503, "unavailable"), httpx.ConnectError("refused"), httpx.RemoteProtocolError("-")])
def test_what_may_soon_succeed_is_asked_again_ever_later(failure: Any) -> None:
    world = World([failure] * 8 + [GOOD])
    assert world.ask() == GOOD
    assert all(0.125 <= pause <= 8 for pause in world.pauses)
    assert world.pauses[5] > world.pauses[0]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (told(503, "model_failed"), ModelFailed),
        (told(422, "invalid_input"), InvalidInput),
        (told(500, "internal"), ServiceFailed),
        (httpx.ReadTimeout("slow"), TimedOut),
    ],
)
def test_what_asking_again_cannot_help_is_raised_at_once(failure: Any, error: type[HooperError]) -> None:
    world = World([failure])
    with pytest.raises(error):
        world.ask()
    assert len(world.sent) == 1


@pytest.mark.parametrize("failure", [told(429, "overloaded", retry_after="1"), httpx.ConnectError("refused")])
def test_what_must_not_happen_twice_is_sent_once(failure: Any) -> None:
    world = World([failure])
    with pytest.raises((Overloaded, Unreachable)):
        world.ask(is_repeatable=False)
    assert len(world.sent) == 1


def test_all_attempts_and_waits_together_keep_within_the_time() -> None:
    world = World([told(503, "unavailable")])
    with pytest.raises(Unavailable):
        world.ask(timeout_s=5)
    assert world.now < 5
    assert [send.timeout_s for send in world.sent] == sorted((send.timeout_s for send in world.sent), reverse=True)


def test_nobody_waits_for_a_moment_that_comes_too_late() -> None:
    world = World([told(429, "overloaded", retry_after="30")])
    with pytest.raises(Overloaded) as raised:
        world.ask(timeout_s=10)
    assert (world.pauses, raised.value.retry_after_s) == ([], 30)


def test_an_error_says_its_status_and_the_id_of_its_request() -> None:
    error = error_of(told(404, "unknown_model"), "v1/x")
    assert (type(error).__name__, error.status, error.request_id, error.detail) == ("UnknownModel", 404, "abc", "so it is")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (told(404, "not_found"), NotFound, "the service has no /v1/x"),
        (
            RawAnswer(502, {}, b"<html>Bad   gateway</html>"),
            Unavailable,
            "the answer is 502, and none of Hooper's: <html>Bad",
        ),
        (RawAnswer(500, {}, b""), ServiceFailed, "none of Hooper's: it is empty"),
        (RawAnswer(308, {"location": "https://h/"}, b""), ServiceFailed, "the service has moved to https://h/"),
        (told(418, "new_in_two_years"), HooperError, "so it is"),
    ],
)
def test_an_answer_of_somebody_else_is_an_error_in_words(answer: RawAnswer, kind: type[HooperError], words: str) -> None:
    error = error_of(answer, "v1/x")
    assert isinstance(error, kind)
    assert words in error.detail


@pytest.mark.parametrize(("text", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-2", 0.0), ("soon", None), ("", None)])
def test_a_moment_to_come_back_is_read(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}) == seconds


def test_a_moment_may_be_a_date() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


def test_callers_who_failed_together_do_not_come_back_together() -> None:
    assert len({wait_before(0, 1.0, random.Random(seed)) for seed in range(9)}) == 9


# lists


def bodies(world: World) -> list[list[str]]:
    return [json.loads(send.content)["inputs"] for send in world.sent if send.content]


def outcome(result: Any) -> str:
    return str(result.error.detail if hasattr(result, "error") else result.labels[0].label)


def echo(send: Send) -> RawAnswer:
    return good(*json.loads(send.content or b"")["inputs"])


def test_a_list_is_cut_where_a_request_is_full() -> None:
    call = World([echo]).call(ServiceLimits(max_items=3, max_bytes=60))
    texts = ["a", "b", "c", "d", "x" * 50, "e"]
    parts = [[json.loads(item) for item in part if isinstance(item, bytes)] for part in call.parts(map(piece_of, texts))]
    assert parts == [["a", "b", "c"], ["d"], ["x" * 50], ["e"]]
    assert all(len(call.body([encoded(text) for text in part])) <= 60 for part in parts if len(part) > 1)


def test_what_is_no_item_is_not_sent_and_has_its_error_in_its_place() -> None:
    world = World([echo])
    part = world.run(ask_part(world.call(), [b'"a"', InvalidInput("it is empty"), b'"b"']))
    assert bodies(world) == [["a", "b"]]
    assert [outcome(result) for result in part.results] == ["a", "it is empty", "b"]


def test_a_refused_list_is_cut_by_the_limits_that_the_service_tells() -> None:
    limits = RawAnswer(200, {}, b'{"models":[],"failed":[],"limits":{"max_items":2,"max_body_bytes":1000}}')
    world = World([told(422, "invalid_input"), limits, echo])
    call = world.call()
    part = world.run(ask_part(call, [encoded(text) for text in "abcde"]))
    assert [result.labels[0].label for result in part.results] == list("abcde")
    assert bodies(world)[1:] == [["a", "b"], ["c", "d"], ["e"]]
    assert (call.limits.max_items, call.limits.are_known) == (2, True)


def test_a_refusal_of_an_option_is_no_matter_of_size() -> None:
    limits = RawAnswer(200, {}, b'{"models":[],"failed":[],"limits":{"max_items":256,"max_body_bytes":1000}}')
    world = World([told(422, "invalid_input"), limits])
    with pytest.raises(InvalidInput):
        world.run(ask_part(world.call(), [b'"a"', b'"b"']))
    assert [send.path for send in world.sent] == ["v1/classify", "v1/models"]


def test_a_list_that_is_too_large_is_halved_until_the_one_that_is_it_stands_alone() -> None:
    def refuse_long(send: Send) -> RawAnswer:
        inputs = json.loads(send.content or b"")["inputs"]
        return told(413, "too_large") if "long" in inputs else good(*inputs)

    world = World([refuse_long])
    part = world.run(ask_part(world.call(ServiceLimits(are_known=True)), [encoded(text) for text in ("a", "b", "long", "c")]))
    assert [type(result).__name__ for result in part.results] == [
        "ClassifyResult",
        "ClassifyResult",
        "FailedItem",
        "ClassifyResult",
    ]


def test_an_item_that_was_too_large_beside_others_is_asked_again() -> None:
    failed = {"error": {"type": "too_large", "detail": "too many together"}}
    first = envelope("a")
    first["results"].append(failed)
    world = World([RawAnswer(200, {}, encoded(first)), echo])
    part = world.run(ask_part(world.call(), [b'"a"', b'"b"']))
    assert [result.labels[0].label for result in part.results] == ["a", "b"]
    assert bodies(world) == [["a", "b"], ["b"]]


def test_a_correction_is_not_sent_again_for_any_reason() -> None:
    world = World([told(503, "unavailable")])
    with pytest.raises(Unavailable):
        world.run(ask_part(world.call(route=FEEDBACK), [b"{}"]))
    assert len(world.sent) == 1


def test_an_answer_with_too_few_results_is_not_taken() -> None:
    world = World([good("a")])
    with pytest.raises(ServiceFailed, match="of 1 results to 2 items"):
        world.run(ask_part(world.call(), [b'"a"', b'"b"']))


def test_an_answer_of_another_shape_names_what_differs() -> None:
    world = World([RawAnswer(200, {}, b'{"model":{"name":"a"},"results":[],"usage":{"num_tokens":1}}')])
    with pytest.raises(ServiceFailed, match=r"model\.version differs"):
        world.run(ask_part(world.call(), [b'"a"']))


def test_the_service_is_told_how_long_the_caller_waits() -> None:
    world = World([echo])
    world.run(ask_part(world.call(timeout_s=2.5), [b'"a"']))
    assert world.sent[0].headers["X-Request-Timeout-Ms"] == "2500"


def test_what_is_no_json_is_refused_before_it_is_sent() -> None:
    assert isinstance(piece_of({"text": object()}), InvalidInput)
    assert isinstance(piece_of({"text": float("inf")}), InvalidInput)
    assert piece_of("\ud800") == b'"\xed\xa0\x80"'  # the service says what is wrong with it
