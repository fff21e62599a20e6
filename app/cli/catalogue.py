"""Which commands there are. Nothing of a command is imported before it is called; offline ones join by entry point."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from app.cli.parser import Parser

OFFLINE, PARSERS = "hooper.commands", "hooper.parsers"
"""Groups of entry points: `main(arguments) -> exit code` of a command, and its parser (for completion)."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a person types, and what it does; `module` is empty for one that another package brings."""

    name: str
    summary: str
    module: str = ""

    @property
    def words(self) -> list[str]:
        return self.name.split()


class CommandModule(Protocol):
    """What each command's module in this package has."""

    EXAMPLES: str

    def add_options(self, parser: Parser) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


OWN = (
    Command("serve", "answer requests from published models", "serve"),
    Command("predict", "answer texts from files or a pipe, without a service", "predict"),
    Command("batch", "answer every row of a large file into another, to be stopped and gone on with", "batch"),
    Command("explain", "say which words made a model decide, without a service", "explain"),
    Command("feedback", "say how often each model was right, by the corrections that were kept", "feedback"),
    Command("feedback export", "write corrections as the rows that `hooper train` reads", "feedback_export"),
    Command("feedback next", "list the texts that are most worth labelling next", "feedback_next"),
    Command("feedback remove", "forget corrections", "feedback_remove"),
    Command("models", "list published models", "models"),
    Command("models list", "list published models", "models"),
    Command("models show", "tell everything about one model", "show"),
    Command("models remove", "take a published version away", "remove"),
    Command("export", "write a published version into one archive, for another machine", "export"),
    Command("doctor", "say what this machine can run and whether the models are sound", "doctor"),
    Command("settings", "print every setting as a markdown table", "settings"),
    Command("openapi", "print the OpenAPI file", "openapi"),
    Command("completion", "print a completion script for bash, zsh or fish", "completion"),
)
SUMMARIES = {
    "train": "fine-tune on labelled text and publish a model",
    "report": "open the report on a model: what it gets wrong, and how sure it is",
    "compare": "lay two published versions side by side: figures, speed, and where they differ",
    "bench": "put load on a service, and say how fast it answers",
    "models add": "publish a checkpoint of transformers, or an exported archive",
    "models int8": "publish a version again with int8 arithmetic",
    "models fp16": "publish a version again with fp16 arithmetic, for GPUs",
    "models reference": "add what held-out items were like to a version that was published without",
    "models measure": "give a published version another longest input, without training",
}
ORDER = (
    "serve", "predict", "batch", "explain", "train", "report", "compare", "feedback", "feedback export", "feedback next",
    "feedback remove", "models", "models list", "models show", "models add", "models int8", "models fp16", "models reference",
    "models measure", "models remove", "export", "bench", "doctor", "settings", "openapi", "completion",
)  # fmt: skip


def commands() -> list[Command]:
    """All commands, in the order in which a person needs them."""
    offline = [Command(name, SUMMARIES.get(name, name)) for name in _entry_points(OFFLINE)]
    found = {one.name: one for one in [*offline, *OWN]}
    ranks = {name: number for number, name in enumerate(ORDER)}
    return sorted(found.values(), key=lambda one: ranks.get(one.name, len(ORDER)))


def find(words: Sequence[str]) -> Command | None:
    """The command that these words begin with; none for a group's name before an unknown word, as in `models shwo`."""
    known = {one.name: one for one in commands()}
    two = " ".join(words[:2])
    if two in known:
        return known[two]
    is_group = any(name.startswith(f"{words[0]} ") for name in known)
    if is_group and len(words) > 1 and not words[1].startswith("-"):
        return None
    return known.get(words[0])


def load(command: Command) -> CommandModule:
    return cast(CommandModule, importlib.import_module(f"app.cli.{command.module}"))


def load_offline(command: Command) -> Callable[[Sequence[str]], int]:
    """
    Raises:
        ImportError: what the command needs is not installed.
    """
    return cast(Callable[[Sequence[str]], int], _entry_points(OFFLINE)[command.name].load())


def parser_of(command: Command) -> argparse.ArgumentParser:
    """The parser of any command; of one whose packages are missing, an empty one."""
    if not command.module:
        return _offline_parser(command)
    module = load(command)
    parser = Parser(f"hooper {command.name}", f"{command.summary[0].upper()}{command.summary[1:]}.", module.EXAMPLES)
    module.add_options(parser)
    return parser


def _offline_parser(command: Command) -> argparse.ArgumentParser:
    try:
        make = cast(Callable[[], argparse.ArgumentParser], _entry_points(PARSERS)[command.name].load())
    except (ImportError, KeyError):
        return Parser(f"hooper {command.name}", command.summary)
    return make()


def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group=group)}
