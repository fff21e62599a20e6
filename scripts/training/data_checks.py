"""Checks of the data before anything is trained: what may be wrong, how often, where, and what to do about it.

None of it stops a training, and none holds a text of the data: rows are named by where they stand, labels by their names.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.tasks.tokenizer import Tokenizer
from scripts.training.data import Dataset, Example, normalized
from scripts.training.near_duplicates import MAX_CHARACTERS, near_duplicates

NUM_EXAMPLES = 3
HUGE = 100_000
"""Characters of a text of which a model reads the beginning alone."""
SHORT = 3
"""Letters and digits of a text that says something."""
MAX_COMPARED = 20_000
"""Texts of each part that are compared with each other."""
UNEVEN = 10
"""The largest label has so many times the rows of the smallest."""
FEW_ROWS = 10
"""Of a label with fewer training rows little can be learnt."""
NUM_NAMED = 5
ID_SHARE, ID_ROWS = 0.5, 20
"""Where every second row or more, of so many, has a label of its own, labels are hardly meant."""
WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
"""Letters that a tokenizer of their language, too, reads one by one."""
_MOJIBAKE = re.compile(
    r"[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]+"
)
"""How bytes of UTF-8 look that were read as cp1252 or latin-1."""
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T]\d{1,2}:\d{2}.*)?")
_CONFUSABLE = str.maketrans("аеорсухіјѕԁһӏΑΒΕΖΗΙΚΜΝΟΡΤΥΧαορνАВЕЗКМНОРСТУХ", "aeopcyxijsdhlABEZHIKMNOPTYXaopvABE3KMHOPCTYX")
"""Letters of Cyrillic and Greek that look like Latin ones."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that may be wrong with the data."""

    name: str
    """The field's name for it, such as `near-duplicates`."""
    count: int
    """Of rows or labels that it concerns."""
    finding: str
    """A clause with the number in it."""
    advice: str = ""
    """A clause on what to do."""
    examples: tuple[str, ...] = ()
    """Where the first of the rows stand."""

    def __str__(self) -> str:
        where = f", for example {', '.join(self.examples)}" if self.examples else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.name.replace('-', ' ')}: {self.finding}{where}{advice}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# --- texts, for any task


def check_texts(dataset: Dataset) -> Iterator[Check]:
    """For any task: texts that repeat or nearly repeat each other, say nothing, are huge, or were read in a wrong encoding."""
    rows = list({entry.where: entry for entry in dataset.train}.values())  # rows of one place are one, however often repeated
    yield from _repeated(rows)
    yield from _nearly_repeated(rows, dataset.validation)
    everything = [*rows, *dataset.validation]
    short = [row for row in everything if _num_letters(normalized(row.item)) < SHORT]
    yield from _rows("short-texts", short, f"text{{s}} with fewer than {SHORT} letters", "leave out what says nothing")
    yield from _huge(everything)
    garbled = [row for row in everything if _is_mojibake(row)]
    yield from _rows(
        "mojibake",
        garbled,
        "text{s} with letters such as Ã¼ for ü: UTF-8 that was read in another encoding",
        "say --encoding utf-8, or export the data anew",
    )
    lost = [row for row in everything if "\ufffd" in _text(row)]
    yield from _rows(
        "lost-characters",
        lost,
        "text{s} with U+FFFD in place of a letter, which cannot be brought back",
        "export the data anew",
    )


def _rows(name: str, rows: Sequence[Example], finding: str, advice: str) -> Iterator[Check]:
    if rows:
        plural = "s" if len(rows) > 1 else ""
        yield Check(name, len(rows), f"{len(rows):,} {finding.format(s=plural)}", advice, _places(rows))


def _places(rows: Iterable[Example]) -> tuple[str, ...]:
    return tuple(list(dict.fromkeys(row.where for row in rows))[:NUM_EXAMPLES])


def _repeated(rows: Sequence[Example]) -> Iterator[Check]:
    seen: set[tuple[str, str]] = set()
    again = []
    for row in rows:
        key = normalized(row.item), repr(row.target)
        if key in seen:
            again.append(row)
        seen.add(key)
    finding = "duplicate{s} in the training data (ignoring case and whitespace)"
    yield from _rows("duplicates", again, finding, "each counts once more; leave them out unless that is meant")


def _nearly_repeated(rows: Sequence[Example], validation: Sequence[Example]) -> Iterator[Check]:
    train = {normalized(row.item): row for row in rows[:MAX_COMPARED]}
    held_out = {text: row for row in validation[:MAX_COMPARED] if (text := normalized(row.item)) not in train}
    texts, owners = [*train, *held_out], [*train.values(), *held_out.values()]
    pairs = list(near_duplicates(texts))
    within = [(owners[later], owners[earlier]) for later, earlier in pairs if later < len(train)]
    across = [(owners[later], owners[earlier]) for later, earlier in pairs if later >= len(train) > earlier]
    yield from _pairs(
        "near-duplicates",
        within,
        "training row{s} nearly repeat{v} an earlier one",
        "the labels of such rows should agree; leave out copies",
    )
    yield from _pairs(
        "near-leakage",
        across,
        "validation row{s} nearly repeat{v} a training row",
        "figures on them are too good; hold out whole groups with --validation FILE",
    )


def _pairs(name: str, pairs: Sequence[tuple[Example, Example]], finding: str, advice: str) -> Iterator[Check]:
    if pairs:
        places = tuple(f"{row.where} and {other.where}" for row, other in pairs[:NUM_EXAMPLES])
        inflected = finding.format(s="s" if len(pairs) > 1 else "", v="" if len(pairs) > 1 else "s")
        yield Check(name, len(pairs), f"{len(pairs):,} {inflected}", advice, places)


def _num_letters(text: str) -> int:
    """Letters and digits; of scripts whose letters are words, twice as many."""
    return sum(character.isalnum() for character in text) + len(WIDE.findall(text))


def _huge(examples: Sequence[Example]) -> Iterator[Check]:
    sizes = {example.where: len(example.item) for example in examples if len(example.item) > HUGE}
    if sizes:
        place = max(sizes, key=lambda size: sizes[size])
        plural = "s have" if len(sizes) > 1 else " has"
        finding = f"{len(sizes):,} text{plural} more than {HUGE:,} characters ({place}: {sizes[place]:,})"
        yield Check("huge-texts", len(sizes), finding, "only the beginning is read; is a quote missing there?")


def _text(row: Example) -> str:
    return " ".join(value for value in asdict(row.item).values() if isinstance(value, str))


def _is_mojibake(row: Example) -> bool:
    """Whether letters of the text are the bytes of UTF-8 of other ones."""
    return any(_decodes(match[0]) for match in _MOJIBAKE.finditer(_text(row)))


def _decodes(run: str) -> bool:
    for encoding in ("cp1252", "latin-1"):
        try:
            run.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False


# --- labels


def check_labels(dataset: Dataset, multi: bool) -> Iterator[Check]:
    """For classifiers: labels that are no classes, are uneven, rare, alike or not evaluated, and texts with several."""
    trained, held_out = (_counts(part, multi) for part in (dataset.train, dataset.validation))
    yield from _no_classes(dataset, trained, multi)
    yield from _look_alikes(trained)
    ranked = trained.most_common()
    (largest, high), (smallest, low) = ranked[0], ranked[-1]
    if high >= UNEVEN * low:
        finding = f"{largest!r} has {high:,} training rows, {smallest!r} {low:,}"
        yield Check(
            "uneven-labels", low, finding, "accuracy hides the small ones, macro F1 does not; try --class-weights balanced"
        )
    yield from _labels(
        "single-row-labels", [label for label, count in ranked if count == 1], "one training row", "collect more"
    )
    rare = [label for label, count in ranked if 1 < count < FEW_ROWS]
    yield from _labels("rare-labels", rare, f"fewer than {FEW_ROWS} training rows", "collect more, or merge labels")
    not_evaluated = [label for label in sorted(trained) if not held_out[label]] if dataset.validation else []
    yield from _labels(
        "labels-not-evaluated", not_evaluated, "no row in the validation set", "nothing is known of how well they do"
    )
    yield from _contradicted(dataset.train)


def _labels(name: str, labels: Sequence[str], finding: str, advice: str) -> Iterator[Check]:
    if labels:
        count = "1 label has" if len(labels) == 1 else f"{len(labels):,} labels have"
        yield Check(name, len(labels), f"{count} {finding}: {quoted(map(repr, labels), NUM_NAMED)}", advice)


def quoted(names: Iterable[str], limit: int = 3) -> str:
    """The first of the names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit:,} more" if len(listed) > limit else ""
    return f"{', '.join(listed[:limit])}{more}"


def _no_classes(dataset: Dataset, counts: Mapping[str, int], multi: bool) -> Iterator[Check]:
    rows = len(dataset.train)
    advice = "say --label-column NAME where another column holds the label"
    if all(_DATE.fullmatch(label) for label in counts):
        yield Check("dates-as-labels", len(counts), f"all {len(counts):,} labels are dates", advice)
    elif not multi and rows >= ID_ROWS and len(counts) >= ID_SHARE * rows:
        finding = f"{len(counts):,} different labels in {rows:,} training rows, as an ID has"
        yield Check("ids-as-labels", len(counts), finding, advice, _places(dataset.train))


def label_key(label: str) -> str:
    """What labels have in common that look the same, or differ in case, `_`, `-` and spaces alone."""
    folded = unicodedata.normalize("NFKC", label).translate(_CONFUSABLE).casefold()
    return re.sub(r"(?<=\w)[\s_\-‐-―]+(?=\w)", " ", folded.strip()).rstrip(" .:;,")


def _look_alikes(counts: Mapping[str, int]) -> Iterator[Check]:
    """Labels that differ in case alone are told where they are read."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[label_key(label)].append(label)
    alike = [sorted(group) for group in groups.values() if len({label.casefold() for label in group}) > 1]
    if alike:
        listing = quoted(" and ".join(f"{label!r} ({counts[label]:,})" for label in group) for group in alike)
        num_labels = sum(map(len, alike))
        finding = f"{num_labels:,} labels look the same but for signs, spaces or the script of a letter: {listing}"
        yield Check("look-alike-labels", num_labels, finding, "--merge-labels makes one of each")


def _contradicted(train: Sequence[Example]) -> Iterator[Check]:
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in train:
        places[normalized(entry.item)].setdefault(repr(entry.target), entry.where)
    conflicts = [list(place.values()) for place in places.values() if len(place) > 1]
    if conflicts:
        plural = "s have" if len(conflicts) > 1 else " has"
        examples = tuple(f"{first} and {second}" for first, second, *_ in conflicts[:NUM_EXAMPLES])
        finding = f"{len(conflicts):,} text{plural} different labels in different training rows"
        yield Check("conflicting-labels", len(conflicts), finding, "decide for one of them", examples)


def _counts(examples: Sequence[Example], multi: bool) -> Counter[str]:
    return Counter(label for example in examples for label in (example.target if multi else [example.target]))


# --- the vocabulary of the base model

MULTILINGUAL_BASE = "intfloat/multilingual-e5-small"
NUM_READ = 500
"""Texts that are encoded to see how well the vocabulary knows them."""
MAX_UNKNOWN, MAX_SINGLE, MAX_TOKENS_PER_WORD = 0.05, 0.3, 1.5
"""English texts of six kinds have no unknown tokens, 2 % of single characters at most, and 1.0 to 1.25 tokens a word with the
packaged vocabulary; German, French, Spanish and Italian ones 1.7 to 2 tokens a word, Russian and Arabic ones letters alone."""
LARGE_VOCABULARY = 100_000
"""Tokens of a vocabulary of many languages, in which a word may well be two."""


@dataclass(frozen=True, slots=True)
class VocabularyFit:
    """How a tokenizer reads texts; tokens without letters do not count."""

    unknown: float
    """Share of tokens that the vocabulary lacks."""
    single: float
    """Share of tokens that are one letter of a longer word."""
    tokens_per_word: float

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> VocabularyFit:
        counts: Counter[str] = Counter()
        unknown_id = tokenizer.unknown_id()
        for text, tokens in zip(texts, tokenizer.pieces().encode(texts), strict=True):
            for number, (start, end) in zip(tokens.ids, tokens.offsets, strict=True):
                counts.update(_kinds(text, start, end, number == unknown_id))
            counts["words"] += len(re.findall(r"[^\W\d_]+", WIDE.sub(" ", text)))
        total = max(1, counts["tokens"])
        words = counts["narrow"] / counts["words"] if counts["words"] else 1.0
        return cls(counts["unknown"] / total, counts["single"] / total, words)


def _kinds(text: str, start: int, end: int, is_unknown: bool) -> list[str]:
    piece = text[start:end]
    if not any(character.isalpha() for character in piece):
        return []
    if is_unknown:
        return ["tokens", "unknown", "narrow"]
    if WIDE.search(piece):
        return ["tokens"]
    is_within = (start > 0 and text[start - 1].isalpha()) or (end < len(text) and text[end].isalpha())
    return ["tokens", "narrow", *(["single"] if end - start == 1 and is_within else [])]


def check_vocabulary(dataset: Dataset, tokenizer: Tokenizer) -> Iterator[Check]:
    """Texts in a script or language that the base model's vocabulary hardly knows."""
    step = max(1, len(dataset.train) // NUM_READ)
    sample = dataset.train[::step][:NUM_READ]
    fit = VocabularyFit.of([_text(example)[:MAX_CHARACTERS] for example in sample], tokenizer)
    is_split = fit.tokens_per_word >= MAX_TOKENS_PER_WORD and tokenizer.vocabulary_size() < LARGE_VOCABULARY
    if fit.unknown < MAX_UNKNOWN and fit.single < MAX_SINGLE and not is_split:
        return
    finding = (
        f"the base model's vocabulary hardly knows the language of the data: {fit.tokens_per_word:.1f} tokens a word (English"
        f" has 1.2), {fit.unknown:.0%} of them unknown, {fit.single:.0%} single letters"
    )
    advice = (
        f"--base-model {MULTILINGUAL_BASE} reads about 100 languages, at five times the size and half the speed of the"
        " packaged one"
    )
    yield Check("unknown-language", len(sample), finding, advice)
