"""Fill-mask: for each mask of a text the tokens that may stand there, each mask for itself and the others left as they are.

The graph gives logits at the masks alone (axis `position`): those of all tokens would be as many numbers as the vocabulary
has words, for each token of the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooLarge
from app.core.types import RowOutput, Truncation
from app.tasks.base import Decision, Encoded, TextItem, refuse_text
from app.tasks.passage import softmax
from app.tasks.tokenizer import Tokenizer, Tokens

Floats = NDArray[np.float64]
OUTPUT = "logits"
OVERLAP = 64
"""Tokens that neighbouring windows share."""
MAX_MASKS = 16
"""In one text: each is a distribution over the whole vocabulary."""
MASKS = ("[MASK]", "<mask>")
"""Mask tokens of the families there are."""
PADDINGS = ("[PAD]", "<pad>")
WORD_STARTS = ("Ġ", "▁")
"""With which a piece begins that stands for the blank before it, too."""


@dataclass(frozen=True, slots=True)
class MaskedItem(TextItem):
    mask: str = ""
    """What stands for the mask in the text; empty: the model's own mask token."""


@dataclass(frozen=True, slots=True)
class FillOptions:
    top_k: int = 5
    targets: tuple[str, ...] | None = None
    """What may stand in a mask's place; None: any token. Scores stay shares of the whole vocabulary."""
    truncation: Truncation = "window"
    is_hub: bool = False
    """Whether targets and sequences are those of transformers' pipeline: of a target of several tokens the first counts, and
    sequences are what the tokenizer makes of all tokens."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A token in the mask's place."""

    id: int
    token: str
    score: float
    """Its probability among all tokens of the vocabulary."""
    sequence: str
    """The text with the token in the place of this mask."""


@dataclass(frozen=True, slots=True)
class FilledMask:
    """`text[start:end]` of the item is the mask; its fills, the likeliest first."""

    start: int
    end: int
    fills: Sequence[Fill]


@dataclass(frozen=True, slots=True)
class FilledMasks:
    """In the order of the text; masks that were cut off are left out."""

    masks: Sequence[FilledMask]


@dataclass(frozen=True, slots=True)
class MaskReading:
    """What an item's rows were made from."""

    tokens: Tokens
    masks: Sequence[int]
    """Numbers of the tokens that are masks and were read, in order."""
    targets: Sequence[Sequence[int]]
    """Tokens that each target may be."""
    num_masks: int
    """Of the text, those included that were cut off."""


class FillMask:
    """Satisfies `Task`. Reads an output `logits` of axis `position`: (masks, vocabulary)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            InvalidArtefact: the tokenizer has no mask token.
        """
        mask = next((mask for mask in MASKS if tokenizer.token_id(mask) is not None), "")
        if not mask:
            raise InvalidArtefact(f"the tokenizer has no mask token: neither {' nor '.join(MASKS)}")
        self.mask, self._mask_id = mask, tokenizer.token_id(mask)
        self._tokenizer = tokenizer
        self._padding_ids = {tokenizer.token_id(padding) for padding in PADDINGS}
        self._prefix = json.loads(tokenizer.definition)["model"].get("continuing_subword_prefix") or ""
        self._pieces = tokenizer.pieces()
        self._max_tokens, self._unknown_id = tokenizer.max_tokens, tokenizer.unknown_id()

    def encode(self, items: Sequence[MaskedItem], options: FillOptions) -> list[Encoded | HooperError]:
        """Rows of the windows that hold a mask."""
        texts = [item.text.replace(item.mask, self.mask) if item.mask else item.text for item in items]
        errors = [refuse_text(text, "text") or self._refuse_masks(text) for text in texts]
        try:
            targets = self._target_ids(options)
        except InvalidInput as error:
            return [refused or error for refused in errors]
        valid = [text for text, error in zip(texts, errors, strict=True) if error is None]
        encodings = iter(self._pieces.encode(valid) if valid else [])
        return [error or self._encoded(next(encodings), targets, options) for error in errors]

    def _refuse_masks(self, text: str) -> InvalidInput | None:
        if self.mask in text:
            return None
        other = next((mask for mask in MASKS if mask in text), "")
        if other:
            return InvalidInput(f"has {other}, which is another model's mask; this one's is {self.mask}", "text")
        return InvalidInput(f"has no mask: write {self.mask} where a word is missing", "text")

    def _encoded(self, tokens: Tokens, targets: Sequence[Sequence[int]], options: FillOptions) -> Encoded | HooperError:
        template = self._pieces.single
        size = max(1, self._max_tokens - template.num_special_tokens)
        masks = [number for number, token in enumerate(tokens.ids) if token == self._mask_id]
        if len(tokens) > size and options.truncation == "error":
            return TooLarge(
                f"the text has more than {self._max_tokens} tokens, the longest this model reads", ("truncate", "window")
            )
        read = masks if options.truncation == "window" else [number for number in masks if number < size]
        if len(read) > MAX_MASKS:
            return TooLarge(f"the text has {len(read)} masks, more than {MAX_MASKS}")
        if not read:
            return TooLarge(f"the first mask stands behind the {self._max_tokens} tokens that this model reads", ("window",))
        whole = range(min(len(tokens), size))
        windows = list(_windows(read, len(tokens), size)) if options.truncation == "window" else [(whole, read)]
        rows = []
        for window, inside in windows:
            positions = tuple(number - window.start + template.start() for number in inside)
            rows.append(replace(template.row(tokens.ids[window.start : window.stop]), output_positions=positions))
        is_cut = len(tokens) > size and options.truncation != "window"
        reading = MaskReading(tokens, read, targets, len(masks))
        return Encoded(rows, sum(row.num_tokens for row in rows), is_cut, reading)

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: FillOptions) -> FilledMasks:
        """The likeliest tokens at each mask."""
        reading: MaskReading = encoded.state
        tokens = reading.tokens
        masks = []
        for number, shares in zip(reading.masks, _covering(_shares(outputs), reading.targets), strict=True):
            start, end = tokens.offsets[number]
            ids = _likeliest(shares, reading.targets, options)
            fills = [
                Fill(
                    token,
                    self._tokenizer.decode([token]),
                    float(shares[token]),
                    self._sequence(reading, number, token, options),
                )
                for token in ids
            ]
            masks.append(FilledMask(start, end, fills))
        return FilledMasks(masks)

    def _sequence(self, reading: MaskReading, number: int, token: int, options: FillOptions) -> str:
        """The text with a token in the place of the mask that is its token `number`."""
        tokens = reading.tokens
        if options.is_hub:
            ids = [*tokens.ids[:number], token, *tokens.ids[number + 1 :]]
            shown = [number for number in self._pieces.single.row(ids).input_ids if number not in self._padding_ids]
            # other masks are special tokens, and would be gone with them
            return self._tokenizer.decode(shown, skip_special_tokens=reading.num_masks == 1)
        start, end = tokens.offsets[number]
        before, piece = tokens.text[:start], self._tokenizer.token(token)
        word = self._tokenizer.decode([token])
        goes_on = piece.startswith(self._prefix) if self._prefix else not piece.startswith(WORD_STARTS)
        if goes_on:
            return before.removesuffix(" ") + word.removeprefix(self._prefix) + tokens.text[end:]
        return before + (word.strip() or word) + tokens.text[end:]

    def _target_ids(self, options: FillOptions) -> list[list[int]]:
        """The tokens that each target may be: within a text and at its beginning a word is often not the same token.

        Raises:
            InvalidInput: a target is no single token.
        """
        targets = []
        for number, target in enumerate(options.targets or ()):
            known = self._tokenizer.token_id(target)
            if options.is_hub and known is not None:
                targets.append([known])
                continue
            plain, spaced = (tokens.ids for tokens in self._pieces.encode([target, f" {target}"]))
            if options.is_hub:
                targets.append(list(plain[:1]))
                continue
            single = list(dict.fromkeys(ids[0] for ids in (spaced, plain) if len(ids) == 1))
            if not single:
                pieces = " ".join(map(self._tokenizer.token, plain)) or "none"
                raise InvalidInput(
                    f"{target!r} is no single token of this model, but {len(plain)}: {pieces}", f"targets.{number}"
                )
            if self._unknown_id in single and target != self._tokenizer.token(self._unknown_id):
                raise InvalidInput(f"{target!r} is unknown to this model", f"targets.{number}")
            targets.append(single)
        return [target for target in targets if target]

    def decision(self, answer: FilledMasks, options: FillOptions) -> Decision | None:
        """How sure the model is of the mask that it is surest of; there are no labels."""
        return Decision("", max(mask.fills[0].score for mask in answer.masks))

    def same_decision(self, answer: FilledMasks, other: FilledMasks, options: FillOptions) -> bool:
        """Whether the same token is the likeliest at each mask."""
        return best_ids(answer) == best_ids(other)

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """The published tokens have their scores still, and none is much likelier than the published best."""
        reading: MaskReading = encoded.state
        shares, published = _shares(outputs), expected["masks"]
        if len(shares) != len(published):
            return f"{len(shares)} masks are filled, {len(published)} were"
        for number, (own, mask) in enumerate(zip(shares, published, strict=True), start=1):
            for fill in mask["fills"]:
                if not abs(own[fill["id"]] - fill["score"]) <= tolerance:  # "not": NaN is no score
                    return f"{fill['token']!r} scores {own[fill['id']]:.4f} at mask {number}, was {fill['score']:.4f}"
            best = _likeliest(own, reading.targets, FillOptions(top_k=1))[0]
            if own[best] - own[mask["fills"][0]["id"]] > 2 * tolerance:
                return f"{self._tokenizer.token(best)!r} is likelier than {mask['fills'][0]['token']!r} at mask {number} now"
        return ""


def best_ids(answer: FilledMasks) -> list[int]:
    """The likeliest token of each mask."""
    return [mask.fills[0].id for mask in answer.masks]


def _windows(masks: Sequence[int], num_tokens: int, size: int) -> Iterator[tuple[range, list[int]]]:
    """Windows of a text with the masks that are read in them: the first in its middle, and those behind it that have context on
    both sides."""
    rest = list(masks)
    while rest:
        start = max(0, min(rest[0] - size // 2, num_tokens - size))
        stop = min(start + size, num_tokens)
        end = stop if stop == num_tokens else stop - min(OVERLAP, size // 4)
        inside = [number for number in rest if number < end]
        yield range(start, stop), inside
        rest = rest[len(inside) :]


def _shares(outputs: Sequence[RowOutput]) -> Floats:
    """Probabilities of all tokens at each mask: (masks, vocabulary)."""
    logits = np.concatenate([output[OUTPUT] for output in outputs]).astype(np.float64)
    return softmax(logits)


def _covering(shares: Floats, targets: Sequence[Sequence[int]]) -> Floats:
    """The same, with 0 for targets beyond the head, which a tokenizer may have: the model never fills them in."""
    missing = max((token + 1 for target in targets for token in target), default=0) - shares.shape[1]
    return np.pad(shares, ((0, 0), (0, missing))) if missing > 0 else shares


def _likeliest(shares: Floats, targets: Sequence[Sequence[int]], options: FillOptions) -> list[int]:
    """Tokens, the likeliest first; of a target that may be one of several tokens, its likeliest. (vocabulary,)"""
    if options.targets is not None:
        candidates = np.array(list(dict.fromkeys(max(target, key=lambda token: shares[token]) for target in targets)), np.int64)
    elif options.top_k < len(shares):
        candidates = np.argpartition(-shares, options.top_k - 1)[: options.top_k]
    else:
        candidates = np.arange(len(shares))
    ranked = candidates[np.lexsort((candidates, -shares[candidates]))]
    return [int(token) for token in ranked[: options.top_k]]
