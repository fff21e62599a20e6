"""main() and the table of commands. Nothing of a command is imported before it is called; offline ones join by entry point."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

from typer.exceptions import TyperException

from app.core.command_line import CONTEXT, Command, Group, Program, missing_package, run
from app.core.exit_codes import EXIT_CLOSED_PIPE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP

OFFLINE = "hooper.commands"
"""The group of entry points of commands that other packages bring: a `Program`, or any `main(arguments) -> exit code`."""
COMPLETE = "_HOOPER_COMPLETE"
"""The variable in which the shell asks for completions."""
EXAMPLES = """examples:
  hooper serve                                   answer from the models in ./models on http://127.0.0.1:8000
  hooper serve --device cpu --port 9000          every setting is an option too; see `hooper settings`
  hooper predict --model sentiment reviews.txt   answers without a service; also from a pipe
  hooper batch --model sentiment in.csv out.csv  answers a million rows, and resumes where it was stopped
  hooper train reviews.csv                       fine-tune on labelled text and publish a model
  hooper models                                  what is published, and how good it is
  hooper doctor                                  what this machine can run

exit codes:
  0    success
  1    a part of the input could not be answered, or a check failed
  2    the command could not start as it was called or configured
  130  interrupted with Ctrl-C
  141  whoever read the output has closed it, as `| head` does

`hooper COMMAND --help` shows a command's options, with examples."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a person types, what it does, and the module and name of its `Program`; the last is empty for an offline command."""

    name: str
    summary: str
    target: str = ""


ENTRIES = (
    Entry("serve", "answer requests from published models", "service:serve"),
    Entry("predict", "answer texts from files or a pipe, without a service", "predict:predict"),
    Entry("batch", "answer every row of a large file into another; resumes where it was stopped", "batch:batch"),
    Entry("explain", "say which words made a model decide, without a service", "predict:explain"),
    Entry("train", "fine-tune on labelled text and publish a model"),
    Entry("sweep", "look for a better recipe, judged on training rows alone"),
    Entry("report", "open the report on a model: what it gets wrong, and how sure it is"),
    Entry("compare", "lay two published versions side by side: figures, speed, and where they differ"),
    Entry("feedback", "say how often each model was right, by the corrections that were kept", "feedback:feedback"),
    Entry("feedback export", "write corrections as the rows that `hooper train` reads", "feedback:export"),
    Entry("feedback next", "list the texts that are most worth labelling next", "feedback_next:feedback_next"),
    Entry("feedback remove", "forget corrections", "feedback:remove"),
    Entry("models", "list published models", "models:list_models"),
    Entry("models list", "list published models", "models:list_models"),
    Entry("models show", "tell everything about one model", "models:show"),
    Entry("models add", "publish a checkpoint of transformers, or an exported archive"),
    Entry("models int8", "publish a version again with int8 arithmetic"),
    Entry("models int4", "publish a version again with its decoder in int4"),
    Entry("models fp16", "publish a version again with fp16 arithmetic, for GPUs"),
    Entry("models reference", "add what held-out items were like to a version that was published without"),
    Entry("models calibrate", "publish a version again with scores that are probabilities of being right"),
    Entry("models measure", "measure a published version in bf16, or give it another longest input"),
    Entry("models promote", "let a published version serve from the next start on", "models:promote"),
    Entry("models remove", "take a published version away", "models:remove"),
    Entry("export", "write a published version into one archive, for another machine", "models:export"),
    Entry("bench", "put load on a service, and say how fast it answers"),
    Entry("doctor", "say what this machine can run and whether the models are sound", "service:doctor"),
    Entry("settings", "print every setting as a markdown table", "service:settings"),
    Entry("openapi", "print the OpenAPI file", "service:openapi"),
    Entry("completion", "print a completion script for bash, zsh or fish", "service:completion"),
)
"""In the order in which a person needs them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        One of the exit codes that `hooper --help` lists.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if COMPLETE in os.environ:
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()  # which also makes typer's shells known
        return int(ROOT.main(words, "hooper", COMPLETE) or 0)
    from app.core.errors import HooperError, SetupError, UnknownModel

    try:
        code = _run(words)
        sys.stdout.flush()  # while a closed pipe can still be told quietly
    except HooperError as error:
        from app.observability.logging import harmless

        print(f"hooper: {harmless(error.detail)}", file=sys.stderr)
        return EXIT_SETUP if isinstance(error, SetupError | UnknownModel) else EXIT_FAILED
    except ImportError as error:  # of an extra; whatever command it is, it says what to install
        missing = missing_package(error)
        if not missing:
            raise
        print(f"hooper: {missing}", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more on its way out
        return EXIT_CLOSED_PIPE
    return code


def _run(words: list[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if words[:1] in (["-V"], ["--version"]):
        print(f"hooper {version('hooper')}")
        return 0
    if not words:
        with ROOT.make_context("hooper", [], resilient_parsing=True) as context:
            print(context.get_help(), file=sys.stderr)
        return EXIT_SETUP
    return run(ROOT, "hooper", words)


class Hooper(Group):
    """`hooper`: a command is one word, or two such as `models show`."""

    summaries: Mapping[str, str] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        self.summaries = {entry.name: entry.summary for entry in commands()}
        return [name for name in self.summaries if name != "models list"]  # which is what `models` alone does

    def get_command(self, ctx: Any, cmd_name: str) -> Command:
        """A command's name and summary, for help; `resolve_command` gives the command itself."""
        return Command(cmd_name, help=self.summaries[cmd_name], short_help=self.summaries[cmd_name])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        entry = find(args)
        if entry is None and ctx.resilient_parsing:
            return None, None, args
        if entry is None:
            raise TyperException(f"hooper: there is no command {_suggestion(args)} (`hooper --help` lists them)")
        return entry.name, load(entry), args[len(entry.name.split()) :]

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        return [item for item in super().shell_complete(ctx, incomplete) if " " not in item.value]


class _Foreign(Command):
    """A command of another package that reads its arguments itself."""

    def __init__(self, name: str, main: Callable[[list[str]], int]) -> None:
        super().__init__(name, add_help_option=False)
        self._main = main

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return args

    def invoke(self, ctx: Any) -> int:
        return self._main(ctx.args)


def commands() -> list[Entry]:
    """The commands that are here: our own, and those that installed packages bring."""
    offline = _offline()
    entries = [entry for entry in ENTRIES if entry.target or entry.name in offline]
    return [*entries, *(Entry(name, name) for name in offline if name not in {entry.name for entry in entries})]


def find(words: Sequence[str]) -> Entry | None:
    """The command that these words begin with; none for a group's name before an unknown word, as in `models shwo`."""
    entries = {entry.name: entry for entry in commands()}
    two = " ".join(words[:2])
    if two in entries:
        return entries[two]
    is_group = any(name.startswith(f"{words[0]} ") for name in entries)
    if is_group and len(words) > 1 and not words[1].startswith("-"):
        return None
    return entries.get(words[0])


def load(entry: Entry) -> Command:
    """
    Raises:
        TyperException: what a command of another package needs is not installed.
    """
    if entry.target:
        module, _, name = entry.target.partition(":")
        main = getattr(importlib.import_module(f"app.cli.{module}"), name)
    else:
        try:
            main = _offline()[entry.name].load()
        except ImportError as error:
            missing = missing_package(error)
            if not missing:
                raise
            raise TyperException(f"hooper {entry.name}: {missing}") from error
    command = main.command if isinstance(main, Program) else _Foreign(entry.name, main)
    members = [other for other in commands() if other.name.startswith(f"{entry.name} ")]
    command.subcommands = [(other.name.split()[1], other.summary) for other in members]
    return command


def _suggestion(words: Sequence[str]) -> str:
    """What was typed, and the command that is nearest to it, where one is near."""
    names = [entry.name for entry in commands()]
    command = " ".join(words[:2]) if words[0] in names and len(words) > 1 else words[0]  # of a group: `models shwo`
    near = difflib.get_close_matches(command, names, n=1)
    return f"{command!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _offline() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=OFFLINE)}


ROOT = Hooper(name="hooper", help="Hooper serves BERT.", options_metavar=None, context_settings=CONTEXT)
ROOT.subcommand_metavar, ROOT.examples = "COMMAND [OPTION ...]", EXAMPLES
