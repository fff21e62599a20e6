"""Commands made of functions: typer reads their options, and a mistake is one sentence on standard error."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import shutil
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from app.core.errors import HooperError, InvalidSettings
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP

BROAD = 100
"""Columns from which on rich cuts no option's name."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_Function = TypeVar("_Function", bound=Callable[..., Any])


EXTRAS = {
    "httpx": "client", "onnxruntime": "cpu", "opentelemetry": "tracing", "pyarrow": "batch", "ray": "ray",
}  # fmt: skip
"""Package to the extra that brings it; what is not listed comes with `train`."""
OURS = frozenset({"app", "hooper", "scripts"})


def missing_package(error: ImportError) -> str:
    """The sentence on a package of an extra that is not installed; empty where the error is another one."""
    package = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not package or package in OURS:
        return ""
    return f"{package} is not installed; run `pip install 'hooper[{EXTRAS.get(package, 'train')}]'`"


OnError = Callable[[BaseException, Sequence[str]], int]
"""From what a command raised, and the words that it was called with, to its exit code; or it raises that again."""


class Program:
    """A command: called with arguments it runs, and gives an exit code."""

    def __init__(self, function: Callable[..., int], name: str, examples: str, on_error: OnError | None) -> None:
        self.name, self._function, self._examples, self._on_error = name, function, examples, on_error

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        return run(self.command, self.name, sys.argv[1:] if arguments is None else arguments)

    @functools.cached_property
    def command(self) -> Command:
        app = typer.Typer(add_completion=False)
        app.command(self.name, cls=Command, context_settings=CONTEXT)(self._guarded)
        command = typer.main.get_command(app)
        assert isinstance(command, Command)  # noqa: S101 - typer makes what `cls` says
        command.examples = self._examples
        return command

    @property
    def _guarded(self) -> Callable[..., int]:
        @functools.wraps(self._function)
        def call(**values: Any) -> int:
            try:
                return self._function(**values)
            except (Exception, KeyboardInterrupt) as error:
                if self._on_error is None:
                    raise
                return self._on_error(error, self.command.words)

        return call


def program(name: str, examples: str = "", on_error: OnError | None = None) -> Callable[[Callable[..., int]], Program]:
    """Make a command of a function: typer reads its parameters as arguments and options, and its docstring as help.

    Args:
        name: with `hooper`, as in `hooper train`.
        on_error: what becomes of an error; None: whoever runs the command handles it.
    """
    return lambda function: Program(function, name, f"examples:\n{examples}" if examples else "", on_error)


def offline_errors(name: str, when_stopped: str = "") -> OnError:
    """What most commands of the offline half do with an error: one sentence, and where it is a crash its cause.

    Args:
        when_stopped: what holds where it ends early.
    """

    def handle(error: BaseException, words: Sequence[str]) -> int:
        code = EXIT_SETUP
        match error:
            case HooperError():
                print(f"{name}: {error.detail}", file=sys.stderr)
            case ImportError() if missing := missing_package(error):
                print(f"{name}: {missing}", file=sys.stderr)
            case KeyboardInterrupt():
                if when_stopped:
                    print(f"\n{name}: stopped; {when_stopped}", file=sys.stderr)
                code = EXIT_INTERRUPTED
            case _ if when_stopped:
                traceback.print_exception(error)
                print(f"{name}: unexpected, see above; {when_stopped}", file=sys.stderr)
                code = EXIT_FAILED
            case _:
                raise error
        return code

    return handle


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
        options: annotations for typer, by name; all of them may be left out.
        build: makes the argument from the options that were given.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function, eval_str=True)

        @functools.wraps(function)
        def call(**values: Any) -> Any:
            option_values = {name: value for name in options if (value := values.pop(name)) not in (None, [])}
            return function(**values, **{parameter: build(option_values)})

        keyword_only: Any = inspect.Parameter.KEYWORD_ONLY
        own = [own.replace(kind=keyword_only) for name, own in signature.parameters.items() if name != parameter]
        added = [inspect.Parameter(name, keyword_only, default=None, annotation=kind) for name, kind in options.items()]
        call.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        call.__annotations__ = {}  # typer would read the function's own
        return call  # type: ignore[return-value]

    return decorate


def annotated_option(
    name: str, kind: Any, text: str | None, panel: str = "", default: Any = None, metavar: str | None = None
) -> Any:
    """The annotation of an option that may be left out, for `spread`.

    Args:
        name: the function's, from which the option's follows.
        kind: its type, `X | None` as `X`; a list is given as several words.
        default: of a switch: one that is on is switched off by `--no-…`.
        metavar: by its type where None.
    """
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    if typing.get_origin(kind) not in (Literal, list, tuple) and parts:
        kind = parts[0]
    if typing.get_origin(kind) is tuple:  # of any length
        kind = list[typing.get_args(kind)[0]]  # type: ignore[misc]
    is_list = typing.get_origin(kind) is list
    element = typing.get_args(kind)[0] if is_list else kind
    word = f"--{name.replace('_', '-')}"
    if kind is bool and default:
        word = f"{word}/--no-{word[2:]}"
    metavar = metavar or {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}.get(element)
    metavar = f"{metavar or '|'.join(map(str, typing.get_args(element)))} ..." if is_list else metavar
    if is_list and typing.get_origin(element) is Literal:  # which typer reads in a list as an enum alone
        kind = list[StrEnum(name, {str(choice): choice for choice in typing.get_args(element)})]  # type: ignore[misc]
    return Annotated[kind | None, typer.Option(word, metavar=metavar, help=text, rich_help_panel=panel or None)]


FILE_OPTIONS: Mapping[str, Any] = {
    "encoding": annotated_option("encoding", str, "of the text, such as cp1252 or utf-16; default: detected", metavar="NAME"),
    "delimiter": annotated_option(
        "delimiter", str, "between the columns of a csv file, such as ';' or tab; default: detected", metavar="CHARACTER"
    ),
    "sheet": annotated_option("sheet", str, "of a spreadsheet, by name or number; default: the first", metavar="NAME"),
}
"""How a data file is read where that is not as detected: for every command that reads data."""


def parse_options(options: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """What words give of these options, as `spread` collects them.

    Raises:
        InvalidSettings: one of them is unknown, or its value is none of its kind.
    """
    parsed: dict[str, Any] = {}

    @program("options")
    @spread("values", options, dict)
    def collect(values: dict[str, Any]) -> int:
        parsed.update(values)
        return 0

    try:
        with collect.command.make_context("options", list(words)) as context:
            collect.command.invoke(context)
    except TyperException as error:
        raise InvalidSettings(error.format_message()) from error
    return parsed


class _Help:
    """Help with examples: in boxes on a broad terminal where rich is installed, plain text elsewhere."""

    examples = ""
    params: list[Any]

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        pieces = [piece.strip("{}") for piece in self.collect_usage_pieces(ctx)]  # type: ignore[attr-defined]
        formatter.write_usage(ctx.command_path, " ".join(pieces), prefix="usage: ")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        is_broad = shutil.get_terminal_size().columns >= BROAD
        if sys.stdout.isatty() and is_broad and importlib.util.find_spec("rich"):
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
    """One command; `words` are what it was called with.

    `--data A B C` is read where the option's metavar ends in ` ...`, and `--ray` by itself where it stands in brackets.
    """

    words: Sequence[str] = ()
    subcommands: Sequence[tuple[str, str]] = ()
    """Words that may follow in place of arguments, with their summaries, for completion."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self.words = tuple(args)
        try:
            return super().parse_args(ctx, list(self._expanded(args)))
        except TyperException as error:
            error.ctx = getattr(error, "ctx", None) or ctx  # type: ignore[attr-defined]  # whose sentence it is
            raise

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem  # typer keeps click's own to itself

        words = [CompletionItem(name, help=text) for name, text in self.subcommands if name.startswith(incomplete)]
        return [*words, *super().shell_complete(ctx, incomplete)]

    def _expanded(self, args: Sequence[str]) -> Iterator[str]:
        kinds = {name: str(getattr(param, "metavar", None) or "") for param in self.params for name in param.opts}
        flags = {
            name for param in self.params if getattr(param, "is_flag", False) for name in (*param.opts, *param.secondary_opts)
        }
        option, num_values = "", 0
        for index, word in enumerate(args):
            if word == "--":
                yield from args[index:]
                return
            if word.startswith("-") and word != "-":
                option, num_values = (word if kinds.get(word, "").endswith(" ...") else ""), 0
                following = args[index + 1].partition("=")[0] if index + 1 < len(args) else ""
                is_option = following.startswith("--") and following in {*kinds, *flags, "--help"}
                if is_option and word in kinds and word not in flags and not kinds[word].startswith("["):
                    raise TyperException(f"Option {word!r} requires an argument.")  # click would take the next option for it
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
        sentence = f"{option!r} is not known here" + (f"; did you mean {near[0]!r}?" if near else "")
    elif type(error).__name__ == "MissingParameter" and param is not None:
        missing = param.opts[-1] if param.param_type_name == "option" else param.human_readable_name
        sentence = f"the following arguments are required: {missing}"
    else:
        message = error.format_message().rstrip(".")
        if message.startswith("Got unexpected extra"):  # …argument(s) (a b)
            message = f"{message.rpartition('(')[2].rstrip(')')!r} is not known here"
        sentence = f"{message[0].lower()}{message[1:]}"
    return f"{path}: {sentence} (`{path} --help` tells what there is)"
