"""Which tensors a batch is computed in, where an engine computes every shape at the cost of its tokens. Pure.

A tensor of a fixed width has gaps, and attention costs every token the more the wider its tensor row is. So the width is
chosen for the rows at hand, and long rows go into a tensor of their own where they would widen it for many short ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.core.types import LayoutName
from app.runtime.layout import Plan, num_computed_tokens, pack, plan

ATTENTION_WIDTH = 600
"""Tokens of a tensor row in which attention takes as long as everything else (measured on one thread of an AMD EPYC, MiniLM:
600 in int8, 1,500 in fp32)."""
TENSOR_TOKENS = 10
"""What one tensor more costs, in tokens (measured likewise: 10 in int8, 6 in fp32)."""
LONG = (64, 128, 256)
"""A batch may be split between rows that are longer than one of these, and the others."""
SLACKS = (1.0, 1.03, 1.06, 1.1)
"""Room over what the rows need that widths are tried with: rows seldom fill a given number of tensor rows without a gap."""
MAX_WIDTH = 192
"""Tokens beyond which rows are not packed side by side, unless one of them is longer."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a batch that share a tensor."""

    indices: Sequence[int]
    where: Plan


def parts(lengths: Sequence[int], layout: LayoutName) -> list[Part]:
    """The cheapest tensors found for rows of these lengths: one or two, every row in one of them.

    Args:
        lengths: tokens of each row; at least one row.
        layout: `padded` puts one row in a tensor row, `packed` as many as fit.
    """
    best = [Part(range(len(lengths)), _tensor(lengths, layout))]
    falling = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    for num_long in sorted({sum(length > limit for length in lengths) for limit in LONG} - {0, len(lengths)}):
        groups = falling[:num_long], falling[num_long:]
        if sum(_lower_bound(lengths, group) for group in groups) >= cost(best):
            continue
        split = [Part(group, _tensor([lengths[index] for index in group], layout)) for group in groups]
        if cost(split) < cost(best):
            best = split
    return best


def _tensor(lengths: Sequence[int], layout: LayoutName) -> Plan:
    best = plan(lengths, layout, fixed_shapes=False)
    if layout == "padded" or len(lengths) == 1:
        return best
    lowest, total = _price(best), sum(lengths)
    for width in sorted(_widths(max(lengths), total, len(lengths)), key=lambda width: _lower_bound_at(width, total)):
        if _lower_bound_at(width, total) >= lowest:
            break
        layout_plan = pack(lengths, width)
        if _price(layout_plan) < lowest:
            best, lowest = layout_plan, _price(layout_plan)
    return best


def _widths(longest: int, total: int, num_rows: int) -> set[int]:
    """Widths at which so many tokens may leave little of their tensor rows empty."""

    def per_line() -> Iterator[int]:
        for height in range(1, num_rows + 1):
            yield math.ceil(total / height)
            if total <= height * longest:
                return

    widths = (math.ceil(width * slack) for width in per_line() if width <= max(MAX_WIDTH, longest) for slack in SLACKS)
    return {max(longest, width) for width in widths}


def _price(where: Plan) -> float:
    return _price_of(num_computed_tokens(where), where.width)


def _price_of(num_tokens: int, width: int) -> float:
    """What a tensor of so many tokens costs, in tokens of a narrow one."""
    return num_tokens * (1 + width / ATTENTION_WIDTH) + TENSOR_TOKENS


def _lower_bound_at(width: int, total: int) -> float:
    return _price_of(math.ceil(total / width) * width, width)


def _lower_bound(lengths: Sequence[int], group: Sequence[int]) -> float:
    """What the rows cost at the least, in a tensor without a gap."""
    of_group = [lengths[index] for index in group]
    return _price_of(sum(of_group), max(of_group))


def cost(tensors: Sequence[Part]) -> float:
    """What tensors cost, in tokens of a narrow one."""
    return sum(_price(part.where) for part in tensors)
