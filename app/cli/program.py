"""main(): finds the command, runs it, and turns what stopped it into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from app.cli import catalogue
from app.cli.parser import suggestion
from app.core.errors import HooperError, SetupError, UnknownModel
from app.core.exit_codes import EXIT_CLOSED_PIPE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP
from app.observability.logging import harmless

EXAMPLES = """examples:
  hooper serve                                   answer from the models in ./models on http://127.0.0.1:8000
  hooper serve --device cpu --port 9000          every setting is an option too; see `hooper settings`
  hooper predict --model sentiment reviews.txt   answers without a service; also from a pipe
  hooper batch --model sentiment in.csv out.csv  answers a million rows, and goes on where it was stopped
  hooper train reviews.csv                       fine-tune on labelled text and publish a model
  hooper models                                  what is published, and how good it is
  hooper doctor                                  what this machine can run

exit codes:
  0    it went well
  1    a part of the input could not be answered, or a check failed
  2    the command could not start as it was called or configured
  130  interrupted with Ctrl-C
  141  whoever read the output has closed it, as `| head` does

`hooper COMMAND --help` shows a command's options, with examples."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        One of the exit codes that `hooper --help` lists.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
        sys.stdout.flush()  # while a closed pipe can still be told quietly
    except HooperError as error:
        print(f"hooper: {harmless(error.detail)}", file=sys.stderr)
        return EXIT_SETUP if isinstance(error, SetupError | UnknownModel) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return EXIT_CLOSED_PIPE
    return code


def _run(given: list[str]) -> int:
    if not given:
        print(_help(), file=sys.stderr)
        return EXIT_SETUP
    if given[0] in ("-h", "--help", "help"):
        return _run([*given[1:], "--help"]) if given[1:] else _print(_help())
    if given[0] in ("-V", "--version"):
        return _print(f"hooper {version('hooper')}")
    command = catalogue.find(given)
    if command is None:
        return _unknown(given)
    rest = given[len(command.words) :]
    if command.module:
        parser = catalogue.parser_of(command)
        options = parser.parse_args(rest)
        return catalogue.load(command).run(options)
    try:
        offline = catalogue.load_offline(command)
    except ImportError as error:
        print(f"hooper {command.name}: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
        return EXIT_SETUP
    return offline(rest)


def _unknown(given: Sequence[str]) -> int:
    names = [one.name for one in catalogue.commands()]
    wish = given[0]
    if wish in names and len(given) > 1:  # of a group: `models shwo`
        wish = f"{wish} {given[1]}"
    print(f"hooper: there is no command {wish!r}{suggestion(wish, names)} (`hooper --help` lists them)", file=sys.stderr)
    return EXIT_SETUP


def _help() -> str:
    listed = [one for one in catalogue.commands() if one.name != "models list"]  # which is what `models` alone does
    width = max(len(one.name) for one in listed)
    lines = [f"  {one.name:<{width}}  {one.summary}" for one in listed]
    return "\n".join(["usage: hooper COMMAND [OPTION ...]\n\nHooper serves BERT.\n\ncommands:", *lines, "", EXAMPLES])


def _print(text: str) -> int:
    print(text)
    return 0


def _drop_output() -> None:
    """Point standard output nowhere: the interpreter flushes it once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
