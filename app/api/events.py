"""Answers that are sent while they are made: server-sent events, one for each piece, then one that ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from fastapi import BackgroundTasks
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.errors import error_response, internal_error
from app.api.scope import ENDED_AS
from app.core.errors import HooperError, Unavailable

EVENT_STREAM = "text/event-stream"
BEAT_S = 15.0
"""So often a comment is sent: whoever stands between, such as a proxy, may take a silent connection for a dead one."""
COMMENT = b": still writing\n\n"
LAST_WORD_S = 1.0
"""So long an error waits for room on a connection that nobody reads."""
STOPPED = "the service stopped before the text was finished"
T = TypeVar("T")
RenderError = Callable[[Response], bytes]
"""From the answer that an error would have been, had nothing been sent, to the event that tells it."""


def event(data: str | bytes, name: str = "") -> bytes:
    """One event; JSON as pydantic writes it has no line breaks."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + (data.encode() if isinstance(data, str) else data) + b"\n\n"


async def merged(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """What several streams give, as it comes, each with the number of its stream; the first error ends all of them.

    Invariant: each is read by one task, and closed by it; none is left when this one is closed.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for value in only:
                yield 0, value
        return
    # one place: a reader who is slow is waited for, as with a single stream
    values: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue(1)

    async def read(number: int) -> None:
        async with aclosing(streams[number]) as stream:
            async for value in stream:
                await values.put((number, value))

    async def read_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(len(streams)):
                    group.create_task(read(number))
        finally:
            with suppress(asyncio.QueueFull):
                values.put_nowait(None)  # else there is one that is read first

    reading = asyncio.create_task(read_all())
    try:
        while not (reading.done() and values.empty()):
            if (entry := await values.get()) is not None:
                yield entry
        try:
            reading.result()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def native_error(response: Response) -> bytes:
    return event(bytes(response.body), "error")


class EventStream(Response):
    """Sends events as they come. What fails before the first of them is raised, and answered as of any other request.

    Invariant: whoever makes the events is closed when nobody takes them any more, and every stream that is not cut off by its
    client ends with an event that says how.
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        first: bytes,
        events: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        background: BackgroundTasks | None,
        render_error: RenderError = native_error,
    ) -> None:
        """See `begun`."""
        super().__init__(headers={**headers, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}, background=background)
        del self.headers["content-length"]
        self._first, self._events, self._render_error = first, events, render_error

    @classmethod
    async def begun(
        cls,
        events: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        background: BackgroundTasks | None = None,
        render_error: RenderError = native_error,
    ) -> EventStream:
        """Wait for the first event.

        Args:
            events: at least one.
            background: what is done once all were sent.
            render_error: how the protocol tells an error behind the first event.

        Raises:
            HooperError: there is none.
        """
        try:
            first = await anext(events)
        except BaseException:
            await events.aclose()
            raise
        return cls(first, events, headers, background, render_error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_part(content: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": content, "more_body": more})

        beating = asyncio.ensure_future(_beat(send_part))
        try:
            async with aclosing(self._events):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await send_part(self._first)
                async for content in self._events:
                    await send_part(content)
            await send_part(b"", more=False)
        except (Exception, asyncio.CancelledError) as error:
            response = _refusal(scope, error)
            scope[ENDED_AS] = response.status_code
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await send_part(self._render_error(response))
                    await send_part(b"", more=False)
        finally:
            beating.cancel()
        if self.background is not None:
            await self.background()


def _refusal(scope: Scope, error: BaseException) -> Response:
    if isinstance(error, asyncio.CancelledError):  # the server's time to drain is over, or the client left and will not read it
        error = Unavailable(STOPPED)
    return error_response(scope, error) if isinstance(error, HooperError) else internal_error(scope, error)


async def _beat(send_part: Callable[[bytes], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        await send_part(COMMENT)
