"""`hooper models remove`."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from app.cli.parser import Parser, add_settings, settings_from
from app.core.artefact import Serving, withdraw
from app.core.errors import InvalidArtefact, SetupError
from app.serving.repository import Repository

EXAMPLES = """  hooper models remove sentiment/1             asks first
  hooper models remove sentiment/1 --yes       for scripts
"""


def add_options(parser: Parser) -> None:
    parser.add_argument("model", metavar="NAME/VERSION", help="the version to remove")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_settings(parser, ("models", "state"))


def run(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    repository = Repository(settings.models, settings.state)
    folder = repository.folder(options.model)
    if not options.yes and not _agreed(f"remove {folder} from the disk?"):
        print("nothing was removed", file=sys.stderr)
        return 1
    name, number = folder.parent.name, int(folder.name)
    left = [one for one in repository.versions(name) if one != number]
    serving = _record(repository, name)
    if left and serving is not None and serving.version == number:  # first: a record must not name what is gone
        if not repository.records.write(name, left[-1], f"version {number} was removed"):
            raise SetupError(
                f"{options.model} serves from the next start on, and where that is noted cannot be written: nothing was removed"
            )
        print(f"{name}/{left[-1]} serves from the next start on")
    withdraw(folder)
    print(f"removed {folder}")
    return 0


def _record(repository: Repository, name: str) -> Serving | None:
    with suppress(InvalidArtefact):  # a broken record is told at the next start
        return repository.records.read(name)
    return None


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise SetupError("there is nobody to ask; say --yes to remove it")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
