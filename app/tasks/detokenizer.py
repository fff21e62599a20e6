"""From tokens to text while they are being written: what is told stays, whatever comes after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What decoders write for bytes that are no character, or none yet."""
MAX_PENDING = 8
"""Tokens that are waited for to make characters; what is longer in coming is told as it is."""
Decode = Callable[[Sequence[int]], str]
"""From tokens to their text, special ones left out."""


class IncrementalDecoder:
    """The text of a growing run of tokens.

    Decoders treat the first token of a call in a way of their own, and a character may be made of several tokens: so the last
    tokens that were told are decoded again with the new ones, and only what comes behind their text is told.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._told: list[int] = []  # the last tokens whose text was told
        self._told_text = ""
        self._pending: list[int] = []  # those behind them

    def push(self, token_ids: Sequence[int]) -> str:
        """What is certain of their text; the end of a character that is not complete is held back."""
        return "".join(map(self._push, token_ids))  # one by one: of bytes, any number may be no text but a part of them one

    def end(self) -> str:
        """The rest, complete or not."""
        return self._tell(self._decode([*self._told, *self._pending]))

    def _push(self, token_id: int) -> str:
        self._pending.append(token_id)
        text = self._decode([*self._told, *self._pending])
        if text.endswith(REPLACEMENT) and len(self._pending) < MAX_PENDING:
            return ""
        return self._tell(text) if len(text) > len(self._told_text) else ""

    def _tell(self, text: str) -> str:
        new = text[len(self._told_text) :]
        self._told, self._pending = self._pending, []
        self._told_text = self._decode(self._told)
        return new


_WITHOUT_BLANK = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def without_blanks(text: str) -> str:
    """As `clean_up_tokenization` of transformers: each of these without its blanks, one kind after the other."""
    for pattern in _WITHOUT_BLANK:
        text = text.replace(pattern, pattern.strip())
    return text


class BlankRemover:
    """`without_blanks` of a growing text: all pieces together are that of the whole.

    Every pattern begins with a blank, and only that of a lone apostrophe has another: so what stands before a blank does not
    depend on what follows it, unless it ends with an apostrophe.
    """

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """What is certain: all before the last blank that parts it."""
        self._held += text
        cut = self._held.rfind(" ")
        while cut > 0 and self._held[cut - 1] == "'":
            cut = self._held.rfind(" ", 0, cut)
        if cut <= 0:
            return ""
        told, self._held = self._held[:cut], self._held[cut:]
        return without_blanks(told)

    def end(self) -> str:
        """The rest; the text ends here."""
        held, self._held = self._held, ""
        return without_blanks(held)


class StopFinder:
    """Cuts a growing text at the first of some strings; what may be the beginning of one is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._held = ""
        self.is_hit = False

    def push(self, text: str) -> str:
        """What is certain to come before any of them."""
        if self.is_hit:
            return ""
        self._held += text
        cut = first_stop(self._held, self._stop)
        if cut is not None:
            self.is_hit = True
            told, self._held = self._held[:cut], ""
            return told
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        told, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return told

    def end(self) -> str:
        """What was held back; the text ends here."""
        held, self._held = self._held, ""
        return held


def first_stop(text: str, stop: Sequence[str], start: int = 0) -> int | None:
    """Where the first of the strings begins that ends behind `start`; None where there is none."""
    places = [text.find(string, max(0, start - len(string) + 1)) for string in stop]
    return min((place for place in places if place >= 0), default=None)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that is a beginning of the string, and not all of it."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-size:])), 0)


class RowsDetokenizer:
    """Satisfies `Detokenizer`: an item's rows one after the other, with what stands between them.

    Rows are written at the same time; of those behind the first that is not finished the text is held back.
    """

    def __init__(
        self,
        decode: Decode,
        stop: Sequence[str],
        separators: Sequence[str],
        rows_per_piece: int = 1,
        removes_blanks: bool = False,
    ) -> None:
        """
        Args:
            decode: from tokens to text.
            stop: strings at which a row's text ends.
            separators: before the first piece, between any two, behind the last: one more than there are pieces.
            rows_per_piece: rows made of the same piece, of which the first is told.
            removes_blanks: whether `without_blanks` comes behind `decode`.
        """
        self._separators, self._rows_per_piece = separators, rows_per_piece
        num_pieces = len(separators) - 1
        self._decoders = [IncrementalDecoder(decode) for _ in range(num_pieces)]
        self._removers = [BlankRemover() if removes_blanks else None for _ in range(num_pieces)]
        self._finders = [StopFinder(stop) for _ in range(num_pieces)]
        self._texts = [""] * num_pieces  # that are certain, and not told
        self._finished = [False] * num_pieces
        self._current = 0
        self._lead = separators[0]

    def push(self, index: int, token_ids: Sequence[int], is_last: bool) -> str:
        piece, number = divmod(index, self._rows_per_piece)
        if number == 0:
            finder, decoder, remover = self._finders[piece], self._decoders[piece], self._removers[piece]
            text = decoder.push(token_ids) + (decoder.end() if is_last else "")
            if remover is not None:
                text = remover.push(text) + (remover.end() if is_last else "")
            self._texts[piece] += finder.push(text)
            if is_last:
                self._texts[piece] += finder.end()
                self._finished[piece] = True
        return self._told()

    def end(self) -> str:
        self._finished = [True] * len(self._finished)
        return self._told()

    def _told(self) -> str:
        told = ""
        while self._current < len(self._texts):
            text, self._texts[self._current] = self._texts[self._current], ""
            if text:  # what stands before a piece comes with its first character
                told, self._lead = told + self._lead + text, ""
            if not self._finished[self._current]:
                break
            self._current += 1
            self._lead += self._separators[self._current]
        else:
            told, self._lead = told + self._lead, ""
        return told


class SilentDetokenizer:
    """Satisfies `Detokenizer`: tells nothing."""

    def push(self, index: int, token_ids: Sequence[int], is_last: bool) -> str:
        return ""

    def end(self) -> str:
        return ""
