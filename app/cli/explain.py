"""`hooper explain`."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from app.api.schemas.explain import ExplainRequest
from app.cli.ask import explaining
from app.cli.inputs import Asked
from app.cli.output import columns, pad, plain, width
from app.cli.parser import Parser, add_settings
from app.cli.predict import SETTINGS, Show, add_input_options, answer_inputs
from app.core.types import TaskName, Truncation
from app.serving.explaining import ExplainOptions
from app.tasks.attribution import METHODS

EXAMPLES = """  hooper explain --model sentiment --text "It was not bad at all."
  hooper explain --model sentiment --target negative reviews.csv > explanations.jsonl
  hooper explain --model qa --question "When?" --context "A new library opened in 1903."
  hooper explain --model summary --json article.jsonl

FILE is read as `hooper predict` reads it. On a terminal each word that matters stands beside its weight, in log-odds, the
heaviest first: > speaks for the target, < against it. Elsewhere json lines, as the service's `/v1/explain` answers.
"""
MOST = 12
"""Words shown on a terminal."""
BAR = 20
"""Characters of the longest bar."""
OPTIONS = [one.name for one in dataclasses.fields(ExplainOptions)]


def add_options(parser: Parser) -> None:
    add_input_options(parser)
    group = parser.add_argument_group("options of the request, as the service takes them")
    kinds: Mapping[str, Mapping[str, Any]] = {
        "target": {"metavar": "TEXT"},
        "method": {"choices": list(METHODS)},
        "budget": {"type": int, "metavar": "N"},
        "truncation": {"choices": typing.get_args(Truncation)},
        "language": {"metavar": "CODE"},
    }
    for name in OPTIONS:
        text = (ExplainRequest.model_fields[name].description or "").replace("%", "%%")
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text, **kinds[name])
    add_settings(parser, SETTINGS)


def run(options: argparse.Namespace) -> int:
    def table(task: TaskName, wishes: Mapping[str, Any]) -> Show:
        return partial(as_bars, columns())

    return answer_inputs("explain", options, explaining, OPTIONS, table)


def as_bars(num_columns: int, asked: Asked, answer: Mapping[str, Any]) -> Iterator[str]:
    """The target with its score, then the heaviest words, each with its weight and a bar as long as that."""
    if "error" in answer:
        yield f"{asked.line:>5}  error  {plain(answer['error']['detail'])}"
        return
    yield f"{asked.line:>5}  {answer['score']:.3f}  {plain(answer['target'])}"
    heaviest = sorted(answer["tokens"], key=lambda one: -abs(one["weight"]))[:MOST]
    most = max((abs(one["weight"]) for one in heaviest), default=0.0) or 1.0
    broadest = min(max((width(plain(one["text"])) for one in heaviest), default=0), max(8, num_columns - BAR - 20))
    for one in heaviest:
        bar = (">" if one["weight"] > 0 else "<") * round(BAR * abs(one["weight"]) / most)
        yield f"       {one['weight']:+7.2f}  {pad(plain(one['text']), broadest)}  {bar}".rstrip()
    if len(answer["tokens"]) > MOST:
        yield f"       and {len(answer['tokens']) - MOST} lighter words (--json tells all)"
