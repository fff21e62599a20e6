"""The one door to `tokenizers`: text in, token windows with character offsets out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tokenizers import Encoding as Encoding  # re-exported: what tasks hold between encode and decode
from tokenizers import Tokenizer as _Tokenizer

from app.core.errors import InvalidArtefact
from app.core.types import Row

Pair = tuple[str, str]
Offsets = Sequence[tuple[int, int]]
Side = Literal["right", "left"]
SHORT_CHARACTERS = 1_000
"""A single text up to here is tokenized by `encode`, which lets no other thread run meanwhile, for seconds where there are two
megabytes of it. `encode_batch` does, and costs 20 microseconds more."""


@dataclass(frozen=True)
class Tokens:
    """A text's own tokens, without special ones."""

    text: str
    ids: Sequence[int]
    encoding: Encoding

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def spans(self) -> Offsets:
        """Character span of each token in the text, with such blanks as it stands for."""
        return self.encoding.offsets  # type: ignore[no-any-return]

    @cached_property
    def offsets(self) -> Offsets:
        """Character span of each token in the text, without the blanks around it."""
        return [trimmed(self.text, span) for span in self.spans]


@dataclass(frozen=True, slots=True)
class Window:
    """One model input of a text or a pair: the whole of it, or one of its overlapping windows."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int]
    encoding: Encoding
    texts: Sequence[str]

    @property
    def offsets(self) -> Offsets:
        """Character span of each token in its own sequence, without the blanks around it; special tokens are (0, 0)."""
        return [
            (0, 0) if sequence is None else trimmed(self.texts[sequence], span)
            for sequence, span in zip(self.sequence_ids, self.encoding.offsets, strict=True)
        ]

    @property
    def sequence_ids(self) -> Sequence[int | None]:
        """0 or 1 for the sequence a token belongs to, None for special tokens."""
        return self.encoding.sequence_ids  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens before, between and after the sequences of a row, with the token types of all of them."""

    specials: Sequence[Sequence[tuple[int, int]]]
    """Id and type of each special token: before the first sequence, behind it, and behind the second of a pair."""
    types: Sequence[int]
    """Of the tokens of each sequence."""

    @property
    def num_special_tokens(self) -> int:
        return sum(map(len, self.specials))

    def row(self, *sequences: Sequence[int]) -> Row:
        """The sequences' ids with the special tokens around them."""
        input_ids = [number for number, _ in self.specials[0]]
        token_type_ids = [kind for _, kind in self.specials[0]]
        for ids, kind, behind in zip(sequences, self.types, self.specials[1:], strict=True):
            input_ids += [*ids, *(number for number, _ in behind)]
            token_type_ids += [*[kind] * len(ids), *(kind for _, kind in behind)]
        return Row(input_ids, token_type_ids)

    def start(self, *before: Sequence[int]) -> int:
        """Position in the row of the first token of the sequence that follows these."""
        return sum(map(len, before)) + sum(map(len, self.specials[: len(before) + 1]))


class Tokenizer:
    """Tokenizes with one fixed window length and stride.

    `tokenizers` keeps truncation as state of the instance, so an instance is never changed after it is built: a second
    mode is a second instance (`with_windows`).
    """

    def __init__(
        self, definition: str, max_tokens: int, stride: int = 0, only_second: bool = False, side: Side | None = None
    ) -> None:
        """
        Args:
            definition: the JSON text of a tokenizer.json.
            max_tokens: longest window, special tokens included.
            stride: tokens that two neighbouring windows share.
            only_second: cut the second sequence of a pair and repeat the first in every window.
            side: where a longer text is cut, so that the first window is its beginning (`right`) or its end (`left`); None: as
                the definition says, see `cut_side`.

        Raises:
            InvalidArtefact: the definition cannot be parsed.
        """
        self._tokenizer = _parsed(definition)
        self.definition = definition
        self.max_tokens = max_tokens
        self._tokenizer.no_padding()
        self.side = side or cut_side(self._tokenizer)
        strategy = "only_second" if only_second else "longest_first"
        self._tokenizer.enable_truncation(max_tokens, stride=stride, strategy=strategy, direction=self.side)

    @classmethod
    def from_file(cls, path: Path, max_tokens: int) -> Tokenizer:
        try:
            return cls(path.read_text(encoding="utf-8"), max_tokens)
        except OSError as error:
            raise InvalidArtefact(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InvalidArtefact(f"{path} is not UTF-8") from error

    def with_windows(self, max_tokens: int, stride: int, only_second: bool = False) -> Tokenizer:
        """Another instance over the same vocabulary, with its own window length and stride."""
        return Tokenizer(self.definition, max_tokens, stride, only_second, "right")

    def cut_on(self, side: Side) -> Tokenizer:
        """Another instance over the same vocabulary and length, that cuts longer texts on this side."""
        return Tokenizer(self.definition, self.max_tokens, side=side)

    def windows(self, texts: Sequence[str | Pair]) -> list[list[Window]]:
        """All windows of each text, in order; always at least one."""
        encodings = _encodings(self._tokenizer, texts)
        return [
            [_window(part, text) for part in (first, *first.overflowing)] for first, text in zip(encodings, texts, strict=True)
        ]

    def pieces(self) -> Pieces:
        """The same vocabulary, tokenizing texts whole."""
        return Pieces(self.definition)

    def token_id(self, token: str) -> int | None:
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def token(self, number: int) -> str:
        """As the vocabulary spells it; empty where there is none of this number."""
        return self._tokenizer.id_to_token(number) or ""

    def special_tokens(self) -> dict[str, int]:
        """What is left out of decoded texts, by how it is spelled."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text that these tokens are for."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def vocabulary_size(self) -> int:
        """Different tokens, added ones too."""
        return int(self._tokenizer.get_vocab_size())

    def unknown_id(self) -> int | None:
        """The token that stands for what the vocabulary lacks; None where it lacks nothing, as one made of bytes."""
        model = json.loads(self.definition)["model"]
        if model.get("unk_token"):
            return self.token_id(model["unk_token"])
        number: int | None = model.get("unk_id")
        return number

    def num_special_tokens(self, pair: bool) -> int:
        count: int = self._tokenizer.num_special_tokens_to_add(pair)
        return count


class PlainToken(NamedTuple):
    """A token of a text, or one that the tokenizer puts around it."""

    id: int
    text: str
    """Its characters in the text; of a special token its name."""
    span: tuple[int, int] | None
    """Of characters; None: a special token."""


class Pieces:
    """Tokenizes texts whole, without special tokens: their tasks cut and join them into rows by the templates.

    What a row holds can so be chosen per request, and the rows of a long text cost no more than its length.
    """

    def __init__(self, definition: str) -> None:
        self._tokenizer = _parsed(definition)
        self.side = cut_side(self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.single = _template(self._tokenizer, "a")
        self.pair = _template(self._tokenizer, "a", "b")

    def whole(self, texts: Sequence[str], with_special: bool) -> list[list[PlainToken]]:
        """All tokens of each text, as another program may want to see them."""
        return [
            [
                PlainToken(number, name, None) if is_special else PlainToken(number, text[slice(*span)], span)
                for number, name, span, is_special in zip(
                    encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True
                )
            ]
            for text, encoding in zip(texts, _encodings(self._tokenizer, texts, with_special), strict=True)
        ]

    def text_of(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """What these tokens are for; the vocabulary has them."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def unknown(self, ids: Sequence[int]) -> int | None:
        """The first of these numbers that is no token; None: all are."""
        return next((number for number in ids if self._tokenizer.id_to_token(number) is None), None)

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text."""
        encodings = _encodings(self._tokenizer, texts, add_special_tokens=False)
        return [Tokens(text, encoding.ids, encoding) for text, encoding in zip(texts, encodings, strict=True)]


def _encodings(tokenizer: _Tokenizer, texts: Sequence[str | Pair], add_special_tokens: bool = True) -> list[Encoding]:
    if len(texts) == 1:
        sequences = (texts[0],) if isinstance(texts[0], str) else texts[0]
        if sum(map(len, sequences)) <= SHORT_CHARACTERS:
            return [tokenizer.encode(*sequences, add_special_tokens=add_special_tokens)]
    encodings: list[Encoding] = tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
    return encodings


def cut_side(tokenizer: _Tokenizer) -> Side:
    """Which end of a longer text the definition loses: published ones keep `truncation` only where that is its beginning."""
    return "left" if (tokenizer.truncation or {}).get("direction") == "left" else "right"


def trimmed(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """A span without the blanks at its ends: some tokenizers count the blank before a word to its first token."""
    start, end = span
    piece = text[start:end].lstrip()
    start = end - len(piece)
    return start, start + len(piece.rstrip())


def _parsed(definition: str) -> _Tokenizer:
    """The tokenizer of a definition, with the offsets that its model gives.

    Post-processors of byte-level models shorten offsets by the blanks that they believe a token to begin with, which differs
    from what stands in the text; see `trimmed`.

    Raises:
        InvalidArtefact: the definition cannot be parsed.
    """
    try:
        tokenizer = _Tokenizer.from_str(definition)
        if tokenizer.post_processor is not None:
            state = json.loads(tokenizer.post_processor.__getstate__())
            tokenizer.post_processor = _words_of_one_letter(_without_trimming(state)).post_processor
    except Exception as error:  # tokenizers raises plain Exception
        raise InvalidArtefact(f"the tokenizer cannot be read: {error}") from error
    return tokenizer


def _without_trimming(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: False if key == "trim_offsets" else _without_trimming(value) for key, value in state.items()}
    return [_without_trimming(value) for value in state] if isinstance(state, list) else state


def _words_of_one_letter(post_processor: Any) -> _Tokenizer:
    """A tokenizer that knows two words, and treats what it reads by this post-processor."""
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}
    return _Tokenizer.from_str(json.dumps({"version": "1.0", "model": model, "post_processor": post_processor}))


def _template(tokenizer: _Tokenizer, *texts: str) -> Template:
    """What the post-processor puts around sequences, seen at sequences of one token."""
    state = None if tokenizer.post_processor is None else json.loads(tokenizer.post_processor.__getstate__())
    encoding = _words_of_one_letter(state).encode(*texts)
    specials: list[list[tuple[int, int]]] = [[]]
    types: list[int] = []
    for number, kind, sequence in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            specials[-1].append((number, kind))
        elif sequence == len(types):
            types.append(kind)
            specials.append([])
    if len(types) != len(texts):
        raise InvalidArtefact("the tokenizer does not put the first text of a pair before the second")
    return Template(specials, types)


def _window(encoding: Encoding, text: str | Pair) -> Window:
    return Window(encoding.ids, encoding.type_ids, encoding, text if isinstance(text, tuple) else (text,))


def encodable(text: str) -> bool:
    """Whether the text is Unicode that can be written down: lone surrogates are not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
