"""Lines of text from bytes: cut, decoded, and numbered."""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from app.core.errors import HooperError, InvalidInput, InvalidSettings, TooLarge
from app.data.encodings import (
    BYTE_ORDER_MARKS,
    HEAD_BYTES,
    MULTIBYTE,
    checked_encoding,
    detect_encoding,
    encoding_of_head,
    is_ascii_based,
)
from app.data.record import ReadOptions

Lines = Iterator[tuple[int, str | HooperError]]
"""Numbered lines with their ends, or why one has no text."""
SAMPLE_LINES, SAMPLE_BYTES = 2_000, 500_000
"""Read ahead from the first line that is no UTF-8."""
SAMPLE_DETECTED = 60_000
"""Bytes, of lines beyond ASCII, from which an encoding is told."""
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def text_lines(stream: Any, source: str, options: ReadOptions) -> Lines:
    """The lines of a stream that can be peeked into.

    Raises:
        InvalidSettings: its encoding is unknown, is not what the options say, or cannot be told.
    """
    head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    by_head, has_mark = encoding_of_head(head), head.startswith(tuple(BYTE_ORDER_MARKS))
    encoding = checked_encoding(options.encoding) if options.encoding else by_head
    if has_mark and not encoding.startswith(by_head):
        raise InvalidSettings(f"{source} begins with the mark of {by_head.upper()}, and --encoding says {options.encoding}")
    is_settled = bool(options.encoding) or by_head not in ("", "utf-8")
    if is_settled and not options.encoding and not has_mark:
        options.say(f"{source} is read as {encoding.upper()}; say --encoding NAME if that is wrong")
    name, codec = encoding, encoding
    if encoding and not is_ascii_based(encoding):
        stream, codec = io.BufferedReader(_Recoded(stream, encoding)), "utf-8"
        head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    if b"\r" in head and b"\n" not in head:  # old Mac files end their lines so
        stream = io.BufferedReader(_Recoded(stream, "latin-1", "\r", "\n"))
    lines = _byte_lines(stream, options.max_bytes)
    if is_settled:
        yield from ((number, _strict(number, line, codec, name, options.max_bytes)) for number, line in lines)
    else:
        yield from _Detecting(lines, source, options)


def decoded_text(content: bytes, source: str, options: ReadOptions) -> str | HooperError:
    """A whole file of text, or why it has none."""
    try:
        texts = [text for _, text in text_lines(io.BufferedReader(io.BytesIO(content)), source, options)]
    except (InvalidSettings, OSError) as error:
        return InvalidInput(str(error))
    return next((text for text in texts if isinstance(text, HooperError)), None) or "".join(map(str, texts))


class _Recoded(io.RawIOBase):
    """A stream as UTF-8. What cannot be decoded spoils its own line: it becomes bytes that are no UTF-8."""

    def __init__(self, stream: Any, encoding: str, old: str = "", new: str = "") -> None:
        super().__init__()
        errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32", "utf_16", "utf_32")) else "strict"
        self._stream, self._old, self._new = stream, old, new
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._target = encoding if old else "utf-8"
        self._ready = b""
        self._is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._is_over:
            piece = self._stream.read(64 * 1024)
            self._is_over = not piece
            try:
                text = self._decoder.decode(piece, final=self._is_over)
            except UnicodeDecodeError as error:
                raise OSError(f"it is not {error.encoding.upper()} throughout ({error.reason})") from error
            self._ready = (text.replace(self._old, self._new) if self._old else text).encode(self._target, "surrogatepass")
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _byte_lines(stream: Any, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines with their ends; None for one that is too long."""
    number = 0
    while line := stream.readline(max_bytes + 1):
        number += 1
        rest = line
        while len(rest) > max_bytes and not rest.endswith(b"\n"):
            rest = stream.readline(max_bytes + 1)
        yield number, line if len(line) <= max_bytes else None


def _usual_encoding(sample: bytes, options: ReadOptions) -> str:
    """The encoding of the data that a model was trained on, where it can be that of these bytes; else nothing."""
    usual = options.usual.encoding
    try:
        return usual if usual and is_ascii_based(usual) and sample.decode(usual) and usual not in ("utf-8", "utf8") else ""
    except (UnicodeDecodeError, LookupError):
        return ""


def _strict(number: int, line: bytes | None, codec: str, name: str, max_bytes: int) -> str | HooperError:
    if line is None:
        return TooLarge(f"the line has more than {max_bytes} bytes")
    try:
        text = line.decode(codec)
    except UnicodeDecodeError:
        return InvalidInput(f"the line is not {name.upper() if name.startswith('utf') else name}")
    return text.removeprefix("\ufeff") if number == 1 else text


class _Detecting:
    """Lines as UTF-8, until one is not.

    Then the lines that follow are looked at, too. Where hardly any line beyond ASCII is UTF-8, the file has another encoding.
    Where some are, as in files that were joined, each line is read as what it is; a line that is both is damaged.
    """

    def __init__(self, lines: Iterator[tuple[int, bytes | None]], source: str, options: ReadOptions) -> None:
        self._lines, self._source, self._options = lines, source, options
        self._ahead: deque[tuple[int, bytes | None]] = deque()
        self._num_utf8 = 0
        """Lines beyond ASCII before the first that is no UTF-8."""
        self._encodings: tuple[str, ...] = ()
        """In which a line is tried from then on."""
        self._is_mixed = False

    def __iter__(self) -> Lines:
        while self._ahead or self._fill():
            number, line = self._ahead.popleft()
            yield number, self._text(number, line)

    def _fill(self) -> bool:
        entry = next(self._lines, None)
        if entry is not None:
            self._ahead.append(entry)
        return entry is not None

    def _text(self, number: int, line: bytes | None) -> str | HooperError:
        if line is None:
            return TooLarge(f"the line has more than {self._options.max_bytes} bytes")
        if not self._encodings:
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                self._detect(number, line)
            else:
                self._num_utf8 += len(text) < len(line)
                return text.removeprefix("\ufeff") if number == 1 else text
        return self._other(line)

    def _other(self, line: bytes) -> str | HooperError:
        is_damaged = self._is_mixed and _is_no_utf8(line) and _is_damaged(line)
        for encoding in () if is_damaged else self._encodings:
            try:
                return line.decode(encoding)
            except UnicodeDecodeError:
                continue
        return InvalidInput(f"the line is not {'UTF-8' if self._is_mixed else self._encodings[-1]}")

    def _detect(self, number: int, line: bytes) -> None:
        num_bytes = len(line)
        while len(self._ahead) < SAMPLE_LINES and num_bytes < SAMPLE_BYTES and self._fill():
            num_bytes += len(self._ahead[-1][1] or b"")
        others = [line, *(other for _, other in self._ahead if other is not None and not other.isascii())]
        legacy = [other for other in others if _is_no_utf8(other) and not _is_damaged(other)]
        # by chance a short line in an encoding of two bytes a character is UTF-8, too
        self._is_mixed = self._num_utf8 + len(others) - len(legacy) > len(legacy) / 10
        sample = b"".join(legacy)[:SAMPLE_DETECTED]
        encoding = (_usual_encoding(sample, self._options) or detect_encoding(sample)) if legacy else ""
        source, say = self._source, self._options.say
        if self._is_mixed:
            self._encodings = ("utf-8", encoding) if encoding else ("utf-8",)
            if encoding:
                say(f"{source}:{number}: the line is not UTF-8 as others are; such lines are read as {encoding}")
        elif encoding:
            self._encodings = (encoding,) if encoding in MULTIBYTE else ("utf-8", encoding)
            say(f"{source} is read as {encoding}, for it is not UTF-8; say --encoding NAME if that is wrong")
        else:
            raise InvalidSettings(
                f"{source}:{number}: the line is not UTF-8, and which encoding the file has cannot be told; say --encoding"
                " NAME, such as cp1252"
            )


def _is_no_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _is_damaged(line: bytes) -> bool:
    """Whether most of a line beyond ASCII is UTF-8."""
    num_high = sum(byte > 127 for byte in line)
    return 3 * sum(map(len, _MULTIBYTE.findall(line))) >= 2 * num_high
