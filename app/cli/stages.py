"""Groups of inputs through a model, several under way at once, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from app.cli.inputs import Asked
from app.core.errors import HooperError

Answers = list[dict[str, Any]]
UNDER_WAY = 4
"""One is being decoded, one is in the engine, one waits for it, one is made into rows."""


async def in_order(
    take: Callable[[], Sequence[Asked]], answer: Callable[[Sequence[Asked]], Awaitable[Answers]]
) -> AsyncGenerator[tuple[Sequence[Asked], Answers], None]:
    """Each group that `take` gives, with its answers.

    Args:
        take: the next inputs, none at the end; called on a thread.
        answer: their answers; at most `UNDER_WAY` calls at a time.

    Raises:
        HooperError: what stopped `take`, after everything before it; or what `answer` raised.
    """
    under_way: deque[tuple[Sequence[Asked], asyncio.Future[Answers]]] = deque()
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
            asked, answers = under_way[0]
            found = await answers
            under_way.popleft()
            yield asked, found
    finally:  # however it ends, nothing goes on behind it
        for _, answers in under_way:
            answers.cancel()
        await asyncio.gather(*(answers for _, answers in under_way), return_exceptions=True)
    if failure is not None:
        raise failure
