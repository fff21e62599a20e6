"""Sentences of column files, as CoNLL's shared tasks write them: a token a line, its tags beside it, a blank line between."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.errors import HooperError, InvalidInput, TooLarge
from app.data.delimited import checked_delimiter
from app.data.record import ReadOptions, Record
from app.data.text_lines import Lines, text_lines

TOKENS, TAGS, NUMBER = "tokens", "tags", "id"
DOCUMENT = "-DOCSTART-"
CONLL_U = (NUMBER, TOKENS, "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""The ten columns of Universal Dependencies."""
_TOKEN_NAMES = ("form", "token", "word")
_COLUMN_NAMES = re.compile(r"#\s*(?:global\.)?columns\s*=\s*(.+)", re.IGNORECASE)
"""The comment by which CoNLL-U Plus names its columns."""
_ENTITY_TAG = re.compile(r"O|[BIESLUM][-_]\S+")
_BLANKS = re.compile(r"[ \t]+")  # no-break and other spaces of Unicode are tokens, or parts of them
FEWEST_LINES = 3
"""Fewer lines do not say that a text file has columns."""


@dataclass(slots=True)
class _Block:
    """Lines between two blank ones."""

    lines: list[tuple[int, str | HooperError]] = field(default_factory=list)
    """Of tokens, with their numbers."""
    num_characters: int = 0


def has_tags(head: bytes) -> bool:
    """Whether all lines at the beginning of a text file are tokens with an entity's tag, `O` or `B-PER`, in the last column."""
    lines = head.decode("utf-8", "replace").splitlines()
    lines = lines[:-1] or lines  # the last may be cut
    rows = [_BLANKS.split(line.strip()) for line in lines if line.strip() and not line.startswith(("#", DOCUMENT))]
    widths = {len(row) for row in rows}
    return len(rows) >= FEWEST_LINES and len(widths) == 1 and widths != {1} and all(_ENTITY_TAG.fullmatch(r[-1]) for r in rows)


def read_conll(stream: Any, source: str, options: ReadOptions) -> Iterator[Record]:
    """One row per sentence: lists under `tokens` and, for the last column, `tags`; those between are `column_2` and so on.

    A column that counts the tokens of each sentence is left out, and where a comment names the columns, or there are the ten of
    CoNLL-U, they have these names. A sentence with a line that cannot be read is an error, and names that line.

    Args:
        stream: can be peeked into.

    Raises:
        InvalidSettings: its encoding cannot be told, or its columns are refused.
    """
    layout = _Layout(checked_delimiter(options.delimiter) if options.delimiter else "")
    for block in _blocks(text_lines(stream, source, options), layout, options.max_bytes):
        if not layout.names:
            layout.learn([line for _, line in block.lines if isinstance(line, str)])
            options.choose([name for name in layout.names if name != NUMBER])
        yield layout.record(block, source, options.max_bytes)


def _blocks(lines: Lines, layout: _Layout, max_bytes: int) -> Iterator[_Block]:
    block = _Block()
    for number, text in lines:
        if isinstance(text, str) and (not text.strip() or text.startswith(DOCUMENT)):
            if block.lines:
                yield block
            block = _Block()
        elif isinstance(text, HooperError) or block.lines or not layout.is_comment(text):
            block.num_characters += len(text) if isinstance(text, str) else 0
            if block.num_characters <= max_bytes:  # else nothing more is kept of it
                block.lines.append((number, text))
    if block.lines:
        yield block


@dataclass(slots=True)
class _Layout:
    """What the columns are, which the first sentence says."""

    delimiter: str
    """Empty: blanks."""
    names: Sequence[str] = ()
    _tags: set[str] = field(default_factory=set)

    def is_comment(self, line: str) -> bool:
        """Whether a line before a sentence begins with `#` and is no token; one that names the columns is heeded."""
        if not line.startswith("#"):
            return False
        cells = self._cells(line)
        is_row = len(cells) > 1 and len(cells) == (len(self.names) or len(cells))
        if is_row and (_ENTITY_TAG.fullmatch(cells[-1]) or cells[-1] in self._tags):
            return False
        named = _COLUMN_NAMES.match(line)
        if named and not self.names:
            names = [name.lower() for name in named.group(1).split()]
            self.names = [TOKENS if name in _TOKEN_NAMES else name.rpartition(":")[2] for name in names]
        return True

    def learn(self, lines: Sequence[str]) -> None:
        """The delimiter and the names of the columns, by the lines of a sentence."""
        if not self.delimiter and sum("\t" in line for line in lines) * 2 > len(lines):
            self.delimiter = "\t"
        rows = [self._cells(line) for line in lines] or [[""]]
        (width, _), *_ = Counter(map(len, rows)).most_common(1)
        counted = [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
        if width == len(CONLL_U) and rows[0][0][:1].isdecimal():
            self.names = CONLL_U
            return
        first = [NUMBER, TOKENS] if counted and width > 2 and len(rows) > 1 else [TOKENS]
        middle = [f"column_{number}" for number in range(len(first) + 1, width)]
        self.names = [*first, *middle, *([TAGS] if width > len(first) else [])]

    def record(self, block: _Block, source: str, max_bytes: int) -> Record:
        line = block.lines[0][0]
        if block.num_characters > max_bytes:
            error = TooLarge(f"the sentence has more than {max_bytes} characters: is there no blank line between sentences?")
            return Record(f"{source}:{line}", {}, error, line)
        columns: dict[str, list[str]] = {name: [] for name in self.names if name != NUMBER}
        for number, text in block.lines:
            cells = text if isinstance(text, HooperError) else self._checked(text)
            if isinstance(cells, HooperError):
                return Record(f"{source}:{number}", {}, cells, line)
            row = dict(zip(self.names, cells, strict=True))
            if row.pop(NUMBER, "1").isdecimal():  # CoNLL-U's `3-4` is written again as its parts, and `8.1` stands in no text
                for name, cell in row.items():
                    columns[name].append(cell)
        self._tags.update(columns.get(TAGS, ()))
        return Record(f"{source}:{line}", columns, None, line, sum(map(len, columns.get(TOKENS, ()))))

    def _checked(self, line: str) -> list[str] | InvalidInput:
        cells = self._cells(line)
        if len(cells) != len(self.names):
            return InvalidInput(
                f"the line has {len(cells)} column{'s' if len(cells) != 1 else ''} where the sentences before it have"
                f" {len(self.names)}"
            )
        return cells if all(cells) else InvalidInput("the line has an empty column")

    def _cells(self, line: str) -> list[str]:
        line = line.strip("\r\n")
        if self.delimiter and not self.delimiter.isspace():
            return [cell.strip() for cell in line.split(self.delimiter)]
        line = line.strip(" \t")
        return [cell.strip(" ") for cell in line.split("\t")] if self.delimiter == "\t" else _BLANKS.split(line)
