"""The one door to `tokenizers`: text in, token windows with character offsets out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizers import Encoding as Encoding  # re-exported: what tasks hold between encode and decode
from tokenizers import Tokenizer as _Tokenizer

from app.core.errors import InvalidArtefact

Pair = tuple[str, str]
Offsets = Sequence[tuple[int, int]]
Side = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class Window:
    """One model input of a text: the whole of it, or one of its overlapping windows."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int]
    encoding: Encoding

    @property
    def offsets(self) -> Offsets:
        """Character span of each token in its own sequence; special tokens are (0, 0)."""
        return self.encoding.offsets  # type: ignore[no-any-return]

    @property
    def sequence_ids(self) -> Sequence[int | None]:
        """0 or 1 for the sequence a token belongs to, None for special tokens."""
        return self.encoding.sequence_ids  # type: ignore[no-any-return]


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
        try:
            self._tokenizer = _Tokenizer.from_str(definition)
        except Exception as error:  # tokenizers raises plain Exception
            raise InvalidArtefact(f"the tokenizer cannot be read: {error}") from error
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
        if len(texts) == 1:
            text = texts[0]
            one = self._tokenizer.encode(*text) if isinstance(text, tuple) else self._tokenizer.encode(text)
            encodings = [one]
        else:
            encodings = self._tokenizer.encode_batch(list(texts))
        return [[_window(first), *map(_window, first.overflowing)] for first in encodings]

    def pieces(self) -> Pieces:
        """The same vocabulary, tokenizing texts whole."""
        return Pieces(self.definition)

    def token_id(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found

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


class Pieces:
    """Tokenizes texts whole, without special tokens, and joins them into windows afterwards.

    What a window holds can so be chosen per request, and the windows of a long text cost no more than its length.
    """

    def __init__(self, definition: str) -> None:
        self._tokenizer = _Tokenizer.from_str(definition)
        self.side = cut_side(self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokens of each text with their character offsets; the caller may change them."""
        if len(texts) == 1:
            return [self._tokenizer.encode(texts[0], add_special_tokens=False)]
        encodings: list[Encoding] = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return encodings

    @staticmethod
    def cut(text: Encoding, num_tokens: int) -> Encoding:
        """The first tokens of a text, and nothing of the rest. `Encoding.truncate` keeps the rest as `overflowing`, and joining
        two texts then makes every pair of their parts: of a long question and a long context, millions."""
        if len(text) <= num_tokens:
            return text
        text.truncate(num_tokens)
        alone = Encoding()
        alone.__setstate__(json.dumps({**json.loads(text.__getstate__()), "overflowing": []}).encode())
        return alone

    def joined(self, first: Encoding, second: Encoding | None = None) -> Window:
        """One text, or a pair of them, with the special tokens around them."""
        return _window(self._tokenizer.post_process(first, second, True))

    def num_special_tokens(self, pair: bool) -> int:
        count: int = self._tokenizer.num_special_tokens_to_add(pair)
        return count


def cut_side(tokenizer: _Tokenizer) -> Side:
    """Which end of a longer text the definition loses: published ones keep `truncation` only where that is its beginning."""
    return "left" if (tokenizer.truncation or {}).get("direction") == "left" else "right"


def _window(encoding: Encoding) -> Window:
    return Window(encoding.ids, encoding.type_ids, encoding)


def encodable(text: str) -> bool:
    """Whether the text is Unicode that can be written down: lone surrogates are not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
