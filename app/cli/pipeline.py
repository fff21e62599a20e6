"""Inputs on their way through a model: read ahead on a thread, cut into chunks, several chunks under way at once, in order."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

from app.cli.terminal import share_of
from app.core.errors import HooperError
from app.data import Input, InputSchema
from app.data.arrow import PARQUET, ArrowFile
from app.data.items import inputs_of

MAX_ITEMS = 256
MAX_CHARACTERS = 1_000_000
UNDER_WAY = 4
"""One is being decoded, one is in the engine, one waits for it, one is made into rows."""
Answers = list[dict[str, Any]]


def rows_after(stream: BinaryIO, source: str, schema: InputSchema, num_before: int) -> Generator[Input, None, None]:
    """The input's rows after those that an earlier run has answered."""
    yield from islice(inputs_of(stream, source, schema), num_before, None)


def share_read(stream: BinaryIO, source: str) -> Callable[[int], float]:
    """Which part of the input so many rows are, as far as can be told."""
    is_parquet = stream.read(len(PARQUET)) == PARQUET
    total = (ArrowFile(stream, source, "parquet").num_rows or 1) if is_parquet else 0
    stream.seek(0)
    return (lambda num_rows: num_rows / total) if total else share_of(stream)


def chunks(rows: Iterable[Input], max_items: int, max_characters: int) -> Iterator[list[Input]]:
    """The rows in order, so many together or so long, or one longer one: the same chunks whenever they are read."""
    chunk: list[Input] = []
    num_characters = 0
    for row in rows:
        if chunk and (len(chunk) == max_items or num_characters + row.num_characters > max_characters):
            yield chunk
            chunk, num_characters = [], 0
        chunk.append(row)
        num_characters += row.num_characters
    if chunk:
        yield chunk


class Prefetch:
    """Inputs are read on a thread while the engine computes.

    Invariant: it holds at most `max_items` inputs of `max_characters` together, or one longer one. The thread is a daemon:
    whoever stops does not wait for a pipe in which nothing comes.
    """

    def __init__(
        self, inputs: Generator[Input, None, None], max_items: int = MAX_ITEMS, max_characters: int = MAX_CHARACTERS
    ) -> None:
        self._inputs, self._max_items, self._max_characters = inputs, max_items, max_characters
        self._ready: list[Input] = []
        self._num_characters = 0
        self._changed = threading.Condition()
        self._is_over = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._read, name="prefetch", daemon=True).start()

    def take(self) -> list[Input]:
        """All that has been read, at least one input; nothing once all are taken.

        Raises:
            HooperError: what stopped the reading, after everything before it was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._is_over)
            inputs, self._ready, self._num_characters = self._ready, [], 0
            self._changed.notify_all()
        if not inputs and self._failure is not None:
            raise self._failure
        return inputs

    def close(self) -> None:
        """Let the thread end, wherever it is."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for item in self._inputs:
                if not self._put(item):
                    return
        except BaseException as error:  # it belongs to whoever takes
            self._failure = error
        finally:
            self._inputs.close()  # the file, too
            self.close()

    def _put(self, item: Input) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(item) or self._is_over)
            if self._is_over:
                return False
            self._ready.append(item)
            self._num_characters += item.num_characters
            self._changed.notify_all()
        return True

    def _has_room(self, item: Input) -> bool:
        fits = len(self._ready) < self._max_items and self._num_characters + item.num_characters <= self._max_characters
        return fits or not self._ready


async def in_order(
    take: Callable[[], Sequence[Input]], answer: Callable[[Sequence[Input]], Awaitable[Answers]]
) -> AsyncGenerator[tuple[Sequence[Input], Answers], None]:
    """Each chunk that `take` gives, with its answers.

    Args:
        take: the next inputs, none at the end; called on a thread.
        answer: their answers; at most `UNDER_WAY` calls at a time.

    Raises:
        HooperError: what stopped `take`, after everything before it; or what `answer` raised.
    """
    under_way: deque[tuple[Sequence[Input], asyncio.Future[Answers]]] = deque()
    failure: HooperError | None = None
    is_over = False
    try:
        while True:
            while not is_over and len(under_way) < UNDER_WAY:
                try:
                    inputs = await asyncio.to_thread(take)
                except HooperError as error:
                    inputs, failure = [], error
                if inputs:
                    under_way.append((inputs, asyncio.ensure_future(answer(inputs))))
                is_over = not inputs
            if not under_way:
                break
            first, future = under_way[0]
            answers = await future
            under_way.popleft()
            yield first, answers
    finally:  # however it ends, nothing goes on behind it
        for _, future in under_way:
            future.cancel()
        await asyncio.gather(*(future for _, future in under_way), return_exceptions=True)
    if failure is not None:
        raise failure
