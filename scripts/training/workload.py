"""How many tokens a run reads, by the length of its rows: what its time is estimated from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Tokens of each epoch, the last of which stands for all later ones; padding is left out."""

    tokens: Sequence[int]

    @classmethod
    def of(cls, lengths: Sequence[int], epoch_tokens: Sequence[int]) -> Workload:
        """
        Args:
            lengths: tokens of each row.
            epoch_tokens: longest row of each epoch; none: as they are.
        """
        return cls([sum(min(length, limit) for length in lengths) for limit in (epoch_tokens or [max(lengths)])])

    def until(self, epoch: float) -> float:
        """Tokens read from the beginning until this much of the epochs is done."""
        whole = math.floor(epoch)
        return sum(map(self._of, range(whole))) + (epoch - whole) * self._of(whole)

    def epochs_for(self, tokens: float) -> float:
        """Epochs, in part too, in which so many tokens are read."""
        epoch = 0
        while tokens >= self._of(epoch) and epoch < len(self.tokens):
            tokens -= self._of(epoch)
            epoch += 1
        return epoch + tokens / self._of(epoch)

    def _of(self, epoch: int) -> int:
        return self.tokens[min(epoch, len(self.tokens) - 1)]
