"""`hooper feedback export`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from app.cli.feedback import file_from
from app.cli.parser import Parser, add_settings
from app.core.correction import Correction, Latest, latest, training_row
from app.core.errors import SetupError
from app.core.feedback import read
from app.core.files import PRIVATE, write_atomically

EXAMPLES = """  hooper feedback export corrected.jsonl --model sentiment     the last one of each text, for `hooper train`
  hooper feedback export all.jsonl --model sentiment --all     every correction, with the answer and where it came from
  hooper train reviews.csv --from-feedback feedback.db         trains on them without an export
"""


def add_options(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE.jsonl", type=Path, help="the file to write, one JSON object a line")
    parser.add_argument("--model", metavar="NAME", help="of this model; needed where the file holds several")
    parser.add_argument("--all", action="store_true", help="every correction with all that is known of it, for other programs")
    parser.add_argument("--force", action="store_true", help="replace the file where it exists")
    add_settings(parser, ("feedback",))


def run(options: argparse.Namespace) -> int:
    if options.file.exists() and not options.force:
        raise SetupError(f"{options.file} exists; say --force to replace it")
    path = file_from(options)
    corrections = list(read(path, options.model))
    if not corrections:
        raise SetupError(f"{path} holds no corrections{f' of {options.model!r}' if options.model else ''}")
    if options.all:
        write(options.file, [json.dumps(_everything(one), ensure_ascii=False) for one in corrections])
        print(f"{len(corrections):,} corrections -> {options.file}")
        return 0
    _check_one_model(corrections)
    found = latest(corrections)
    write(options.file, [json.dumps(training_row(one), ensure_ascii=False) for one in found.corrections])
    print(f"{len(found.corrections):,} rows -> {options.file}")
    _tell(found)
    return 0


def write(target: Path, lines: Sequence[str]) -> None:
    """All lines under the file's name, or none; its owner alone may read them.

    Raises:
        SetupError: it cannot be written.
    """
    try:
        write_atomically(target, "".join(f"{line}\n" for line in lines), PRIVATE)
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror}") from error


def _check_one_model(corrections: Sequence[Correction]) -> None:
    models = Counter(one.model for one in corrections)
    if len(models) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in sorted(models.items()))
        raise SetupError(f"the corrections are of several models, {told}: say which with --model NAME")


def _tell(found: Latest) -> None:
    if found.num_repeated:
        print(
            f"hooper feedback export: of items that were corrected again the last correction is written; {found.num_repeated:,}"
            f" earlier ones are left out, and {found.num_conflicting:,} items had been told differently",
            file=sys.stderr,
        )


def _everything(one: Correction) -> dict[str, object]:
    names = ("id", "at", "request_id", "model", "version", "task", "item", "predicted", "right", "agrees", "source", "comment")
    return {name: getattr(one, name) for name in names}
