"""load: records become examples; invalid rows are counted and named, corrections join, the validation split is drawn.

Corrections that the service kept are never held out: what people correct is no sample of what is asked, and metrics before and
after stay comparable.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.core.correction import Correction, latest
from app.core.errors import InvalidSettings
from app.core.feedback import read
from app.data import Record
from app.tasks.registry import environment_tasks
from scripts.training.recipe import Recipe
from scripts.training.records import read_records

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True, slots=True)
class Example:
    """One usable row: what the service would be sent, and the right answer."""

    item: Any
    target: Any
    source: str
    where: str


@dataclass(frozen=True, slots=True)
class Broken:
    where: str
    why: str


Parse = Callable[[Record, str], Example | Broken]
Figures = TypeVar("Figures")


def by_source(examples: Sequence[Example], figures: Callable[[list[int]], Figures]) -> dict[str, Figures]:
    """What is measured of each source, of the places of its examples, which are in order."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        places[example.source].append(place)
    return {source: figures(own) for source, own in places.items()}


@dataclass(frozen=True)
class Dataset:
    """Training and held-out examples. No example is in both."""

    train: Sequence[Example]
    validation: Sequence[Example]
    broken: Sequence[Broken]
    num_leaked: int = 0
    """Training rows removed because the same item, ignoring case and whitespace, is held out."""
    num_corrections: int = 0
    """Training rows that are corrections of the model."""
    num_replaced: int = 0
    """Rows of the data that corrections of the same items took the place of."""
    unlabelled: Sequence[Example] = ()
    """Trained on with a teacher's answers alone: nobody said what is right."""


def load(
    recipe: Recipe,
    records: dict[str, list[Record]],
    parse: Parse,
    stratum: Callable[[Example], Any] = lambda entry: None,
    group: Callable[[Example], Any] | None = None,
    correction: Parse | None = None,
) -> Dataset:
    """Parse all records, stop if too many are broken, and split by stratum with the recipe's seed.

    Args:
        records: of each source.
        parse: one record to an example, or why not.
        stratum: the same share of each stratum is held out.
        group: examples of one group stay together, for data in which several rows share a text.
        correction: as `parse`, for corrections, where their columns are other ones.

    Raises:
        InvalidSettings: too many rows are broken, or a part would be empty.
    """
    examples: dict[str, list[Example]] = {}
    broken: list[Broken] = []
    for source, rows in records.items():
        reader = correction if correction and source in recipe.from_feedback else parse
        parsed = [reader(record, source) for record in rows]
        examples[source] = [entry for entry in parsed if isinstance(entry, Example)]
        broken.extend(entry for entry in parsed if isinstance(entry, Broken))
    stop_if_too_many(broken, sum(map(len, records.values())), recipe.max_bad_share)
    train, held_out = _parts(recipe, examples, stratum, group)
    unseen = {normalized(entry.item) for entry in held_out}
    unleaked = [entry for entry in train if normalized(entry.item) not in unseen]
    if not unleaked:
        raise InvalidSettings("every training row is also held out")
    corrections = [entry for source in dict.fromkeys(recipe.from_feedback) for entry in examples.get(source, [])]
    fresh = [correction for correction in corrections if normalized(correction.item) not in unseen]
    joined = join_corrections(_as_often(unleaked, recipe), held_out, fresh, group)
    num_leaked = len(train) - len(unleaked) + len(corrections) - joined.num_corrections
    return Dataset(joined.train, held_out, broken, num_leaked, joined.num_corrections, joined.num_replaced)


def _parts(
    recipe: Recipe,
    examples: Mapping[str, Sequence[Example]],
    stratum: Callable[[Example], Any],
    group: Callable[[Example], Any] | None,
) -> tuple[list[Example], list[Example]]:
    """Those to train on, and those held out, as the recipe says.

    Raises:
        InvalidSettings: a part would be empty.
    """
    held_out = [example for source in recipe.validation for example in examples[source]]
    pool = [example for source in recipe.data for example in examples[source]]
    if recipe.max_rows and len(pool) > recipe.max_rows:
        pool = random.Random(recipe.seed).sample(pool, recipe.max_rows)
    share = recipe.split or (1.0 if held_out else 0.8)
    if group is None:
        train, rest = split(pool, share, recipe.seed, stratum)
    else:
        train, rest = split_groups(pool, share, recipe.seed, group)
    held_out += rest
    trains_on_all = recipe.split == 1 and not recipe.validation  # an estimator, which is judged on rows that come later
    if not train or not (held_out or trains_on_all):
        raise InvalidSettings(_empty_part(train, held_out, recipe, group is not None))
    return train, held_out


def normalized(item: Any) -> str:
    """What two items have in common that differ in nothing but case, spaces and the form of their characters."""
    parts = astuple(item) if is_dataclass(item) and not isinstance(item, type) else (item,)
    return "\x1f".join(" ".join(unicodedata.normalize("NFKC", str(part or "")).casefold().split()) for part in parts)


def held_out_fingerprint(examples: Sequence[Example]) -> str:
    """sha256 over the items, whatever their order and labels: versions with the same one were judged on the same rows."""
    digest = hashlib.sha256()
    for text in sorted(normalized(example.item) for example in examples):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\x1e")
    return digest.hexdigest()


def read_all(recipe: Recipe) -> dict[str, list[Record]]:
    """Records of each source once, however often the recipe names it.

    Raises:
        InvalidSettings: a source cannot be read, or is empty.
    """
    sources = dict.fromkeys([*recipe.data, *recipe.validation])
    records = {source: read_records(source, recipe.read_options) for source in sources}
    for source, rows in records.items():
        if not rows:
            raise InvalidSettings(f"{source} has no rows")
    return records


def split(
    examples: Sequence[Example], share: float, seed: int, stratum: Callable[[Example], Any]
) -> tuple[list[Example], list[Example]]:
    """Draw `share` of each stratum, seeded; a stratum of one stays in training. Order is kept within each part.

    Of small strata the rounded share is nothing. Where nothing would be held out for that, each that has two rows or more gives
    one, so that all of them are judged.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        groups[stratum(example)].append(index)
    held_out: set[int] = set()
    generator = random.Random(seed)
    for key in sorted(groups, key=repr):
        indices = groups[key]
        generator.shuffle(indices)
        count = min(round(len(indices) * (1 - share)), len(indices) - 1)
        held_out.update(indices[:count])
    if not held_out and share < 1:
        held_out.update(indices[0] for indices in groups.values() if len(indices) > 1)
    train = [example for index, example in enumerate(examples) if index not in held_out]
    return train, [examples[index] for index in sorted(held_out)]


def split_groups(
    examples: Sequence[Example], share: float, seed: int, group: Callable[[Example], Any]
) -> tuple[list[Example], list[Example]]:
    """Draw `share` of the groups, seeded, at least one group for either part; order is kept within each part."""
    names = list(dict.fromkeys(group(example) for example in examples))
    random.Random(seed).shuffle(names)
    count = round(len(names) * share) if share == 1 else min(round(len(names) * share), len(names) - 1)
    training_groups = set(names[: max(1, count)])
    training = [example for example in examples if group(example) in training_groups]
    return training, [example for example in examples if group(example) not in training_groups]


def describe_broken(broken: Sequence[Broken], limit: int = 5) -> str:
    """`3 invalid rows: data.csv:7 (empty text), …`; of many rows each reason once, with the places of the first."""
    summary = f"{len(broken):,} invalid row{'s' if len(broken) != 1 else ''}: "
    if len(broken) <= limit:
        return summary + ", ".join(f"{entry.where} ({entry.why})" for entry in broken)
    reasons: dict[str, list[Broken]] = defaultdict(list)
    for entry in broken:
        reasons[_QUOTED.sub("", entry.why)].append(entry)  # reasons that differ in the cell they name are the same
    ranked = sorted(reasons.values(), key=lambda rows: -len(rows))
    listing = "; ".join(
        f"{len(rows):,} × {_reason(rows)} ({_first([match.where for match in rows])})" for rows in ranked[:limit]
    )
    more = f"; and {len(ranked) - limit:,} more reasons" if len(ranked) > limit else ""
    return f"{summary}{listing}{more}"


def data_notes(dataset: Dataset, notes: Sequence[str]) -> list[str]:
    """The results of all data checks, as sentences."""
    sentences = [note for note in notes if note]
    if dataset.broken:
        sentences.append(describe_broken(dataset.broken))
    if dataset.num_leaked:
        sentences.append(f"{dataset.num_leaked:,} training rows removed: also in the validation set (leakage)")
    return sentences


def first_readable(records: Mapping[str, Sequence[Record]]) -> Record:
    """The first row that could be read: what its columns are called.

    Raises:
        InvalidSettings: there is none, and why.
    """
    for rows in records.values():
        for record in rows:
            if not record.broken:
                return record
    broken = [Broken(row.where, row.broken) for rows in records.values() for row in rows]
    raise InvalidSettings(f"no row of the data could be read: {describe_broken(broken)}" if broken else "the data has no rows")


def default_name(source: str) -> str:
    """A publishable name from a file, folder or hub id."""
    stem = Path(source).name.split(".")[0].split(":")[0].lower()
    if stem in ("train", "data", "dataset", "training", "validation", "dev", "test"):
        stem = Path(source).resolve().parent.name.lower()
    cleaned = "".join(character if character.isalnum() and character.isascii() else "-" for character in stem).strip("-")
    return cleaned or "model"


def stop_if_too_many(broken: Sequence[Broken], total: int, limit: float) -> None:
    if not total:
        raise InvalidSettings("the data has no rows")
    if len(broken) > limit * total:
        raise InvalidSettings(
            f"{describe_broken(broken)}. That is {len(broken) / total:.1%} of {total} rows, more than the {limit:.1%}"
            " that --max-bad-share allows: not started"
        )


def _reason(broken: Sequence[Broken]) -> str:
    return broken[0].why + (" and the like" if len({entry.why for entry in broken}) > 1 else "")


def _first(places: Sequence[str]) -> str:
    return ", ".join([*places[:2], *(["…"] if len(places) > 2 else [])])


def _empty_part(train: Sequence[Example], held_out: Sequence[Example], recipe: Recipe, has_groups: bool) -> str:
    if not train:
        return f"{len(held_out):,} rows are held out, and none is left to train on"
    if recipe.split == 1:
        return "split is 1 and no row of --validation can be used: nothing is held out"
    kind = "they are all about one text, and rows about one text stay together" if has_groups else "no label has two of them"
    return (
        f"of {len(train):,} rows none can be held out, for {kind}; bring more rows, or say --validation FILE to judge the model"
        " on others"
    )


def _as_often(train: Sequence[Example], recipe: Recipe) -> list[Example]:
    if not recipe.repeat:
        return list(train)
    times = dict(zip(recipe.data, recipe.repeat, strict=True))
    return [entry for entry in train for _ in range(times[entry.source])]


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
    corrections: list[tuple[Correction, str]] = []
    for path in dict.fromkeys(recipe.from_feedback):
        corrections += [(entry, path) for entry in _of_model(path, recipe)]
    corrections.sort(key=lambda match: match[0].at)  # stable: of one moment, the order of the file
    last = latest(entry for entry, _ in corrections)
    last_ids = {id(correction) for correction in last.corrections}
    records: dict[str, list[Record]] = defaultdict(list)
    for entry, path in corrections:
        if id(entry) in last_ids:
            records[path].append(Record(f"{path}#{entry.id}", environment_tasks().training_row(entry)))
    notes = []
    if last.num_repeated:
        notes.append(
            f"{last.num_repeated:,} corrections are left out: the same item was corrected again"
            f" ({last.num_conflicting:,} items had conflicting corrections)"
        )
    return Corrections(dict(records), notes)


def join_corrections(
    train: Sequence[Example],
    held_out: Sequence[Example],
    corrections: Sequence[Example],
    group: Callable[[Example], Any] | None,
) -> Joined:
    """Training rows and corrections; where both are of one item the correction stays. Of a group that is held out there is
    none, as of the data."""
    unseen = {group(entry) for entry in held_out} if group else set()
    unleaked = [correction for correction in corrections if group is None or group(correction) not in unseen]
    corrected = {repr(kept_item.item) for kept_item in unleaked}
    rest = [entry for entry in train if repr(entry.item) not in corrected]
    return Joined([*rest, *unleaked], len(unleaked), len(train) - len(rest))


def _of_model(path: str, recipe: Recipe) -> list[Correction]:
    everything = list(read(Path(path)))
    own = [entry for entry in everything if entry.model == recipe.name]
    if not own:
        models = Counter(entry.model for entry in everything)
        listing = ", ".join(f"{name} ({count})" for name, count in sorted(models.items())) or "none at all"
        raise InvalidSettings(f"{path} holds no corrections of {recipe.name!r}; it holds {listing}; say --name MODEL")
    other = next((entry.task for entry in own if entry.task != recipe.task), None)
    if other is not None:
        raise InvalidSettings(f"the corrections of {recipe.name!r} in {path} are of {other}, not of {recipe.task}")
    return own
