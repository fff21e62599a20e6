"""How large a batch may be while memory is short: pure decisions over one value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.batching.policy import Budget

SMALLEST = 16
"""Tokens below which the budget is not halved further: by then batches are single rows."""

GOOD_BATCHES = 256
"""Batches in a row that must have had memory enough before the budget is doubled again."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """The budget that memory allows now. Never more than the configured one."""

    configured: Budget
    budget: Budget
    num_good: int = 0

    @classmethod
    def of(cls, configured: Budget) -> Allowance:
        return cls(configured, configured)

    def after_out_of_memory(self) -> Allowance:
        """Half of it."""
        tokens = max(min(SMALLEST, self.configured.max_batch_tokens), self.budget.max_batch_tokens // 2)
        return Allowance(self.configured, replace(self.budget, max_batch_tokens=tokens))

    def after_success(self) -> Allowance:
        """Twice of it at last: whoever took the memory may have given it back, and asking costs one batch of many its retry."""
        if self.budget == self.configured:
            return self
        if self.num_good + 1 < GOOD_BATCHES:
            return replace(self, num_good=self.num_good + 1)
        tokens = min(self.configured.max_batch_tokens, 2 * self.budget.max_batch_tokens)
        return Allowance(self.configured, replace(self.budget, max_batch_tokens=tokens))
