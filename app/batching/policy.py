"""Budget and selection: pure functions over lengths, interactive rows before bulk ones, each in the order of arrival."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from app.core.sequences import Phase
from app.core.types import LayoutName

LOOKAHEAD_ROWS = 256
"""How many waiting rows are looked at for a batch: enough to fill it, and a bound on the time that choosing takes."""

BULK_PATIENCE = 8
"""So many batches in a row may pass over the oldest bulk row; it opens the next one."""

PACKED_SHARE = 125 / 128
"""So much of its tokens a packed batch is filled with: rows that leave no gap at all need another tensor row, which fixed
shapes round up to several (measured: filled with 1,024 of 1,024 tokens, 0.69 of the tensor was of use; with 1,000, 0.96)."""

SMALLEST_SHARE = 256
"""Tokens that an engine beside others may always take: a batch of fewer reads the model's weights for too little."""

SMALLEST_BUDGET = 16
"""Tokens below which a budget is not halved further for want of memory: by then batches are single rows."""

GOOD_BATCHES = 256
"""Batches in a row that must have had memory enough before a halved budget is doubled again."""

WaitingT = TypeVar("WaitingT")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one batch may hold. Tokens count what the engine computes: padded ones too where rows are padded."""

    max_batch_tokens: int
    max_batch_rows: int
    layout: LayoutName

    filled_share: float = 1.0
    """Of the tokens, how much several rows together may take: the rest is for the gaps between them."""

    @classmethod
    def for_tensors(cls, max_batch_tokens: int, max_batch_rows: int, layout: LayoutName) -> Budget:
        """One whose batches fit into tensors of so many tokens."""
        return cls(max_batch_tokens, max_batch_rows, layout, PACKED_SHARE if layout == "packed" else 1.0)

    def cost(self, num_rows: int, longest: int, total: int) -> int:
        """Tokens that a batch of these rows costs."""
        return total if self.layout == "packed" else num_rows * longest

    def shared(self, num_engines: int, num_free: int, num_waiting_tokens: int) -> Budget:
        """What one of several engines may take, so that all together hold what one alone would, or `SMALLEST_SHARE` each, and
        none idles while another takes everything.

        Args:
            num_engines: that share this budget.
            num_free: of these, without a batch, the asking one included.
        """
        limit = min(self.max_batch_tokens, max(SMALLEST_SHARE, self.max_batch_tokens // num_engines))
        fair = math.ceil(num_waiting_tokens / num_free / self.filled_share) if num_free > 1 else limit
        return replace(self, max_batch_tokens=min(limit, fair))

    def fits(self, num_tokens: int) -> bool:
        """Whether a row can ever run."""
        return num_tokens <= self.max_batch_tokens


@dataclass(frozen=True, slots=True)
class AdaptiveTokenBudget:
    """The budget that memory allows now. Never more than the configured one."""

    configured: Budget
    budget: Budget
    num_good: int = 0

    @classmethod
    def of(cls, configured: Budget) -> AdaptiveTokenBudget:
        return cls(configured, configured)

    def after_out_of_memory(self) -> AdaptiveTokenBudget:
        """Half of it."""
        tokens = max(min(SMALLEST_BUDGET, self.configured.max_batch_tokens), self.budget.max_batch_tokens // 2)
        return AdaptiveTokenBudget(self.configured, replace(self.budget, max_batch_tokens=tokens))

    def after_success(self) -> AdaptiveTokenBudget:
        """Twice of it at last: whoever took the memory may have given it back, and trying costs one batch of many its retry."""
        if self.budget == self.configured:
            return self
        if self.num_good + 1 < GOOD_BATCHES:
            return replace(self, num_good=self.num_good + 1)
        tokens = min(self.configured.max_batch_tokens, 2 * self.budget.max_batch_tokens)
        return AdaptiveTokenBudget(self.configured, replace(self.budget, max_batch_tokens=tokens))


def admits_first(num_active: int, last_phase: Phase) -> bool:
    """Whether waiting sequences, rather than those that are being generated, come first in the next step.

    The two take turns where both could run: no sequence that goes on is held up by more than one batch of newcomers, and no
    newcomer for whom there is room by more than one decode step.

    Args:
        last_phase: of the step before.
    """
    return not num_active or last_phase == "decode"


def offered(interactive: Sequence[WaitingT], bulk: Sequence[WaitingT], num_passed_over: int) -> list[WaitingT]:
    """Waiting rows in the order in which they may join the next batch: interactive ones, then bulk.

    Args:
        interactive, bulk: the waiting rows of either priority, oldest first.
        num_passed_over: batches since the oldest bulk row first waited in vain; `BULK_PATIENCE` of them put it first.
    """
    num_first = int(num_passed_over >= BULK_PATIENCE)
    return [*bulk[:num_first], *interactive, *bulk[num_first:]]


def select(lengths: Iterable[int], budget: Budget) -> list[int]:
    """Indices of the rows to run next, from the lengths of the waiting ones, in the order in which they are offered.

    The first row always runs, so nothing waits for ever; the rows after it fill what the budget leaves, in order, and one
    that does not fit is passed over for this batch only.
    """
    indexes: list[int] = []
    longest = total = 0
    for index, length in enumerate(lengths):
        if len(indexes) == budget.max_batch_rows or index == LOOKAHEAD_ROWS:
            break
        cost = budget.cost(len(indexes) + 1, max(longest, length), total + length)
        if indexes and cost > budget.max_batch_tokens * budget.filled_share:
            continue
        indexes.append(index)
        longest, total = max(longest, length), total + length
    return indexes


def offline_order(lengths: Sequence[int], layout: LayoutName, usual_width: int) -> list[int]:
    """Indices of rows in the order in which they make the fullest batches, where nobody waits for a single one.

    Args:
        lengths: tokens of each row.
        layout: padded batches want rows of the same length, packed ones a mixture of short rows to fill their gaps with.
        usual_width: packed rows up to this length share tensor rows of this width; longer ones widen the whole tensor.

    Returns:
        Longest first; packed rows that are not longer than `usual_width` last, as they came.
    """
    floor = usual_width if layout == "packed" else 0
    return sorted(range(len(lengths)), key=lambda index: -max(lengths[index], floor))
