"""Commands made of functions: typer reads their options, and a mistake is one sentence on standard error."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from app.core.exit_codes import EXIT_SETUP

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Program:
    """A command: called with arguments it runs, and gives an exit code."""

    def __init__(self, function: Callable[..., int], name: str, examples: str) -> None:
        self.function, self.name, self._examples = function, name, examples

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        return run(self.command, self.name, sys.argv[1:] if arguments is None else arguments)

    @functools.cached_property
    def command(self) -> Command:
        app = typer.Typer(add_completion=False)
        app.command(self.name, cls=Command, context_settings=CONTEXT)(self.function)
        command = typer.main.get_command(app)
        assert isinstance(command, Command)  # noqa: S101 - typer makes what `cls` says
        command.examples = self._examples
        return command


def program(name: str, examples: str = "") -> Callable[[Callable[..., int]], Program]:
    """Make a command of a function: typer reads its parameters as arguments and options, and its docstring as help.

    Args:
        name: with `hooper`, as in `hooper train`.
        examples: printed below the help as they are.
    """
    return lambda function: Program(function, name, f"examples:\n{examples}" if examples else "")


def run(command: Any, name: str, arguments: Sequence[str]) -> int:
    """The exit code of a command of typer's. What it raises beyond mistakes in its arguments, the caller handles."""
    try:
        with command.make_context(name, list(arguments)) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as end:  # after --help
        return end.exit_code
    except TyperException as error:
        print(_sentence(error), file=sys.stderr)
        return EXIT_SETUP


def spread(
    parameter: str, options: Mapping[str, Any], build: Callable[[dict[str, Any]], Any]
) -> Callable[[_Function], _Function]:
    """Give a function one option for each of `options` in place of a parameter, which becomes what they were built to.

    Args:
        parameter: the function's.
        options: annotations for typer, by name; all of them may be left out.
        build: makes the argument from the options that were given.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function, eval_str=True)

        @functools.wraps(function)
        def call(**values: Any) -> Any:
            given = {name: value for name in options if (value := values.pop(name)) not in (None, [])}
            return function(**values, **{parameter: build(given)})

        keyword_only: Any = inspect.Parameter.KEYWORD_ONLY
        own = [one.replace(kind=keyword_only) for name, one in signature.parameters.items() if name != parameter]
        added = [inspect.Parameter(name, keyword_only, default=None, annotation=kind) for name, kind in options.items()]
        call.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        call.__annotations__ = {}  # typer would read the function's own
        return call  # type: ignore[return-value]

    return decorate


class _Help:
    """Help with examples: boxes where a person reads and rich is installed, plain text elsewhere."""

    examples = ""
    params: list[Any]

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)), prefix="usage: ")  # type: ignore[attr-defined]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        if sys.stdout.isatty() and importlib.util.find_spec("rich"):
            from rich.markup import escape
            from typer.rich_utils import rich_format_help

            for param in self.params:
                param.help = escape(getattr(param, "help", None) or "")  # `[a]` is no markup in our texts
            rich_format_help(obj=self, ctx=ctx, markup_mode="rich")  # type: ignore[arg-type]
        else:
            self.format_usage(ctx, formatter)
            self.format_help_text(ctx, formatter)  # type: ignore[attr-defined]
            self.format_options(ctx, formatter)
        if self.examples:
            formatter.write(f"\n{self.examples.rstrip()}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):  # type: ignore[attr-defined]
            record = param.get_help_record(ctx)
            if record:
                usual = "arguments" if param.param_type_name == "argument" else "options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Command(_Help, TyperCommand):
    """One command. `--data A B C` is read where the option's metavar ends in ` ...`, a lone `--ray` where it is in brackets."""

    subcommands: Sequence[tuple[str, str]] = ()
    """Words that may follow in place of arguments, with their summaries, for completion."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._expanded(args)))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem  # typer keeps click's own to itself

        words = [CompletionItem(name, help=text) for name, text in self.subcommands if name.startswith(incomplete)]
        return [*words, *super().shell_complete(ctx, incomplete)]

    def _expanded(self, args: Sequence[str]) -> Iterator[str]:
        kinds = {name: str(getattr(param, "metavar", None) or "") for param in self.params for name in param.opts}
        option, num_values = "", 0
        for index, word in enumerate(args):
            if word == "--":
                yield from args[index:]
                return
            if word.startswith("-") and word != "-":
                option, num_values = (word if kinds.get(word, "").endswith(" ...") else ""), 0
                yield word
                if kinds.get(word, "").startswith("[") and (index + 1 == len(args) or args[index + 1].startswith("-")):
                    yield ""
            else:
                if option and num_values:
                    yield option
                num_values += 1
                yield word


class Group(_Help, TyperGroup):
    """Commands that are found when they are called."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)


def _sentence(error: TyperException) -> str:
    context: Any = getattr(error, "ctx", None)
    if context is None:
        return error.format_message()
    path = context.command_path
    option, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if hasattr(error, "possibilities"):
        near = list(error.possibilities or [])
        said = f"{option!r} is not known here" + (f"; did you mean {near[0]!r}?" if near else "")
    elif type(error).__name__ == "MissingParameter" and param is not None:
        said = f"the following arguments are required: {param.human_readable_name}"
    else:
        message = error.format_message().rstrip(".")
        said = f"{message[0].lower()}{message[1:]}"
    return f"{path}: {said} (`{path} --help` tells what there is)"
