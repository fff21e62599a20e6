"""The client that is awaited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
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
from hooper.client.exchange import Call, Pause, Piece, RawAnswer, Send, Steps, ask_part, ask_single, ask_whole, piece_of
from hooper.client.results import AnswerList, PartAnswers
from hooper.client.routes import ClientRoute
from hooper.inputs import ReadInputs, entry_of, read_inputs

if TYPE_CHECKING:  # as for the client that blocks
    from hooper.client.methods import AsyncMethods
else:
    AsyncMethods = object

T = TypeVar("T")


class AsyncClient(ClientBase, AsyncMethods):
    """`Client` for asyncio: the same methods, to be awaited. Those with `_many` behind the name are for `async for`, and take
    iterables of either kind."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        **http: Any,
    ) -> None:
        """As for `Client`; `http` is of `httpx.AsyncClient`."""
        super().__init__(url, key, timeout, max_in_flight)
        self._http = httpx.AsyncClient(base_url=self._url + "/", headers=self._headers, **http)

    async def models(self) -> list[ModelState]:
        """See `Client.models`."""
        return await self._run(self._models())

    async def health(self, wait: float = 0.0) -> Ready:
        """See `Client.health`."""
        return await self._run(self._health(wait))

    async def load(
        self, name: str, version: int | None = None, *, share: float | None = None, shadow: bool = False
    ) -> Published:
        """See `Client.load`."""
        body = {"share": share, "shadow": shadow} if share is not None or shadow else None
        return await self._run(self._admin(name, "load", {"version": version}, body))

    async def promote(self, name: str) -> Published:
        """See `Client.promote`."""
        return await self._run(self._admin(name, "promote", {}))

    async def unload(self, name: str, version: int | None = None) -> Published:
        """See `Client.unload`."""
        return await self._run(self._admin(name, "unload", {"version": version}))

    async def post(self, path: str, body: Mapping[str, Any], *, is_idempotent: bool = False) -> Any:
        """See `Client.post`."""
        return await self._run(self._post(path, body, is_idempotent))

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, route: ClientRoute, inputs: Any, **keywords: Any) -> AnswerList[Any]:
        own, options = CallOptions.split(keywords)
        call = self._call(route, own, options)
        items = read_inputs(inputs, route.schema)
        if route.is_whole:
            pieces = list(map(piece_of, items.listed()))
            return answers_of(route, replace(items, index=None), await self._run(ask_whole(call, pieces)), own.errors)
        if items.is_single:
            (entry,) = items.entries
            return answers_of(route, items, await self._run(ask_single(call, entry)), own.errors)
        total = PartAnswers([])
        async for part in self._answered(call, _parts(call, items.listed())):
            total.add(part)
        return answers_of(route, items, total, own.errors)

    async def _ask_many(
        self, route: ClientRoute, inputs: Iterable[Any] | AsyncIterable[Any], **keywords: Any
    ) -> AsyncIterator[Any]:
        own, options = CallOptions.split(keywords)
        call = self._call(route, own, options)
        parts = _parts_as_they_come(call, inputs) if isinstance(inputs, AsyncIterable) else _parts(call, _entries(call, inputs))
        number = 0
        async with aclosing(self._answered(call, parts)) as answered:  # whoever stops reading stops the requests
            async for part in answered:
                for result in part.results:
                    check_result(result, own.errors, number)
                    yield result
                    number += 1

    async def _answered(self, call: Call, parts: AsyncIterator[list[Piece]]) -> AsyncGenerator[PartAnswers, None]:
        under_way: deque[asyncio.Task[PartAnswers]] = deque()
        try:
            async for part in parts:
                if len(under_way) >= self._max_in_flight:
                    yield await under_way[0]
                    under_way.popleft()
                under_way.append(asyncio.create_task(self._run(ask_part(call, part))))
            while under_way:
                yield await under_way[0]
                under_way.popleft()
        finally:  # however it ends, nothing is sent behind it
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await self._pause(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    answer = await self._send(step)
                except httpx.TransportError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _send(self, send: Send) -> RawAnswer:
        request = self._http.build_request(
            send.method, send.path, content=send.content, headers=send.headers, timeout=send.timeout_s
        )
        try:
            async with asyncio.timeout(send.timeout_s):
                response = await self._http.send(request)
        except TimeoutError:
            raise httpx.ReadTimeout("the answer came too slowly", request=request) from None
        return RawAnswer(response.status_code, response.headers, response.content)


def _entries(call: Call, inputs: Any) -> Iterable[Any]:
    items: ReadInputs = read_inputs(inputs, call.route.schema)
    return items.entries


async def _parts(call: Call, entries: Iterable[Any]) -> AsyncIterator[list[Piece]]:
    for part in call.parts(map(piece_of, entries)):
        yield part


async def _parts_as_they_come(call: Call, inputs: AsyncIterable[Any]) -> AsyncIterator[list[Piece]]:
    """Parts of what is itself awaited."""
    waiting: list[Piece] = []
    async for value in inputs:
        waiting.append(piece_of(entry_of(value, call.route.schema.specs)))
        *whole, waiting = call.parts(waiting)
        for part in whole:
            yield part
    if waiting:
        yield waiting
