"""What a client does for its caller: asking again, cutting what is too long, reading answers. Nothing here sends or sleeps.

A conversation is a generator: it yields what is to be done next, a `Send` or a `Pause`, and is sent the `RawAnswer`. So the
client that blocks and the one that is awaited do the same.
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from app.api.protocols.envelope import Envelope, FailedItem, failed
from app.core.errors import HooperError, InvalidInput, ModelFailed, Overloaded, TooLarge, Unavailable
from app.core.types import DEFAULT_MAX_BODY_BYTES, DEFAULT_MAX_ITEMS
from hooper.client.results import PartAnswers
from hooper.client.routes import ClientRoute
from hooper.errors import NotFound, ServiceFailed, TimedOut, Unreachable, error_from_service
from hooper.inputs import Entry

MODELS_PATH = "v1/models"
BASE_S, MAX_S = 0.25, 8.0
"""The first wait between two attempts and the longest, where the service names none."""
SHOWN = 200
"""Characters that are shown of an answer that is none of Hooper's."""


@dataclass(frozen=True, slots=True)
class Send:
    """A request to be sent, whose answer is to be there within `timeout_s`."""

    method: str
    path: str
    content: bytes | None
    headers: Mapping[str, str]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to do for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer, whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


T = TypeVar("T")
Steps: TypeAlias = Generator[Send | Pause, Any, T]


@dataclass(slots=True)
class TimeLimit:
    """A moment after which nobody waits for an answer any more; None: there is none."""

    timeout_s: float | None
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def remaining_s(self) -> float | None:
        return None if self.timeout_s is None else self.timeout_s - (self.clock() - self._began)

    @property
    def exceeded(self) -> TimedOut:
        return TimedOut(f"no answer within {self.timeout_s:g} seconds")

    def left(self) -> float | None:
        """Seconds; None: any number.

        Raises:
            TimedOut: there are none.
        """
        remaining_s = self.remaining_s
        if remaining_s is not None and remaining_s <= 0:
            raise self.exceeded
        return remaining_s

    def allows(self, seconds: float) -> bool:
        """Whether so much time is left."""
        return self.remaining_s is None or seconds < self.remaining_s

    def within(self, timeout_s: float | None) -> TimeLimit:
        """That of a part of the work, which has so much time, and no more than the whole has."""
        times = [seconds for seconds in (self.remaining_s, timeout_s) if seconds is not None]
        return TimeLimit(min(times) if times else None, self.clock)


@dataclass(slots=True)
class ServiceLimits:
    """What one request may hold. Assumed until the service has refused more; then asked for."""

    max_items: int = DEFAULT_MAX_ITEMS
    max_bytes: int = DEFAULT_MAX_BODY_BYTES
    are_known: bool = False

    def learn(self, models: Any) -> None:
        """From what the service says of its models; an older one says nothing, and the assumptions stay."""
        limits = models.get("limits") if isinstance(models, dict) else None
        if isinstance(limits, dict):
            self.max_items = int(limits.get("max_items", self.max_items))
            self.max_bytes = int(limits.get("max_body_bytes", self.max_bytes))
        self.are_known = True


Piece = bytes | HooperError
"""An item as JSON, or why there is none."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is the same for all requests of a list."""

    route: ClientRoute
    options: Mapping[str, Any]
    headers: Mapping[str, str]
    limits: ServiceLimits
    timeout_s: float | None
    """Of each request."""
    deadline: TimeLimit
    """Of all of them."""
    rng: random.Random

    def body(self, items: Sequence[bytes]) -> bytes:
        return self.body_of_single(b"[%s]" % b",".join(items))

    def body_of_single(self, item: bytes) -> bytes:
        return b"{%s:%s%s}" % (encoded(self.route.items_field), item, self._tail)

    @property
    def _tail(self) -> bytes:
        options = {name: value for name, value in self.options.items() if value is not None}
        return b"," + encoded(options)[1:-1] if options else b""

    def parts(self, pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
        """The items in order, as many together as a request may hold; an item that is longer comes by itself."""
        part: list[Piece] = []
        num_bytes = overhead = len(self.body([]))
        for piece in pieces:
            size = len(piece) + 1 if isinstance(piece, bytes) else 0
            if part and (len(part) >= self.max_items or num_bytes + size > self.limits.max_bytes):
                yield part
                part, num_bytes = [], overhead
            part.append(piece)
            num_bytes += size
        if part:
            yield part

    @property
    def max_items(self) -> int:
        return min(self.limits.max_items, self.route.max_items or self.limits.max_items)


def encoded(value: Any) -> bytes:
    """JSON. A lone surrogate is passed on: the service says what is wrong with it.

    Raises:
        InvalidInput: it cannot be written as JSON.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot be sent as JSON: {error}") from None


def piece_of(entry: Entry) -> Piece:
    if isinstance(entry, HooperError):
        return entry
    try:
        return encoded(entry)
    except InvalidInput as error:
        return error


# --- one request


def exchange(
    method: str,
    path: str,
    content: bytes | None,
    headers: Mapping[str, str],
    deadline: TimeLimit,
    rng: random.Random,
    is_repeatable: bool,
) -> Steps[RawAnswer]:
    """Ask until there is an answer, the time is over, or asking again is of no use.

    Args:
        method, path, content, headers: the request.
        deadline: of all attempts together.
        rng: of the jitter.
        is_repeatable: whether it may be sent again.

    Raises:
        HooperError: what the last attempt came to.
    """
    error: HooperError
    attempt = 0
    while True:
        remaining_s = deadline.left()
        try:
            answer: RawAnswer = yield Send(method, path, content, headers, remaining_s)
        except httpx.TimeoutException:
            raise deadline.exceeded from None
        except httpx.TransportError as failure:
            error, retry_after_s = unreachable(failure), None
        else:
            if 200 <= answer.status < 300:
                return answer
            error, retry_after_s = error_of(answer, path), retry_after(answer.headers)
        wait_s = wait_before(attempt, retry_after_s, rng)
        if not (is_repeatable and is_worth_repeating(error) and deadline.allows(wait_s)):
            raise error
        yield Pause(wait_s)
        attempt += 1


def is_worth_repeating(error: HooperError) -> bool:
    """Whether the same request may succeed a moment later. A model that could not be loaded stays so until somebody acts."""
    return isinstance(error, Overloaded | Unavailable | Unreachable) and not isinstance(error, ModelFailed | TimedOut)


def wait_before(attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
    """Seconds to wait after a failed attempt, counted from 0: never less than the service asks for, and callers who failed at
    one moment do not come back at one."""
    if retry_after_s is not None:
        return retry_after_s + rng.uniform(0, max(0.1, 0.1 * retry_after_s))
    return min(MAX_S, BASE_S * 2.0**attempt) * rng.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number or a date; None: the answer says nothing."""
    text = headers.get("retry-after", "").strip()
    with suppress(ValueError):
        return max(0.0, float(text))
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def unreachable(failure: httpx.TransportError) -> Unreachable:
    if isinstance(failure, httpx.ConnectError):
        return Unreachable(f"the service cannot be reached: {_reason(failure)}")
    return Unreachable(f"the connection was closed before the answer came: {_reason(failure)}")


def _reason(failure: Exception) -> str:
    return str(failure) or type(failure).__name__


def error_of(answer: RawAnswer, path: str) -> HooperError:
    """The error that an answer tells; one of somebody else, as a proxy, is quoted."""
    problem: Any = None
    with suppress(ValueError):
        problem = json.loads(answer.content)
    told = problem if isinstance(problem, dict) else {}
    request_id = str(told.get("request_id") or answer.headers.get("x-request-id", ""))
    if isinstance(told.get("detail"), str) and isinstance(told.get("type"), str):
        detail = f"the service has no /{path}" if told["type"] == NotFound.type else told["detail"]
        return error_from_service(answer.status, told["type"], detail, request_id, retry_after(answer.headers))
    target = answer.headers.get("location")
    if 300 <= answer.status < 400 and target:
        detail = f"the service has moved to {target}: give that address"
    else:
        quoted = " ".join(answer.content[:SHOWN].decode("utf-8", "replace").split())
        detail = f"the answer is {answer.status}, and none of Hooper's: {quoted or 'it is empty'}"
    return error_from_service(answer.status, "", detail, request_id, retry_after(answer.headers))


def value_of(answer: RawAnswer) -> Any:
    """
    Raises:
        ServiceFailed: the answer is no JSON.
    """
    try:
        return json.loads(answer.content)
    except ValueError:
        raise _not_hooper(answer, "no JSON") from None


Schema = TypeVar("Schema", bound=BaseModel)


def typed(schema: type[Schema], answer: RawAnswer, value: Any) -> Schema:
    """
    Raises:
        ServiceFailed: the answer has another shape than this version of Hooper knows.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
        raise _not_hooper(answer, f"not what this version reads ({place or 'its shape'} differs)") from None


def _not_hooper(answer: RawAnswer, why: str) -> ServiceFailed:
    error = ServiceFailed(f"the answer is {why}; is it a service of Hooper's, and of this version?")
    error.status, error.request_id = answer.status, answer.headers.get("x-request-id", "")
    return error


# --- many items


def ask_single(call: Call, entry: Entry) -> Steps[PartAnswers]:
    """Ask for one item.

    Raises:
        HooperError: it cannot be answered.
    """
    piece = piece_of(entry)
    if isinstance(piece, HooperError):
        raise piece
    answer = yield from _post(call, call.body_of_single(piece))
    part = _read(call, answer)
    if len(part.results) != 1:
        raise _not_hooper(answer, f"of {len(part.results)} results to one item")
    return part


def ask_whole(call: Call, pieces: Sequence[Piece]) -> Steps[PartAnswers]:
    """Ask for items of which none can be answered without the others, in one request.

    Raises:
        HooperError: they cannot be answered, or one of them is none.
    """
    for number, piece in enumerate(pieces):
        if isinstance(piece, HooperError):
            raise InvalidInput(piece.detail, f"{call.route.items_field}.{number}")
    answer = yield from _post(call, call.body([piece for piece in pieces if isinstance(piece, bytes)]))
    return _read(call, answer)


def ask_part(call: Call, pieces: Sequence[Piece]) -> Steps[PartAnswers]:
    """Ask for items, in as many requests as the service wants: what it refuses for its size is cut.

    Raises:
        HooperError: they cannot be answered, whatever each of them is.
    """
    items = [piece for piece in pieces if isinstance(piece, bytes)]
    if not items:
        return _merged(pieces, PartAnswers([]))
    answers = yield from _ask_items(call, items)
    return _merged(pieces, answers)


def _ask_items(call: Call, items: Sequence[bytes]) -> Steps[PartAnswers]:
    try:
        answer = yield from _post(call, call.body(items))
    except (TooLarge, InvalidInput) as error:
        if len(items) == 1:
            if error.status != 413:
                raise
            return PartAnswers([failed(error)])
        parts = yield from _cut(call, items, error)
        if len(parts) < 2:
            raise
        answers = PartAnswers([])
        for part in parts:
            answers.add((yield from _ask_items(call, part)))
        return answers
    answers = _read(call, answer)
    if len(answers.results) != len(items):
        raise _not_hooper(answer, f"of {len(answers.results)} results to {len(items)} items")
    again = [number for number, result in enumerate(answers.results) if _is_too_large(result)]
    if call.route.is_idempotent and 0 < len(again) < len(items):  # perhaps only beside the others
        rest = yield from _ask_items(call, [items[number] for number in again])
        for number, result in zip(again, rest.results, strict=True):
            answers.results[number] = result
        rest.results = []
        answers.add(rest)
    return answers


def _cut(call: Call, items: Sequence[bytes], error: HooperError) -> Steps[list[list[bytes]]]:
    """The items as the service takes them; all in one where their number and size are not what it refused."""
    if not call.limits.are_known:
        try:
            deadline = call.deadline.within(call.timeout_s)
            call.limits.learn(value_of((yield from exchange("GET", MODELS_PATH, None, {}, deadline, call.rng, True))))
        except HooperError:  # it was asked for help alone; what it refused is what the caller hears of
            call.limits.are_known = True
    parts: Any = list(call.parts(items))
    if len(parts) == 1 and error.status == 413:
        middle = len(items) // 2
        parts = [list(items[:middle]), list(items[middle:])]
    return parts  # type: ignore[no-any-return]  # pieces that are all items


def _post(call: Call, content: bytes) -> Steps[RawAnswer]:
    deadline = call.deadline.within(call.timeout_s)
    headers = dict(call.headers)
    if deadline.remaining_s is not None:  # the service need not go on for nobody
        headers["X-Request-Timeout-Ms"] = str(min(3_600_000, max(1, round(deadline.remaining_s * 1000))))
    return exchange("POST", call.route.path, content, headers, deadline, call.rng, call.route.is_idempotent)


def _read(call: Call, answer: RawAnswer) -> PartAnswers:
    result: Any = call.route.result
    envelope = typed(Envelope[result], answer, value_of(answer))
    request_id = answer.headers.get("x-request-id")
    return PartAnswers(list(envelope.results), envelope.model, envelope.usage.num_tokens, [request_id] if request_id else [])


def _merged(pieces: Sequence[Piece], answers: PartAnswers) -> PartAnswers:
    results = iter(answers.results)
    answers.results = [failed(piece) if isinstance(piece, HooperError) else next(results) for piece in pieces]
    return answers


def _is_too_large(result: Any) -> bool:
    return isinstance(result, FailedItem) and result.error.type == TooLarge.type
