"""`hooper models` and `hooper models list`."""

from __future__ import annotations

import argparse

from app.cli.output import figures, print_json, print_table
from app.cli.parser import Parser, add_settings, settings_from
from app.core.errors import HooperError
from app.core.manifest import Manifest

EXAMPLES = """  hooper models                                every version, its task, size and figures
  hooper models --json | jq -r '.[].name'
  hooper models show sentiment                 everything about one of them
  hooper models add ./my-checkpoint            publish a checkpoint of transformers
  hooper models remove sentiment/1             take a version away
"""
HEADER = ("MODEL", "TASK", "SIZE", "FIGURES")


def add_options(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, ("models",))


def run(options: argparse.Namespace) -> int:
    from app.serving.repository import Repository

    found = Repository(settings_from(options).models).manifests()
    sound = [one for one in found.values() if isinstance(one, Manifest)]
    if options.json:
        print_json([one.model_dump(exclude={"files"}) for one in sound])
    else:
        print_table([_row(name, one) for name, one in found.items()], HEADER)
    return 0 if len(sound) == len(found) else 1


def _row(name: str, found: Manifest | HooperError) -> list[str]:
    if isinstance(found, HooperError):
        return [name, "BAD", "", found.detail]
    size = sum(entry.num_bytes for entry in found.files.values())
    return [name, found.task, f"{size / 1e6:.1f} MB", figures(found.evaluation)]
