"""Nothing here happens but on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.strict_event_loop import impatient_loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"impatient": impatient_loop}
