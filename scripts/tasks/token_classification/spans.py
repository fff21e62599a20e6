"""Rows of tagged text as entities with their characters, whichever of the usual forms they come in.

`tokens` and `tags` (lists, or texts with blanks between), or `text` and `entities` with `start`, `end` and `label`. Tags have
the prefixes of BIO, IOB1, BIOES or BILOU, or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.data import Record
from app.data.cells import literal, plain
from app.tasks.text_classification.spec import FIELDS
from app.tasks.token_classification.spec import SPEC as SERVED
from app.tasks.token_classification.task import OUTSIDE, TaggedLabel, TagItem, goes_on, label_parts
from app.tasks.tokenizer import encodable
from scripts.training.data import Broken, Example, first_readable
from scripts.training.recipe import Recipe

TOKENS = FieldSpec(SERVED.fields["text"].token_columns)
TAGS = FieldSpec(("tags", "ner_tags", "labels", "tag", "ner", "pos", "pos_tags", "upos", "label"))
ENTITIES = FieldSpec(("entities", "spans", "annotations", "label", "labels"))
Scheme = Literal["BIO", "BIOES", "plain"]


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` has this label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class TagColumns:
    """Which columns hold what: tokens and tags, or a text and its entities."""

    text: str
    tags: str
    are_tokens: bool

    def __str__(self) -> str:
        kind = "tokens" if self.are_tokens else "text"
        return f"{kind} from column {self.text!r}, {'tags' if self.are_tokens else 'entities'} from {self.tags!r}"

    @classmethod
    def choose(cls, recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> TagColumns:
        """From the recipe, else by the usual names.

        Raises:
            InvalidSettings: there are neither tokens with tags nor a text with entities.
        """
        first = first_readable(records)
        present = list(first.columns)
        tokens = recipe.text_column or TOKENS.find(present) or ""
        text = recipe.text_column or FIELDS["text"].find(present) or ""
        tags = recipe.label_column or TAGS.find([name for name in present if name != tokens]) or ""
        entities = recipe.label_column or ENTITIES.find([name for name in present if name != text]) or ""
        for name in filter(None, (recipe.text_column, recipe.label_column)):
            if name not in present:
                raise InvalidSettings(f"{first.where} has no column {name!r}; it has {', '.join(present)}")
        if tokens and tags and _items(first.columns.get(tokens)) is not None:
            return cls(tokens, tags, True)
        if text and entities:
            return cls(text, entities, False)
        raise InvalidSettings(
            f"tagged text is needed: columns `tokens` and `tags`, or `text` and `entities`; {first.where} has"
            f" {', '.join(map(repr, present))}; say --text-column and --label-column"
        )

    def of_corrections(self) -> TagColumns:
        return TagColumns("text", "entities", False)

    def parse(self, record: Record, source: str, names: Sequence[str] = ()) -> Example | Broken:
        """A row as an example whose target is a tuple of spans, or why it is none.

        Args:
            source: where it is from.
            names: of tags that are numbers.
        """
        if record.broken:
            return Broken(record.where, record.broken)
        try:
            text, spans = self._tagged(record, names) if self.are_tokens else self._marked(record)
        except ValueError as error:
            return Broken(record.where, str(error))
        if not text.strip():
            return Broken(record.where, "empty text")
        if not encodable(text):
            return Broken(record.where, "not valid Unicode")
        return Example(TagItem(text), spans, source, record.where)

    def tags_of(self, record: Record) -> list[str]:
        """The tags of a row as they stand there; none where it has none, or cannot be read."""
        return [] if record.broken else [str(tag) for tag in _items(record.columns.get(self.tags)) or []]

    def _tagged(self, record: Record, names: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
        tokens, tags = (_items(record.columns.get(column)) for column in (self.text, self.tags))
        if tokens is None or tags is None:
            raise ValueError(f"{self.text if tokens is None else self.tags!r} is no list")
        if len(tokens) != len(tags):
            raise ValueError(f"{len(tokens)} tokens, but {len(tags)} tags")
        words = [str(token) for token in tokens]
        if any(not word.strip() for word in words):
            raise ValueError("a token without a character")
        tags = [names[int(tag)] if str(tag).isdecimal() and int(tag) < len(names) else str(tag) for tag in tags]
        return " ".join(words), tuple(spans_of(words, tags))

    def _marked(self, record: Record) -> tuple[str, tuple[Span, ...]]:
        text = plain(record.columns.get(self.text))
        if not isinstance(text, str):
            raise ValueError(f"{self.text!r} is not text")
        entries = _items(record.columns.get(self.tags))
        if entries is None:
            raise ValueError(f"{self.tags!r} is no list of entities")
        spans = sorted((_span(entry) for entry in entries), key=lambda span: (span.start, span.end))
        last = 0
        for span in spans:
            if not 0 <= span.start < span.end <= len(text):
                raise ValueError(f"an entity from {span.start} to {span.end} in a text of {len(text)} characters")
            if span.start < last:
                raise ValueError(f"the entity from {span.start} to {span.end} overlaps another one")
            last = span.end
        return text, tuple(spans)


def _span(entry: Any) -> Span:
    """
    Raises:
        ValueError: it is no entity.
    """
    if isinstance(entry, Mapping):
        start, end = entry.get("start", entry.get("start_offset")), entry.get("end", entry.get("end_offset"))
        label = next((entry[name] for name in ("label", "entity", "entity_group", "type", "tag") if entry.get(name)), None)
    elif isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == 3:
        start, end, label = entry  # as doccano and spaCy write it
    else:
        start = end = label = None
    if not (isinstance(start, int) and isinstance(end, int) and isinstance(label, str) and label.strip()):
        raise ValueError("an entity needs `start`, `end` and `label`")
    return Span(start, end, label.strip())


def _items(cell: Any) -> list[Any] | None:
    """A list, also one that is written as JSON or in Python's way, or as words; None: it is none."""
    cell = plain(cell)
    if isinstance(cell, str):
        if not cell.strip().startswith(("[", "(")):
            return cell.split()
        cell = literal(cell)
    return cell if isinstance(cell, list) else None


def spans_of(tokens: Sequence[str], tags: Sequence[str]) -> Iterator[Span]:
    """The entities of tagged tokens, which stand in a text with a blank between them.

    Prefixes say what begins, goes on, or ends; without any, neighbours of one tag are one.
    """
    parts = label_parts(tags)
    position, current, before = 0, None, TaggedLabel("I", OUTSIDE, False)
    for token, tag, part in zip(tokens, tags, parts, strict=True):
        start, end = position, position + len(token)
        position = end + 1
        if tag.upper() == OUTSIDE:
            part = TaggedLabel("I", OUTSIDE, False)
        if current is not None and not goes_on(before, part):
            yield current
            current = None
        if part.type != OUTSIDE or part.is_prefixed:
            current = Span(current.start if current else start, end, part.type)
        before = part
    if current is not None:
        yield current


def scheme_of(tags: Counter[str], num_spans: int) -> Scheme:
    """By which tags a model is to learn: those of the data where they say where an entity begins or ends; BIO for entities."""
    if not tags and num_spans:
        return "BIO"
    parts = label_parts(list(tags))
    if any(part.is_prefixed and part.place in ("E", "S") for part in parts):
        return "BIOES"
    return "BIO" if any(part.is_prefixed for part in parts) else "plain"


def labels_for(types: Sequence[str], scheme: Scheme, has_outside: bool) -> list[str]:
    """The labels of a model: `O` first, then those of each type."""
    prefixes = {"BIO": ("B-", "I-"), "BIOES": ("B-", "I-", "E-", "S-"), "plain": ("",)}[scheme]
    return [*([OUTSIDE] if has_outside else []), *(prefix + name for name in sorted(types) for prefix in prefixes)]


def tags_for(words: Sequence[tuple[int, int]], spans: Sequence[Span], scheme: Scheme) -> list[str]:
    """The tag of each word of a text, from the characters of the words and the entities, both in order."""
    owners: list[int] = []
    number = 0
    for start, end in words:
        while number < len(spans) and spans[number].end <= start:
            number += 1
        owners.append(number if number < len(spans) and spans[number].start < end else -1)
    tags = []
    for place, owner in enumerate(owners):
        if owner < 0:
            tags.append(OUTSIDE)
            continue
        first = place == 0 or owners[place - 1] != owner
        last = place == len(owners) - 1 or owners[place + 1] != owner
        prefix = {"plain": "", "BIO": "B-" if first else "I-"}.get(scheme)
        if prefix is None:
            prefix = ("S-" if last else "B-") if first else ("E-" if last else "I-")
        tags.append(prefix + spans[owner].label)
    return tags
