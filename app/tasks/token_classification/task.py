"""Token classification: entities of a text with their places, read in overlapping windows of it.

A token counts in the window where it has most context around it; words and entities are made of the whole text's
tokens afterwards, so that no window's border cuts one. The strategies are those of transformers' pipeline, but words are
words in every tokenizer: see docs/adr/0066-entities-are-made-of-words.md.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.core.errors import HooperError, InvalidInput, TooLarge
from app.core.types import RowOutput, Truncation
from app.tasks.base import Decision, Encoded, TextItem, refuse_text
from app.tasks.passage import Passage, mask_of, softmax, words_of
from app.tasks.platt import Ceiling, Floor, PlattScaling, Slope
from app.tasks.tokenizer import Tokenizer, Tokens
from app.tasks.words import continues, is_ideograph

Floats = NDArray[np.float64]
Aggregation = Literal["none", "simple", "first", "average", "max"]
Key = tuple[str, int, int]
"""Label, start and end of an entity."""
OUTPUT = "logits"
OUTSIDE = "O"
"""The label of tokens that are in no entity."""
OVERLAP = 64
"""Tokens that neighbouring windows share."""
_PREFIXED = re.compile(r"([BIESLUM])[-_](.+)", re.DOTALL)
_PLACES = {"L": "E", "U": "S", "M": "I"}
"""BILOU's and BMES's letters for the last token, the only one, and those between."""
TIE = 0.1
"""Probabilities so near to each other that rounding may decide between them: see `golden_difference`."""


@dataclass(frozen=True, slots=True)
class TagItem(TextItem):
    """A text whose tokens get labels."""


@dataclass(frozen=True, slots=True)
class TagOptions:
    aggregation: Aggregation = "first"
    truncation: Truncation = "window"
    stride: int = OVERLAP
    """Tokens that neighbouring windows share; at most half of what fits in one."""
    ignored: tuple[str, ...] = (OUTSIDE,)
    """Labels that are left out, as the model spells them or without their prefix."""


@dataclass(frozen=True, slots=True)
class Entity:
    """`text[start:end]` of the item; the score is the mean probability of its words' labels, and of a model that has a line for
    it, what that makes of it."""

    label: str
    text: str
    start: int
    end: int
    score: float
    is_well_formed: bool = True
    """Whether its tags are those of an entity in the model's scheme: begun by `B`, and ended by `E` where there is such a tag.
    Figures that are called strict count no other."""


@dataclass(frozen=True, slots=True)
class Entities:
    """In the order of the text."""

    entities: Sequence[Entity]
    is_grouped: bool = True
    """Whether they are entities; else they are single tokens, whose labels have their prefix."""


@dataclass(frozen=True, slots=True)
class TaggedLabel:
    """A label in its parts."""

    place: Literal["B", "I", "E", "S"]
    """Of a token in its entity: the first, one within, the last, the only one. Labels that do not tell are `I`."""
    type: str
    is_prefixed: bool


@dataclass(frozen=True, slots=True)
class TextReading:
    """What an item's rows were made from."""

    tokens: Tokens
    windows: Sequence[range]
    """The text's tokens in each row."""
    first: int
    """Position in a row of the first of them."""

    def logits(self, outputs: Sequence[RowOutput]) -> Floats:
        """Of each token that was read, from the window in which it has most context: (tokens, labels)."""
        parts = []
        for number, (window, output) in enumerate(zip(self.windows, outputs, strict=True)):
            begin = window.start if number == 0 else (window.start + self.windows[number - 1].stop) // 2
            last = number == len(self.windows) - 1
            end = window.stop if last else (self.windows[number + 1].start + window.stop) // 2
            shift = self.first - window.start
            parts.append(output[OUTPUT][begin + shift : end + shift])
        return np.concatenate(parts).astype(np.float64)


class TokenClassification:
    """Satisfies `Task`. Reads an output `logits` of axis `token`: (tokens, labels)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Annotated[Sequence[str], Field(min_length=1)],
        score_slope: Slope = 1.0,
        score_intercept: float = 0.0,
        score_floor: Floor = 0.0,
        score_ceiling: Ceiling = 1.0,
    ) -> None:
        """
        Args:
            tokenizer: its `max_tokens` is the length of a window.
            labels: in the order of the graph's outputs, with their prefixes.
            score_slope, score_intercept, score_floor, score_ceiling: of the curve that makes an entity's score the probability
                that label and both ends are right; single tokens (aggregation `none`) keep their probabilities.
        """
        self._pieces = tokenizer.pieces()
        self._max_tokens = tokenizer.max_tokens
        self._mask_id = mask_of(tokenizer) or 0
        # WordPiece marks what continues a word; others know only blanks, and for them signs and ideographs end a word, too
        self._ends_words_at_signs = json.loads(tokenizer.definition)["model"].get("type") != "WordPiece"
        self._scaling = PlattScaling(score_slope, score_intercept, score_floor, score_ceiling)
        self.labels = tuple(labels)
        self.parts = label_parts(self.labels)
        self._has_ends = any(part.is_prefixed and part.place in ("E", "S") for part in self.parts)

    def encode(self, items: Sequence[TagItem], options: TagOptions) -> list[Encoded | HooperError]:
        """One row per window of the text."""
        errors = [refuse_text(item.text, "text") for item in items]
        texts = [item.text for item, error in zip(items, errors, strict=True) if error is None]
        encodings = iter(self._pieces.encode(texts) if texts else [])
        return [error or self._encoded(next(encodings), options) for error in errors]

    def _encoded(self, tokens: Tokens, options: TagOptions) -> Encoded | HooperError:
        template = self._pieces.single
        size = max(1, self._max_tokens - template.num_special_tokens)
        if len(tokens) > size and options.truncation == "error":
            return TooLarge(
                f"the text has more than {self._max_tokens} tokens, the longest this model reads", ("truncate", "window")
            )
        step = size - min(options.stride, size // 2)
        starts = range(0, max(1, len(tokens) - size + step), step) if options.truncation == "window" else range(1)
        windows = [range(start, min(start + size, len(tokens))) for start in starts]
        rows = [template.row(tokens.ids[window.start : window.stop]) for window in windows]
        reading = TextReading(tokens, windows, template.start())
        return Encoded(rows, sum(row.num_tokens for row in rows), windows[-1].stop < len(tokens), reading)

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: TagOptions) -> Entities:
        """Entities in the order of the text; with `none` every token that has a label."""
        reading: TextReading = encoded.state
        probabilities = softmax(reading.logits(outputs))  # (tokens, labels)
        is_grouped = options.aggregation != "none"
        units = self._units(reading.tokens, probabilities, options.aggregation)
        groups = self._groups(units) if is_grouped else ([unit] for unit in units)
        entities = []
        for group in groups:
            label, start, end, _ = group[0]
            end = group[-1][2]
            name = self.parts[label].type if is_grouped else self.labels[label]
            if not {name, self.labels[label]} & set(options.ignored):
                score = float(np.mean([unit[3] for unit in group]))
                score = float(self._scaling(score)) if is_grouped else score
                is_well_formed = not is_grouped or self._is_well_formed([unit[0] for unit in group])
                entities.append(Entity(name, reading.tokens.text[start:end], start, end, score, is_well_formed))
        return Entities(entities, is_grouped)

    def _is_well_formed(self, labels: Sequence[int]) -> bool:
        """Of the labels of an entity's words, in order."""
        first, last = self.parts[labels[0]], self.parts[labels[-1]]
        if not first.is_prefixed:
            return True
        if self._has_ends:
            return first.place == "S" or (first.place == "B" and last.place == "E")
        return first.place == "B"

    def _units(self, tokens: Tokens, probabilities: Floats, aggregation: Aggregation) -> Iterator[tuple[int, int, int, float]]:
        """Label, span and score of each token (`none`, `simple`) or word, in order."""
        offsets = own_spans(tokens)
        if aggregation in ("none", "simple"):
            for number, scores in enumerate(probabilities):
                start, end = offsets[number]
                if start < end:
                    yield int(scores.argmax()), start, end, float(scores.max())
            return
        for word in self.words(tokens, len(probabilities)):
            scores = _of_word(probabilities[word.start : word.stop], aggregation)
            spans = [offsets[number] for number in word if offsets[number][0] < offsets[number][1]]
            if spans:
                yield int(scores.argmax()), spans[0][0], spans[-1][1], float(scores.max())

    def words(self, tokens: Tokens, num_tokens: int) -> list[range]:
        """The first so many tokens of a text as words: tokens that stand side by side within one."""
        ids, offsets, text = tokens.encoding.word_ids, own_spans(tokens), tokens.text
        words: list[range] = []
        last_end = -1  # of the word's characters so far; -1: it has none
        for number in range(num_tokens):
            start, end = offsets[number]
            is_empty = start >= end
            is_same = bool(words) and ids[number] == ids[number - 1]
            if is_same and not is_empty and last_end >= 0:
                is_same = start <= last_end and not (self._ends_words_at_signs and _ends_word(text, start))
            if is_same:
                words[-1] = range(words[-1].start, number + 1)
            else:
                words.append(range(number, number + 1))
                last_end = -1
            last_end = last_end if is_empty else end
        return words

    def _groups(self, units: Iterator[tuple[int, int, int, float]]) -> Iterator[list[tuple[int, int, int, float]]]:
        """Units of one entity together: a label joins the one before unless it begins an entity, or that one ended it."""
        group: list[tuple[int, int, int, float]] = []
        for unit in units:
            if group and not goes_on(self.parts[group[-1][0]], self.parts[unit[0]]):
                yield group
                group = []
            group.append(unit)
        if group:
            yield group

    def decision(self, answer: Entities, options: TagOptions) -> Decision | None:
        """The label of the surest entity; None where there is none."""
        best = max(answer.entities, key=lambda entity: entity.score, default=None)
        return None if best is None else Decision(best.label, best.score)

    def same_decision(self, answer: Entities, other: Entities, options: TagOptions) -> bool:
        """Whether the same spans have the same labels."""
        return keys_of(answer) == keys_of(other)

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """An entity may have come or gone, or have another border, only where labels of one of its words are nearly tied."""
        answer = self.decode(encoded, outputs, TagOptions())
        published = [Entity(**entry) for entry in expected["entities"]]
        now, was = keys_of(answer), keys_of(Entities(published))
        scores = {(entity.label, entity.start, entity.end): entity.score for entity in answer.entities}
        for entity in published:
            key = (entity.label, entity.start, entity.end)
            if key in scores and not self._are_alike(scores[key], entity.score, tolerance):
                return f"{entity.text!r} scores {scores[key]:.4f} as {entity.label}, was {entity.score:.4f}"
        probabilities = softmax(encoded.state.logits(outputs))
        for label, start, end in sorted(now ^ was, key=lambda span: span[1:]):
            if not self._is_tied(encoded.state.tokens, probabilities, start, end, max(TIE, 2 * tolerance)):
                text = encoded.state.tokens.text[start:end]
                return f"{text!r} is {label} now" if (label, start, end) in now else f"{text!r} is {label} no more"
        return ""

    def _are_alike(self, score: float, other: float, tolerance: float) -> bool:
        """Whether they lie so near to each other before they are scaled, which may pull them apart; NaN is near to nothing."""
        return bool(abs(self._scaling.inverse(score) - self._scaling.inverse(other)) <= tolerance)

    def _is_tied(self, tokens: Tokens, probabilities: Floats, start: int, end: int, margin: float) -> bool:
        """Whether a word in this span, or just behind it, might as well have another label."""
        for word in self.words(tokens, len(probabilities)):
            first, last = tokens.offsets[word.start][0], tokens.offsets[word.stop - 1][1]
            best = np.sort(probabilities[word.start])[::-1]
            if last > start and first <= end + 1 and (len(best) == 1 or best[0] - best[1] <= margin):
                return True
        return False

    def passage(self, item: TagItem, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """What speaks for a label at the place where it is likeliest; without a target, for the surest entity.

        Raises:
            InvalidInput: no label is called so, or the text has no entity.
        """
        reading: TextReading = encoded.state
        wanted = self._wanted(encoded, outputs, target)
        best = (-np.inf, 0, 0)
        for number, (window, output) in enumerate(zip(reading.windows, outputs, strict=True)):
            logits = output[OUTPUT][reading.first : reading.first + len(window)].astype(np.float64)
            odds = log_odds(logits, wanted)
            if odds.size and odds.max() > best[0]:
                best = (float(odds.max()), number, int(odds.argmax()))
        _, number, place = best
        window, position = reading.windows[number], reading.first + place
        spans = list(enumerate(reading.tokens.offsets[window.start : window.stop], reading.first))
        words = words_of("text", item.text, [(where, span) for where, span in spans if span[0] < span[1]])

        def read(output: RowOutput) -> float:
            return float(log_odds(output[OUTPUT][position : position + 1].astype(np.float64), wanted)[0])

        label = target or self.parts[wanted[0]].type
        return Passage(encoded.rows[number], words, label, read, mask_id=self._mask_id)

    def _wanted(self, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> list[int]:
        """Numbers of the labels that are explained: those of a type, or one with its prefix."""
        if target is None:
            best = max(self.decode(encoded, outputs, TagOptions()).entities, key=lambda entity: entity.score, default=None)
            if best is None:
                raise InvalidInput("the text has no entity to explain; name a label of the model", "target")
            target = best.label
        wanted = [number for number, part in enumerate(self.parts) if target in (part.type, self.labels[number])]
        if not wanted:
            known = ", ".join(dict.fromkeys(part.type for part in self.parts))
            raise InvalidInput(f"{target!r} is no label of this model; it knows {known}", "target")
        return wanted


def label_parts(labels: Sequence[str]) -> list[TaggedLabel]:
    """Labels with what their prefixes say: `B-PER`, `I_PER`, `U-PER`.

    A label has a prefix where all but `O` have one, or where it is `B-` or `I-`: `DATE-TIME` and `S-Bahn` have none among
    labels without.
    """
    matches = [_PREFIXED.fullmatch(label) for label in labels]
    all_have = all(match is not None or label.upper() == OUTSIDE for match, label in zip(matches, labels, strict=True))
    parts = []
    for label, match in zip(labels, matches, strict=True):
        if match is not None and (all_have or label.startswith(("B-", "I-"))):
            parts.append(TaggedLabel(_PLACES.get(match[1], match[1]), match[2], True))  # type: ignore[arg-type]
        else:
            parts.append(TaggedLabel("I", label, False))
    return parts


def goes_on(before: TaggedLabel, label: TaggedLabel) -> bool:
    """Whether a label belongs to the entity of the one before it."""
    return before.type == label.type and label.place in ("I", "E") and before.place not in ("E", "S")


def own_spans(tokens: Tokens) -> list[tuple[int, int]]:
    """The characters of each token; none for one that begins where the next one does, and only stands for the blank before it,
    or for a part of its first character."""
    offsets = tokens.offsets
    return [
        (start, start) if number + 1 < len(offsets) and offsets[number + 1][0] <= start else (start, end)
        for number, (start, end) in enumerate(offsets)
    ]


def log_odds(logits: Floats, wanted: Sequence[int]) -> Floats:
    """Log-odds that a label is one of these: (tokens,), from (tokens, labels)."""
    is_wanted = np.isin(np.arange(logits.shape[-1]), wanted)
    if is_wanted.all():
        return np.zeros(len(logits))
    return _log_sum(logits[:, is_wanted]) - _log_sum(logits[:, ~is_wanted])


def _log_sum(logits: Floats) -> Floats:
    largest = logits.max(axis=-1, keepdims=True)
    total: Floats = np.log(np.exp(logits - largest).sum(axis=-1)) + largest[:, 0]
    return total


def _of_word(probabilities: Floats, aggregation: Aggregation) -> Floats:
    """Scores of a word's labels from those of its tokens: (labels,), from (tokens, labels)."""
    scores: Floats
    if aggregation == "average":
        scores = probabilities.mean(axis=0)
    elif aggregation == "max":
        scores = probabilities[probabilities.max(axis=1).argmax()]
    else:
        scores = probabilities[0]
    return scores


def _ends_word(text: str, place: int) -> bool:
    """Whether no word goes on from the character before a place to the one at it."""
    before, character = text[place - 1], text[place]
    if continues(before, character):
        return False
    are_letters = all(entry.isalnum() or unicodedata.category(entry).startswith("M") for entry in (before, character))
    return not are_letters or is_ideograph(before) or is_ideograph(character)


def keys_of(answer: Entities) -> set[Key]:
    """What entities are compared by."""
    return {(entity.label, entity.start, entity.end) for entity in answer.entities}
