"""Folds: the rows in parts of about the same size, rows that are alike in one of them, labels spread evenly.

Rows stay together that a task has in one group, as texts that are the same but for case and spaces or questions about one
context, and those that nearly repeat each other: a model that saw the one half knows the other. Each label's rows are spread
over the folds, the rarest label first (Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, 2011).
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.errors import InvalidSettings
from scripts.training.data import Dataset, Example, join_corrections
from scripts.training.data_checks import MAX_COMPARED, NUM_NAMED, quoted
from scripts.training.near_duplicates import near_duplicates


@dataclass(frozen=True)
class Folds:
    """Rows to train on, and which of them each fold judges. A row is judged by one fold at most, and its like by no other."""

    examples: Sequence[Example]
    """Everything that may be trained on, repeated as often as an epoch sees it."""
    folds: Sequence[int | None]
    """The fold that judges each of them, counted from 0; None: it is trained on in every fold."""
    corrections: Sequence[Example]
    """Trained on, and never judged."""
    near_folds: Sequence[int | None]
    """The fold that judges what is like each correction: while it is held out, the correction is left out."""
    num_folds: int
    notes: Sequence[str] = ()

    @property
    def judged(self) -> list[Example]:
        """Every row that is judged, once, in the order of the data."""
        return _once([example for example, fold in zip(self.examples, self.folds, strict=True) if fold is not None])

    def dataset(self, fold: int) -> Dataset:
        """What is trained on while this fold is held out, and the fold."""
        rows = list(zip(self.examples, self.folds, strict=True))
        held_out = _once([example for example, own in rows if own == fold])
        corrections = zip(self.corrections, self.near_folds, strict=True)
        joined = join_corrections(
            [example for example, own in rows if own != fold],
            held_out,
            [correction for correction, own in corrections if own != fold],
            None,
        )
        return Dataset(joined.train, held_out, [], 0, joined.num_corrections, joined.num_replaced)


def cut(
    examples: Sequence[Example],
    num_folds: int,
    key: Callable[[Example], str],
    strata: Callable[[Example], Sequence[str]],
    seed: int = 0,
    corrections: Sequence[Example] = (),
) -> Folds:
    """Cut rows into folds.

    Args:
        examples: to train on and to judge; a row may come several times.
        num_folds: 2 or more.
        key: of a row, what it has in common with rows that stay in one fold with it.
        strata: the labels of a row, none where the task has no labels.
        seed: of the order in which groups of one size are drawn.
        corrections: trained on beside them where nothing like them is held out.

    Raises:
        InvalidSettings: there are fewer groups of rows than folds.
    """
    rows = _once(examples)
    keys = {id(example): key(example) for example in (*rows, *corrections)}
    first = _first_alike(list(keys.values()))
    group_of = {number: first[text] for number, text in keys.items()}
    members: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        members[group_of[id(row)]].append(row)
    labels = {group: Counter(label for row in members[group] for label in strata(row)) for group in members}
    fold_of = _assigned(labels, {group: len(members[group]) for group in members}, num_folds, seed)
    lonely = _lonely_labels(labels, fold_of)
    fold_of = {group: fold for group, fold in fold_of.items() if not lonely & labels[group].keys()}
    if len(set(fold_of.values())) < num_folds:
        raise InvalidSettings(_too_few(len(rows), fold_of, num_folds))
    notes = [*_notes_on_labels(labels, lonely, num_folds), *_notes_on_groups(members)]
    folds, near = ([fold_of.get(group_of[id(example)]) for example in part] for part in (examples, corrections))
    return Folds(examples, folds, corrections, near, num_folds, notes)


def _once(examples: Sequence[Example]) -> list[Example]:
    return list({id(example): example for example in examples}.values())


def _first_alike(keys: Sequence[str]) -> dict[str, str]:
    """Of each text the first one that it is the same as or nearly repeats, through others too."""
    texts = list(dict.fromkeys(keys))
    first = {text: text for text in texts}
    for later, earlier in near_duplicates(texts[:MAX_COMPARED]):
        first[texts[later]] = first[texts[earlier]]  # of an earlier text it is settled
    return first


def _too_few(num_rows: int, fold_of: Mapping[str, int], num_folds: int) -> str:
    most = len(set(fold_of.values()))
    advice = f"there can be {most} folds; for more, bring more rows" if most > 1 else "bring more rows"
    rows = "1 row" if num_rows == 1 else f"{num_rows:,} rows"
    return (
        f"{rows} cannot be cut into {num_folds} folds, for only {len(fold_of):,} parts of them can be held out: rows that are"
        f" alike stay together, and a label that one part has all rows of is never held out; {advice}"
    )


def _assigned(labels: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int], num_folds: int, seed: int) -> dict[str, int]:
    """A fold for each group: where there is least of its labels, and of such folds the smallest. Large groups first, which fit
    nowhere later, then those with a rare label."""
    totals: Counter[str] = Counter()
    for counts in labels.values():
        totals.update(counts)
    order = list(labels)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: (-sizes[group], min((totals[label] for label in labels[group]), default=0)))
    loads: list[Counter[str]] = [Counter() for _ in range(num_folds)]
    rows = [0] * num_folds
    fold_of = {}
    for group in order:
        shares = [sum(load[label] / totals[label] for label in labels[group]) for load in loads]
        fold = min(range(num_folds), key=lambda number: (shares[number], rows[number]))
        loads[fold].update(labels[group])
        rows[fold] += sizes[group]
        fold_of[group] = fold
    return fold_of


def _lonely_labels(labels: Mapping[str, Mapping[str, int]], fold_of: Mapping[str, int]) -> set[str]:
    """Labels that one fold has all rows of: while it is held out, nothing could be learnt of them."""
    folds: dict[str, set[int]] = defaultdict(set)
    for group, counts in labels.items():
        for label in counts:
            folds[label].add(fold_of[group])
    return {label for label, own in folds.items() if len(own) == 1}


def _notes_on_labels(labels: Mapping[str, Mapping[str, int]], lonely: set[str], num_folds: int) -> list[str]:
    totals: Counter[str] = Counter()
    for counts in labels.values():
        totals.update(counts)
    notes = []
    if lonely:
        listing = quoted(map(repr, sorted(lonely)), NUM_NAMED)
        notes.append(
            f"rows of {listing} are trained on in every fold and judged in none, for all rows of such a label are in one place"
        )
    few = [label for label, count in sorted(totals.items()) if label not in lonely and count < num_folds]
    if few:
        listing = quoted((f"{label!r} ({totals[label]})" for label in few), NUM_NAMED)
        has = "1 label has" if len(few) == 1 else f"{len(few):,} labels have"
        notes.append(f"{has} fewer rows than there are folds, and some folds judge none of them: {listing}")
    return notes


def _notes_on_groups(members: Mapping[str, Sequence[Any]]) -> list[str]:
    together = [len(rows) for rows in members.values() if len(rows) > 1]
    if not together:
        return []
    note = (
        f"{sum(together):,} rows stay in one fold with others that have the same text, context or query, or nearly the same;"
        f" the largest such group has {max(together):,} rows"
    )
    return [note]
