"""What happens to rows on their way, for whoever keeps the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.core.errors import HooperError

Reason = Literal["deadline", "client_left"]


@dataclass(frozen=True, slots=True)
class BatchRan:
    """One batch."""

    num_rows: int
    num_tokens: int
    num_computed_tokens: int
    inference_s: float


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """A batch that the engine did not answer, or a part of one that it was asked again."""

    num_rows: int
    error: HooperError


@dataclass(frozen=True, slots=True)
class RowsDropped:
    """Rows that never reached the engine, since nobody wanted their answer any more."""

    num_rows: int
    reason: Reason


Event = BatchRan | BatchFailed | RowsDropped
Tell = Callable[[Event], None]
