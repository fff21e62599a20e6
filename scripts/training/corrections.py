"""Corrections that the service kept, as records to train on, and how they join the data.

They are never held out: what people correct is no sample of what is asked, and figures before and after stay comparable.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.core.correction import Correction, latest, training_row
from app.core.errors import InvalidSettings
from app.core.feedback import read
from scripts.training.recipe import Recipe
from scripts.training.records import Record

if TYPE_CHECKING:
    from scripts.training.load_data import Example


@dataclass(frozen=True, slots=True)
class Corrections:
    """The last correction of each item, by the file that holds it, and what is to be said of them."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows to train on, corrections last."""

    train: Sequence[Example]
    num_corrections: int
    num_replaced: int
    """Rows of the data about the same item, which corrections took the place of."""


def read_corrections(recipe: Recipe) -> Corrections:
    """The corrections of the recipe's model; across its files the latest of an item is the last word.

    Raises:
        InvalidSettings: a file has none, or they are of another task.
        SetupError: a file cannot be read.
    """
    found: list[tuple[Correction, str]] = []
    for path in dict.fromkeys(recipe.from_feedback):
        found += [(one, path) for one in _of_model(path, recipe)]
    found.sort(key=lambda one: one[0].at)  # stable: of one moment, the order of the file
    last = latest(one for one, _ in found)
    kept = {id(one) for one in last.corrections}
    records: dict[str, list[Record]] = defaultdict(list)
    for one, path in found:
        if id(one) in kept:
            records[path].append(Record(f"{path}#{one.id}", training_row(one)))
    notes = []
    if last.num_repeated:
        notes.append(
            f"{last.num_repeated:,} corrections are left out: the same item was corrected again"
            f" ({last.num_conflicting:,} items were told differently)"
        )
    return Corrections(dict(records), notes)


def join(
    train: Sequence[Example],
    held_out: Sequence[Example],
    corrections: Sequence[Example],
    group: Callable[[Example], Any] | None,
) -> Joined:
    """Training rows and corrections; where both are of one item the correction stays. Of a group that is held out there is
    none, as of the data."""
    unseen = {group(one) for one in held_out} if group else set()
    kept = [one for one in corrections if group is None or group(one) not in unseen]
    corrected = {repr(one.item) for one in kept}
    rest = [one for one in train if repr(one.item) not in corrected]
    return Joined([*rest, *kept], len(kept), len(train) - len(rest))


def _of_model(path: str, recipe: Recipe) -> list[Correction]:
    everything = list(read(Path(path)))
    own = [one for one in everything if one.model == recipe.name]
    if not own:
        models = Counter(one.model for one in everything)
        told = ", ".join(f"{name} ({count})" for name, count in sorted(models.items())) or "none at all"
        raise InvalidSettings(f"{path} holds no corrections of {recipe.name!r}; it holds {told}; say --name MODEL")
    other = next((one.task for one in own if one.task != recipe.task), None)
    if other is not None:
        raise InvalidSettings(f"the corrections of {recipe.name!r} in {path} are of {other}, not of {recipe.task}")
    return own
