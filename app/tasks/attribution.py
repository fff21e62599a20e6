"""How much each word of a passage matters: methods that only ask what the model says to some of the words.

A method is a generator: it yields waves of selections of words and is sent the target's log-odds for each of them, so that
whoever drives it decides how rows are run. Both follow a binary tree of adjacent words, cut at sentences and clauses first, as
SHAP's PartitionExplainer does (Lundberg and Lee, "A unified approach to interpreting model predictions", 2017), and follow
first what makes the largest difference for the tokens that it costs.

`shapley`: at every node each half gets the mean of what it adds alone and what it adds beside the other half, as in Owen,
"Values of games with a priori unions" (1977). Owen averages over all companies that the rest of the tree can make, two to the
power of the depth; here the node is looked at in two of them, with nothing else of the text and with all else of it.
`occlusion`: what the whole loses when a part of it is hidden (Zeiler and Fergus, "Visualizing and understanding convolutional
networks", 2014).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
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
    """The adjacent words `start:stop`, alone or beside all the others."""

    start: int
    stop: int
    is_beside: bool

    def halves(self, middle: int) -> tuple[Branch, Branch]:
        return Branch(self.start, middle, self.is_beside), Branch(middle, self.stop, self.is_beside)

    def keep_mask(self, count: int) -> Keep:
        """What the model reads to tell the branch's gain: only its words, or all but them."""
        keep = np.full(count, self.is_beside)
        keep[self.start : self.stop] = not self.is_beside
        return keep


@dataclass(slots=True)
class Tree:
    """What has been found out: what branches add to their company, and where those that were followed are cut."""

    passage: Passage
    whole: float
    empty: float
    gains: dict[Branch, float] = field(default_factory=dict)
    middles: dict[Branch, int] = field(default_factory=dict)

    def learn(self, branch: Branch, log_odds: float) -> None:
        self.gains[branch] = self.whole - log_odds if branch.is_beside else log_odds - self.empty

    def cost(self, branch: Branch) -> int:
        """Tokens that it costs to follow a branch: one of its halves at a time is hidden, or is all that is shown."""
        own = int(self.passage.costs[branch.start : branch.stop].sum())
        return 2 * self.passage.row.num_tokens - own if branch.is_beside else 2 * self.passage.overhead + own

    def middle(self, branch: Branch) -> int:
        """Where to cut: at the strongest gap, of equal ones at that nearest to the middle."""
        words, centre = self.passage.words, (branch.start + branch.stop) / 2
        places = range(branch.start + 1, branch.stop)
        return max(places, key=lambda place: (words[place - 1].gap, -abs(place - centre)))


def shapley(passage: Passage, spending: Spending) -> Search:
    """Shares in what all words add. The weights add up to `whole - empty`, however little is spent."""
    tree = yield from _explore(passage, spending, (False, True))
    weights = np.zeros(len(passage.words))
    left = [(0, len(weights), tree.whole - tree.empty)]
    while left:
        start, stop, total = left.pop()
        followed = [entry for entry in _both(start, stop) if entry in tree.middles]
        if not followed:  # a word, or words that share what they add together
            weights[start:stop] = total / max(1, stop - start)
            continue
        middle = tree.middles[followed[0]]
        difference = float(
            np.mean([tree.gains[first] - tree.gains[last] for first, last in (entry.halves(middle) for entry in followed)])
        )
        together = float(np.mean([tree.gains[entry] for entry in followed]))
        # what the halves add together in these companies is not all that they were given above: all words share the rest
        rest = (total - together) / (stop - start)
        left.append((start, middle, (together + difference) / 2 + rest * (middle - start)))
        left.append((middle, stop, (together - difference) / 2 + rest * (stop - middle)))
    return Attribution(weights, tree.whole, tree.empty)


def occlusion(passage: Passage, spending: Spending) -> Search:
    """What the whole loses without a word, or without the part of the text around it. Does not add up."""
    tree = yield from _explore(passage, spending, (True,))
    weights = np.zeros(len(passage.words))
    for branch, gain in tree.gains.items():
        if branch not in tree.middles:
            weights[branch.start : branch.stop] = gain / max(1, branch.stop - branch.start)
    return Attribution(weights, tree.whole, tree.empty)


METHODS: dict[Method, Callable[[Passage, Spending], Search]] = {"shapley": shapley, "occlusion": occlusion}


def _both(start: int, stop: int) -> tuple[Branch, Branch]:
    return Branch(start, stop, False), Branch(start, stop, True)


def _explore(
    passage: Passage, spending: Spending, companies: Sequence[bool]
) -> Generator[Sequence[Keep], Sequence[float], Tree]:
    """Follow branches as long as there are tokens to spend."""
    count = len(passage.words)
    whole, empty = yield [np.ones(count, bool), np.zeros(count, bool)]
    tree = Tree(passage, whole, empty)
    root = Branch(0, count, companies[-1])  # in either company nobody else is there
    tree.gains[root] = whole - empty
    frontier = _Frontier(tree, spending)
    frontier.push([root])
    while wave := frontier.next_wave():
        halves = [half for entry in wave for half in entry.halves(tree.middles[entry])]
        for half, log_odds in zip(halves, (yield [half.keep_mask(count) for half in halves]), strict=True):
            tree.learn(half, log_odds)
        if wave == [root] and len(companies) > 1:  # without the one half, the other is alone
            mirrored = Branch(0, count, False).halves(tree.middles[root])
            for half, other in zip(mirrored, reversed(halves), strict=True):
                tree.learn(half, whole - tree.gains[other])
            halves = [*halves, *mirrored]
        frontier.push(halves)
    return tree


class _Frontier:
    """Branches that can be followed: first those with the largest gain for their cost, as long as tokens are left."""

    def __init__(self, tree: Tree, spending: Spending) -> None:
        self._tree, self._spending = tree, spending
        self._heap: list[tuple[float, int, Branch]] = []
        self._count = 0
        self._tokens_left = spending.max_tokens - tree.passage.row.num_tokens - tree.passage.overhead

    def push(self, branches: Iterable[Branch]) -> None:
        for branch in branches:
            if branch.stop - branch.start > 1:
                # the root of the cost, since a cheap look at little of the text also tells less
                urgency = abs(self._tree.gains[branch]) / self._tree.cost(branch) ** 0.5
                heapq.heappush(self._heap, (-urgency, self._count, branch))
                self._count += 1

    def next_wave(self) -> list[Branch]:
        """Branches to follow now; where they are cut is written down."""
        wave: list[Branch] = []
        wave_left = self._spending.wave_tokens
        while self._heap:
            cost = self._tree.cost(self._heap[0][2])
            if wave and cost > wave_left:
                break
            branch = heapq.heappop(self._heap)[2]
            if cost > self._tokens_left:  # too dear now, but a cheaper one may still be paid for
                continue
            wave.append(branch)
            self._tree.middles[branch] = self._tree.middle(branch)
            self._tokens_left -= cost
            wave_left -= cost
        return wave
