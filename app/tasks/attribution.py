"""How much each word of a passage matters: methods that only ask what the model says to some of the words.

A method is a generator: it yields waves of selections of words and is sent the target's log-odds for each of them, so that
whoever drives it decides how rows are run. `shapley` is the partition form of Owen values, "Values of games with a priori
unions" (1977), that SHAP's PartitionExplainer computes (Lundberg and Lee, "A unified approach to interpreting model
predictions", 2017): the unions are a binary tree of adjacent words, cut at sentences and clauses first, and branches that make
the largest difference are followed first. `occlusion` hides parts of the text one at a time (Zeiler and Fergus, 2014), down
the same tree.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.tasks.passage import Keep, Passage

Method = Literal["shapley", "occlusion"]
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Attribution:
    """Weight of each word, in log-odds of the target, and the log-odds with all words and with none: (words,)."""

    weights: Weights
    whole: float
    empty: float


Search = Generator[Sequence[Keep], Sequence[float], Attribution]


@dataclass(frozen=True, slots=True)
class Spending:
    """How much may be asked: tokens in all, and tokens at a time."""

    max_tokens: int
    wave_tokens: int = 1024


@dataclass(frozen=True, slots=True)
class Branch:
    """Adjacent words `start:stop`, in the company of others: what they add there."""

    start: int
    stop: int
    company: Keep
    """Words that are read beside them; none of their own."""
    alone: float
    """Log-odds of the company by itself."""
    joined: float
    """Log-odds of the company with these words."""
    share: float
    """Part of their weight that is decided in this company."""

    @property
    def gain(self) -> float:
        return self.share * (self.joined - self.alone)

    def with_own(self, start: int, stop: int) -> Keep:
        keep = self.company.copy()
        keep[start:stop] = True
        return keep


def shapley(passage: Passage, spending: Spending) -> Search:
    """Owen values over the tree of words. The weights add up to `whole - empty`, however little is spent."""
    count = len(passage.words)
    nobody, everybody = np.zeros(count, bool), np.ones(count, bool)
    whole, empty = yield [everybody, nobody]
    weights = np.zeros(count)
    queue = _Queue(passage, spending, lambda branch: 2 * _cost(passage, branch.company) + _own_cost(passage, branch))
    queue.push(Branch(0, count, nobody, empty, whole, 1.0))
    while wave := queue.next_wave():
        halves = [(one, _middle(passage, one)) for one in wave]
        answers = yield [
            keep for one, middle in halves for keep in (one.with_own(one.start, middle), one.with_own(middle, one.stop))
        ]
        for (one, middle), left, right in zip(halves, answers[::2], answers[1::2], strict=True):
            for branch in _children(one, middle, left, right):
                queue.push(branch)
    for one in queue.left:
        weights[one.start : one.stop] += one.gain / (one.stop - one.start)
    return Attribution(weights, whole, empty)


def occlusion(passage: Passage, spending: Spending) -> Search:
    """What is lost when a word, or else the part of the text around it, is hidden from the whole. Does not add up."""
    count = len(passage.words)
    everybody = np.ones(count, bool)
    whole, empty = yield [everybody, ~everybody]
    weights = np.zeros(count)
    queue = _Queue(passage, spending, lambda branch: 2 * _cost(passage, everybody) - _own_cost(passage, branch))
    queue.push(Branch(0, count, ~everybody, empty, whole, 1.0))
    while wave := queue.next_wave():
        halves = [half for one in wave for half in _halves(one, _middle(passage, one))]
        answers = yield [_all_but(count, start, stop) for start, stop in halves]
        for (start, stop), answer in zip(halves, answers, strict=True):
            queue.push(Branch(start, stop, _all_but(count, start, stop), answer, whole, 1.0))
    for one in queue.left:
        weights[one.start : one.stop] += one.gain / (one.stop - one.start)
    return Attribution(weights, whole, empty)


METHODS: dict[Method, Callable[[Passage, Spending], Search]] = {"shapley": shapley, "occlusion": occlusion}


class _Queue:
    """Branches to follow, those with the largest gain first, as long as there are tokens to spend."""

    def __init__(self, passage: Passage, spending: Spending, cost: Callable[[Branch], int]) -> None:
        self._spending, self._cost = spending, cost
        self._heap: list[tuple[float, int, Branch]] = []
        self._done: list[Branch] = []
        self._count = 0
        self._tokens_left = spending.max_tokens - 2 * passage.overhead - int(passage.costs.sum())

    def push(self, branch: Branch) -> None:
        if branch.stop == branch.start:  # a text in which the tokenizer sees nothing
            return
        if branch.stop - branch.start == 1:
            self._done.append(branch)
            return
        heapq.heappush(self._heap, (-abs(branch.gain), self._count, branch))
        self._count += 1

    def next_wave(self) -> list[Branch]:
        wave: list[Branch] = []
        wave_left = self._spending.wave_tokens
        while self._heap:
            cost = self._cost(self._heap[0][2])
            if cost > self._tokens_left or (wave and cost > wave_left):
                break
            wave.append(heapq.heappop(self._heap)[2])
            self._tokens_left -= cost
            wave_left -= cost
        return wave

    @property
    def left(self) -> Iterator[Branch]:
        """Words, and parts of the text that were not followed to their words."""
        yield from self._done
        yield from (branch for _, _, branch in self._heap)


def _children(one: Branch, middle: int, left: float, right: float) -> Iterator[Branch]:
    """Each half, once without and once with the other half in its company: its gain is the mean of both."""
    share = one.share / 2
    without, beside_left, beside_right = one.company, one.with_own(one.start, middle), one.with_own(middle, one.stop)
    yield Branch(one.start, middle, without, one.alone, left, share)
    yield Branch(one.start, middle, beside_right, right, one.joined, share)
    yield Branch(middle, one.stop, without, one.alone, right, share)
    yield Branch(middle, one.stop, beside_left, left, one.joined, share)


def _halves(one: Branch, middle: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (one.start, middle), (middle, one.stop)


def _middle(passage: Passage, branch: Branch) -> int:
    """Where to cut: at the strongest gap, of equal ones at that nearest to the middle."""
    centre = (branch.start + branch.stop) / 2
    return max(range(branch.start + 1, branch.stop), key=lambda place: (passage.words[place - 1].gap, -abs(place - centre)))


def _all_but(count: int, start: int, stop: int) -> Keep:
    keep = np.ones(count, bool)
    keep[start:stop] = False
    return keep


def _cost(passage: Passage, keep: Keep) -> int:
    """Tokens of the row with these words."""
    return passage.overhead + int(passage.costs[keep].sum())


def _own_cost(passage: Passage, branch: Branch) -> int:
    return int(passage.costs[branch.start : branch.stop].sum())
