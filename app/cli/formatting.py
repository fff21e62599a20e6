"""Answers as json lines for programs, and as columns and bars for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.cli.terminal import clip, pad, plain, width
from app.data import Input
from app.data.cells import plain as plain_cell
from app.tasks.tokenizer import encodable

NUMBER, SCORE = 5, 6
"""Widths of the columns on a terminal."""
MAX_WORDS = 12
"""Words of an explanation that are shown on a terminal."""
BAR = 20
"""Characters of the longest bar."""
Show = Callable[[Input, Mapping[str, Any]], Iterator[str]]
"""The lines in which an input's answer is printed."""


def as_json(several_sources: bool, item: Input, answer: Mapping[str, Any]) -> Iterator[str]:
    """`{"line", …}` with the input's own id where it has one, and its file where there are several."""
    where: dict[str, Any] = {"file": item.source} if several_sources else {}
    where["line"] = item.line
    if item.id is not None:
        where["id"] = plain_cell(item.id)
    if item.kept:
        where["input"] = {name: plain_cell(cell) for name, cell in item.kept.items()}
    line = json.dumps({**where, **answer}, ensure_ascii=False, default=str)
    yield line if encodable(line) else json.dumps({**where, **answer}, default=str)  # an id may be no Unicode


def as_columns(lines: Any, limit: int, columns: int, item: Input, answer: Mapping[str, Any]) -> Iterator[str]:
    """One line for each of the task's, with the score, the best of the answer, and what was asked.

    Args:
        lines: the task's, from an item's fields and a result.
        limit: how many labels.
        columns: characters in a line of the terminal.
        answer: a result, or an error in its place.
    """
    number = f"{item.line:>{NUMBER}}  "
    if "error" in answer:
        yield f"{number}{pad('error', SCORE)}  {plain(answer['error']['detail'])}"
        return
    fields = item.fields if isinstance(item.fields, Mapping) else {}
    for index, line in enumerate(lines(fields, answer, limit)):
        score = " " * SCORE if line.score is None else f"{line.score:{SCORE}.3f}"
        text = pad(clip(line.answer, line.width), line.width) if line.width else plain(line.answer)
        room = max(10, columns - NUMBER - 2 - SCORE - line.width - 4)
        source = clip(line.source, room) if index == 0 else ""
        yield f"{number if index == 0 else ' ' * len(number)}{score}  {text}  {source}".rstrip()


def as_bars(columns: int, item: Input, answer: Mapping[str, Any]) -> Iterator[str]:
    """The target of an explanation with its score, then the heaviest words, each with its weight and a bar as long as that."""
    if "error" in answer:
        yield f"{item.line:>{NUMBER}}  error  {plain(answer['error']['detail'])}"
        return
    yield f"{item.line:>{NUMBER}}  {answer['score']:.3f}  {plain(answer['target'])}"
    words = sorted(answer["tokens"], key=lambda word: -abs(word["weight"]))
    heaviest = words[:MAX_WORDS]
    longest = max((abs(word["weight"]) for word in heaviest), default=0.0) or 1.0
    broadest = min(max((width(plain(word["text"])) for word in heaviest), default=0), max(8, columns - BAR - 20))
    for word in heaviest:
        bar = (">" if word["weight"] > 0 else "<") * round(BAR * abs(word["weight"]) / longest)
        yield f"       {word['weight']:+7.2f}  {pad(plain(word['text']), broadest)}  {bar}".rstrip()
    if len(words) > MAX_WORDS:
        yield f"       and {len(words) - MAX_WORDS} lighter words (--json tells all)"
