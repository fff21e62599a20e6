"""`hooper models remove`."""

from __future__ import annotations

import argparse
import sys

from app.cli.parser import Parser, add_settings, settings_from
from app.core.errors import SetupError
from app.core.release import withdraw
from app.serving.repository import Repository

EXAMPLES = """  hooper models remove sentiment/1             asks first
  hooper models remove sentiment/1 --yes       for scripts
"""


def add_options(parser: Parser) -> None:
    parser.add_argument("model", metavar="NAME/VERSION", help="the version to remove")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_settings(parser, ("models",))


def run(options: argparse.Namespace) -> int:
    repository = Repository(settings_from(options).models)
    folder = repository.folder(options.model)
    if not options.yes and not _agreed(f"remove {folder} from the disk?"):
        print("nothing was removed", file=sys.stderr)
        return 1
    withdraw(folder)
    print(f"removed {folder}")
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise SetupError("there is nobody to ask; say --yes to remove it")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
