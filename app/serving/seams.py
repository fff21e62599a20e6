"""What a deployment needs of the two that compute for it, which may be here or in another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.scheduler import SubmissionResult
from app.core.errors import Overloaded
from app.core.types import Priority, Row
from app.runtime.providers import Provider


class Queueing(Protocol):
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
    def is_alive(self) -> bool: ...

    @property
    def has_died(self) -> bool: ...

    def retry_after_s(self, num_tokens: int = 0) -> float: ...

    def check_open(self, priority: Priority = "interactive") -> None: ...

    def overload(self, priority: Priority = "interactive") -> Overloaded | None: ...

    async def submit(
        self, rows: Sequence[Row], deadline: float | None = None, priority: Priority = "interactive"
    ) -> SubmissionResult: ...

    async def wait_closed(self) -> bool: ...

    async def aclose(self, drain_s: float = 0.0) -> None: ...


class Computing(Protocol):
    """What runs a graph, as far as a deployment tells of it and ends it."""

    @property
    def provider(self) -> Provider: ...

    @property
    def execution_providers(self) -> list[str]: ...

    @property
    def num_threads(self) -> int: ...

    async def aclose(self, patience_s: float | None = None) -> None: ...
