"""`hooper feedback`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.cli.output import print_json, print_table
from app.cli.parser import Parser, add_settings, settings_from
from app.core.correction import Correction
from app.core.errors import InvalidSettings
from app.core.feedback import read

EXAMPLES = """  hooper feedback --feedback feedback.db       how often each model was right, and what it took for what
  HOOPER_FEEDBACK=feedback.db hooper feedback --json
  hooper feedback export corrected.jsonl --model sentiment     the rows that `hooper train` reads
  hooper feedback next --model sentiment texts.txt             the texts most worth labelling next
  hooper feedback remove --request-id 0f8b6a0a                 forget what somebody has sent
"""
HEADER = ("MODEL", "ANSWERED", "RIGHT", "COUNT")
OTHER, RIGHT_ONE = "(other)", "(as answered)"
"""In place of answers and summaries, of which no two are alike."""
Counts = Counter[tuple[str, str, str, bool]]


def add_options(parser: Parser) -> None:
    parser.add_argument("--model", metavar="NAME", help="of this model alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, ("feedback",))


def run(options: argparse.Namespace) -> int:
    counts = counted(read(file_from(options), options.model))
    if options.json:
        names = ("model", "answered", "right", "agrees")
        print_json([{**dict(zip(names, key, strict=True)), "count": count} for key, count in _ordered(counts)])
    else:
        print_table([[*key[:3], str(count)] for key, count in _ordered(counts)], HEADER)
    return 0


def file_from(options: argparse.Namespace) -> Path:
    """The file that the settings name.

    Raises:
        InvalidSettings: they name none.
    """
    path = settings_from(options).feedback
    if not path:
        raise InvalidSettings("which file holds the corrections? say --feedback FILE, or set HOOPER_FEEDBACK")
    return Path(path)


def counted(corrections: Iterable[Correction]) -> Counts:
    """How often which answer of a model was to be which: its confusions, where it has labels."""
    return Counter((one.model, *_said(one), one.agrees) for one in corrections)


def _said(one: Correction) -> tuple[str, str]:
    """The answer and the right one, in a word."""
    if "label" in one.right:
        return one.predicted["labels"][0]["label"], one.right["label"]
    if one.agrees:
        return RIGHT_ONE, RIGHT_ONE
    return RIGHT_ONE, OTHER


def _ordered(counts: Counts) -> Iterator[tuple[tuple[str, str, str, bool], int]]:
    """By model, the most frequent first."""
    yield from sorted(counts.items(), key=lambda one: (one[0][0], -one[1], one[0]))
