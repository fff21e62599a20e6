"""Answers as `hooper predict` prints them: json lines for programs, columns for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.cli.inputs import Asked
from app.cli.output import clip, pad, plain
from app.core.types import TaskName
from app.tasks.tokenizer import encodable

NUMBER, SCORE, LABEL, ANSWER = 5, 6, 20, 32
"""Widths of the columns on a terminal."""


def as_json(several_sources: bool, asked: Asked, answer: Mapping[str, Any]) -> Iterator[str]:
    """`{"line", …}` with the input's own id where it has one, and its file where there are several."""
    where: dict[str, Any] = {"file": asked.source} if several_sources else {}
    where["line"] = asked.line
    if asked.id is not None:
        where["id"] = asked.id
    line = json.dumps({**where, **answer}, ensure_ascii=False)
    yield line if encodable(line) else json.dumps({**where, **answer})  # an id may be no Unicode


def as_columns(task: TaskName, most_labels: int, columns: int, asked: Asked, answer: Mapping[str, Any]) -> Iterator[str]:
    """One line, or one per sentence of a summary, each with the best of the answer."""
    number = f"{asked.line:>{NUMBER}}  "
    if "error" in answer:
        yield f"{number}{pad('error', SCORE)}  {plain(answer['error']['detail'])}"
        return
    for index, line in enumerate(_LINES[task](asked, answer, most_labels, columns - NUMBER - 2)):
        yield (number if index == 0 else " " * len(number)) + line.rstrip()


def _labels(asked: Asked, answer: Mapping[str, Any], most: int, columns: int) -> Iterator[str]:
    text = _field(asked, "text")
    for index, one in enumerate(answer["labels"][:most]):
        shown = f"{one['score']:{SCORE}.3f}  {pad(clip(one['label'], LABEL), LABEL)}  "
        yield shown + (clip(text, max(10, columns - SCORE - LABEL - 4)) if index == 0 else "")


def _answers(asked: Asked, answer: Mapping[str, Any], most: int, columns: int) -> Iterator[str]:
    question = _field(asked, "question")
    for index, one in enumerate(answer["answers"]):
        shown = f"{one['score']:{SCORE}.3f}  {pad(clip(one['answer'] or '(no answer)', ANSWER), ANSWER)}  "
        yield shown + (clip(question, max(10, columns - SCORE - ANSWER - 4)) if index == 0 else "")


def _sentences(asked: Asked, answer: Mapping[str, Any], most: int, columns: int) -> Iterator[str]:
    for one in answer["sentences"]:
        yield f"{one['score']:{SCORE}.3f}  {plain(one['text'])}"


def _field(asked: Asked, name: str) -> str:
    return str(asked.fields.get(name, "")) if isinstance(asked.fields, Mapping) else ""


_LINES: Mapping[TaskName, Callable[[Asked, Mapping[str, Any], int, int], Iterator[str]]] = {
    "text-classification": _labels,
    "question-answering": _answers,
    "summarization": _sentences,
}
