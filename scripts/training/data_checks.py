"""What may be wrong with labelled data, said before training in one sentence each: it goes on, but a person should know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from scripts.training.load_data import Dataset, Example, normalized

UNEVEN = 10
"""The largest label has so many times the rows of the smallest."""
FEW_ROWS = 10
"""Of a label with fewer training rows little can be learnt."""
HUGE = 100_000
"""Characters of a text of which a model reads the beginning alone."""
NAMED = 5


def check_texts(dataset: Dataset) -> Iterator[str]:
    """For any task: repeated and huge texts."""
    yield from _repeated(dataset.train)
    yield from _huge([*dataset.train, *dataset.validation])


def check_labels(dataset: Dataset, multi: bool) -> Iterator[str]:
    """For classifiers: labels that are uneven, rare or not judged, and texts that stand with several."""
    trained, held_out = (_counts(part, multi) for part in (dataset.train, dataset.validation))
    ranked = trained.most_common()
    (most, high), (least, low) = ranked[0], ranked[-1]
    if high >= UNEVEN * low:
        yield (
            f"labels are uneven: {most!r} has {high:,} training rows, {least!r} {low:,}; accuracy hides the small ones,"
            " macro F1 does not"
        )
    rare = [label for label, count in ranked if count < FEW_ROWS]
    if rare:
        yield f"{_labels(rare)} fewer than {FEW_ROWS} training rows: {_named(rare)}"
    unjudged = [label for label in sorted(trained) if not held_out[label]]
    if unjudged:
        yield f"{_labels(unjudged)} no held-out row, and no figure: {_named(unjudged)}"
    yield from _contradicted(dataset.train)


def _repeated(train: Sequence[Example]) -> Iterator[str]:
    """Rows of one place are one row, however often a recipe repeats it."""
    rows = {one.where: one for one in train}.values()
    counts = Counter((normalized(one.item), repr(one.target)) for one in rows)
    extra = sum(count - 1 for count in counts.values())
    if extra:
        plural = "s repeat" if extra > 1 else " repeats"
        yield f"{extra:,} training row{plural} another one, but for case and spaces"


def _contradicted(train: Sequence[Example]) -> Iterator[str]:
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for one in train:
        places[normalized(one.item)].setdefault(repr(one.target), one.where)
    found = [list(one.values()) for one in places.values() if len(one) > 1]
    if found:
        (first, second, *_), plural = found[0], "s stand" if len(found) > 1 else " stands"
        yield f"{len(found):,} text{plural} in the training data with different labels, for example {first} and {second}"


def _huge(examples: Sequence[Example]) -> Iterator[str]:
    sizes = {one.where: len(one.item) for one in examples if len(one.item) > HUGE}
    if sizes:
        where = max(sizes, key=lambda one: sizes[one])
        plural = "s have" if len(sizes) > 1 else " has"
        yield (
            f"{len(sizes):,} text{plural} more than {HUGE:,} characters ({where}: {sizes[where]:,}), of which only the"
            " beginning is read; is a quote missing there?"
        )


def _counts(examples: Sequence[Example], multi: bool) -> Counter[str]:
    return Counter(label for one in examples for label in (one.target if multi else [one.target]))


def _labels(found: Sequence[str]) -> str:
    return "1 label has" if len(found) == 1 else f"{len(found):,} labels have"


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - NAMED:,} more" if len(labels) > NAMED else ""
    return f"{', '.join(map(repr, labels[:NAMED]))}{more}"
