"""The client that blocks until its answers are there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from app.api.protocols.state import ModelState, Published, Ready
from hooper.client.base import (
    DEFAULT_IN_FLIGHT,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    CallOptions,
    ClientBase,
    answers_of,
    check_result,
)
from hooper.client.exchange import (
    Call,
    Pause,
    Piece,
    RawAnswer,
    Send,
    Steps,
    TimeLimit,
    ask_part,
    ask_single,
    ask_whole,
    piece_of,
)
from hooper.client.results import AnswerList, PartAnswers
from hooper.client.routes import ClientRoute
from hooper.inputs import read_inputs

if TYPE_CHECKING:  # the methods of the routes, for type checkers and editors; at run time they are made of the tasks
    from hooper.client.methods import Methods
else:
    Methods = object

T = TypeVar("T")


class Client(ClientBase, Methods):
    """Asks a running service. Safe to use from several threads; it keeps connections open, which `close` or a `with` block
    ends.

        with Client("http://127.0.0.1:8000", key) as client:
            client.classify(["A warm, funny film."])[0].labels[0].label

    There is a method for each route (`classify`, `answer`, `summarize`, `explain`, `feedback`, and those of tasks that packages
    bring), with the route's own options as keywords. Each takes a text, a mapping, a list of any length, an array of numpy, a
    column or a data frame, and gives results in the same order; with `_many` behind its name it takes any iterable, and gives
    results as they come. All of them take `model`, `errors`, `timeout`, `total_timeout` and `priority`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        **http: Any,
    ) -> None:
        """
        Args:
            url: of the service, with the prefix that a proxy has for it.
            key: an API key, where the service wants one.
            timeout: seconds that a request may take, all its attempts and the waits between them included; None: any time. A
                list is sent as one or several requests.
            max_in_flight: requests of one list that are sent at the same time.
            http: of `httpx.Client`, such as `verify`, `proxy` or `transport`.

        Raises:
            InvalidSettings: the url or the key is none.
        """
        super().__init__(url, key, timeout, max_in_flight)
        self._http = httpx.Client(base_url=self._url + "/", headers=self._headers, **http)

    def models(self) -> list[ModelState]:
        """What is loaded: what each model does, what it runs on, and how good it is."""
        return self._run(self._models())

    def health(self, wait: float = 0.0) -> Ready:
        """The models that answer.

        Args:
            wait: seconds to wait until the service is ready; 0: it is asked once.

        Raises:
            Unavailable: it is not ready.
            Unreachable: nobody answers.
        """
        return self._run(self._health(wait))

    def load(self, name: str, version: int | None = None, *, share: float | None = None, shadow: bool = False) -> Published:
        """Load a version, by default the latest, with an admin key; see `POST /v1/models/{name}/load`."""
        body = {"share": share, "shadow": shadow} if share is not None or shadow else None
        return self._run(self._admin(name, "load", {"version": version}, body))

    def promote(self, name: str) -> Published:
        """Let the version beside the main one be the main one, with an admin key."""
        return self._run(self._admin(name, "promote", {}))

    def unload(self, name: str, version: int | None = None) -> Published:
        """Forget a model, with an admin key."""
        return self._run(self._admin(name, "unload", {"version": version}))

    def post(self, path: str, body: Mapping[str, Any], *, is_idempotent: bool = False) -> Any:
        """The JSON that any route answers, such as a protocol's that has no method here.

        Args:
            path: within the service, as `v2/models/sentiment/infer`.
            body: of the request.
            is_idempotent: whether it may be sent again where no answer came.

        Raises:
            HooperError: what the service answered, or that it did not.
        """
        return self._run(self._post(path, body, is_idempotent))

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, route: ClientRoute, inputs: Any, **keywords: Any) -> AnswerList[Any]:
        own, options = CallOptions.split(keywords)
        call, items = self._call(route, own, options), read_inputs(inputs, route.schema)
        if route.is_whole:
            pieces = list(map(piece_of, items.listed()))
            return answers_of(route, replace(items, index=None), self._run(ask_whole(call, pieces)), own.errors)
        if items.is_single:
            (entry,) = items.entries
            return answers_of(route, items, self._run(ask_single(call, entry)), own.errors)
        total = PartAnswers([])
        for part in self._answered(call, map(piece_of, items.listed())):
            total.add(part)
        return answers_of(route, items, total, own.errors)

    def _ask_many(self, route: ClientRoute, inputs: Iterable[Any], **keywords: Any) -> Iterator[Any]:
        own, options = CallOptions.split(keywords)
        call, items = self._call(route, own, options), read_inputs(inputs, route.schema)
        return self._results(call, map(piece_of, items.entries), own)

    def _results(self, call: Call, pieces: Iterable[Piece], own: CallOptions) -> Iterator[Any]:
        number = 0
        for part in self._answered(call, pieces):
            for result in part.results:
                check_result(result, own.errors, number)
                yield result
                number += 1

    def _answered(self, call: Call, pieces: Iterable[Piece]) -> Iterator[PartAnswers]:
        """The answers to the parts, in order; of an iterable only so much is taken as is under way."""
        parts = call.parts(pieces)
        head = list(islice(parts, 2))
        if len(head) < 2:  # most calls: no thread is needed
            for part in head:
                yield self._run(ask_part(call, part))
            return
        pool = ThreadPoolExecutor(self._max_in_flight, "hooper-client")
        try:
            under_way: deque[Future[PartAnswers]] = deque(pool.submit(self._run, ask_part(call, part)) for part in head)
            for part in parts:
                if len(under_way) >= self._max_in_flight:
                    yield under_way.popleft().result()
                under_way.append(pool.submit(self._run, ask_part(call, part)))
            while under_way:
                yield under_way.popleft().result()
        finally:  # however it ends, nothing is sent behind it
            pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self._pause(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    answer = self._send(step)
                except httpx.TransportError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _send(self, send: Send) -> RawAnswer:
        deadline = TimeLimit(send.timeout_s)
        request = self._http.build_request(
            send.method, send.path, content=send.content, headers=send.headers, timeout=send.timeout_s
        )
        response = self._http.send(request, stream=True)
        try:
            content = bytearray()
            for chunk in response.iter_bytes():  # httpx times each of them, and not all
                content += chunk
                if not deadline.allows(0):
                    raise httpx.ReadTimeout("the answer came too slowly", request=request)
        finally:
            response.close()
        return RawAnswer(response.status_code, response.headers, bytes(content))
