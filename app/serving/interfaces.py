"""What a deployment needs of whatever answers its rows and of the engine that runs them, here or in another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from app.batching.admission import QueueLimit
from app.batching.engine import CacheRows
from app.batching.policy import Budget
from app.batching.results import StreamedStep, SubmissionResult
from app.core.errors import Overloaded
from app.core.sequences import Sampling
from app.core.types import Priority, Row
from app.runtime.providers import Provider


class RowsUnderWay(Protocol):
    """Rows that are being written: `app.batching.results.Submission`, which says what each of these does, or one elsewhere."""

    @property
    def num_new_tokens(self) -> int: ...

    @property
    def future(self) -> asyncio.Future[SubmissionResult]: ...

    async def result(self) -> SubmissionResult: ...

    def stream(self) -> AsyncGenerator[StreamedStep]: ...


class RowQueue(Protocol):
    """What answers rows: `app.batching.scheduler.Scheduler`, which says what each of these does, or one behind a link."""

    @property
    def budget(self) -> Budget: ...

    @property
    def limit(self) -> QueueLimit: ...

    @property
    def num_waiting_rows(self) -> int: ...

    @property
    def num_waiting_tokens(self) -> int: ...

    @property
    def max_batch_tokens_now(self) -> int: ...

    @property
    def cache_rows(self) -> CacheRows | None: ...

    @property
    def is_alive(self) -> bool: ...

    @property
    def has_died(self) -> bool: ...

    def retry_after_s(self, num_tokens: int = 0) -> float: ...

    def check_open(self, priority: Priority = "interactive") -> None: ...

    def overload(self, priority: Priority = "interactive") -> Overloaded | None: ...

    def start(
        self, rows: Sequence[Row], deadline: float | None = None, priority: Priority = "interactive", sampling: Any = None
    ) -> RowsUnderWay: ...

    async def submit(
        self,
        rows: Sequence[Row],
        deadline: float | None = None,
        priority: Priority = "interactive",
        sampling: Sampling = None,
    ) -> SubmissionResult: ...

    async def wait_closed(self) -> bool: ...

    async def aclose(self, drain_s: float = 0.0) -> None: ...


class EngineInfo(Protocol):
    """What runs a graph, as far as a deployment tells of it and ends it."""

    @property
    def provider(self) -> Provider: ...

    @property
    def execution_providers(self) -> list[str]: ...

    @property
    def num_threads(self) -> int: ...

    @property
    def decoder_provider(self) -> Provider | None:
        """Of the graph that writes; None: there is none."""

    @property
    def decoder_execution_providers(self) -> list[str]: ...

    async def aclose(self, patience_s: float | None = None) -> None: ...
