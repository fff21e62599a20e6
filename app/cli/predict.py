"""`hooper predict`."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Literal

from app.cli.ahead import ReadAhead
from app.cli.answers import as_columns, as_json
from app.cli.ask import ROUTES, Asker, Route, asking
from app.cli.inputs import STANDARD_INPUT, Asked, Format, Shape, check, read
from app.cli.output import columns, on_terminal
from app.cli.parser import Parser, add_settings, settings_from
from app.cli.progress import Progress
from app.core.errors import SetupError
from app.core.types import TaskName
from app.serving.repository import Artefact, Repository

EXAMPLES = """  hooper predict --model sentiment --text "A warm, funny film."
  hooper predict --model sentiment reviews.csv > answers.jsonl
  zcat reviews.txt.gz | hooper predict --model sentiment --top-k 1 | jq -r '.labels[0].label'
  hooper predict --model qa --question "Who won?" reports.txt          the question, asked of every line
  hooper predict --model qa questions.jsonl                            {"id": …, "question": …, "context": …} a line
  hooper predict --model summary --max-sentences 2 articles.jsonl.gz

A FILE is one text a line, json lines, csv or tsv (by its name; also gzipped); `-`, or no FILE, is standard input. Blank lines
are passed over. Every other input gives one line, in order: a table on a terminal, json lines elsewhere. What cannot be
answered gives {"error": …} in its place, and then the exit code is 1.
"""

SETTINGS = ("models", "device", "engine_threads", "max_body_bytes")
Show = Callable[[Asked, Mapping[str, Any]], Iterator[str]]
"""The lines in which an input's answer is printed."""


def add_options(parser: Parser) -> None:
    add_input_options(parser)
    _add_request_options(parser.add_argument_group("options of the request, as the service takes them"))
    add_settings(parser, SETTINGS)


def run(options: argparse.Namespace) -> int:
    def table(task: TaskName, wishes: Mapping[str, Any]) -> Show:
        return partial(as_columns, task, wishes.get("top_k") or 1, columns())

    return answer_inputs("predict", options, ROUTES.__getitem__, list(_request_options()), table)


def add_input_options(parser: Parser) -> None:
    """What is asked of which model, and how its answers are shown."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="what to answer; `-`: standard input")
    parser.add_argument("--model", metavar="NAME", help="`name`, `name/version` or a published folder's path")
    parser.add_argument("--text", action="append", default=[], help="a text to answer in place of files; may be repeated")
    parser.add_argument("--question", help="the question to ask of every context")
    parser.add_argument("--context", help="the context of every question")
    parser.add_argument("--format", choices=typing.get_args(Format), default="auto", help="of the input; auto: by its name")
    parser.add_argument("--text-column", default="", metavar="NAME", help="column of the text or context; default: guessed")
    parser.add_argument("--json", action="store_true", help="json lines on a terminal, too")


def answer_inputs(
    command: str,
    options: argparse.Namespace,
    route_of: Callable[[TaskName], Route],
    option_names: Sequence[str],
    table: Callable[[TaskName, Mapping[str, Any]], Show],
) -> int:
    """Answer every input of the files, the pipe or the options.

    Args:
        command: its name, for what is said at the end.
        options: those of `add_input_options` and of the request.
        route_of: what is asked of a model of this task.
        option_names: the request's options.
        table: how a person is shown an answer.

    Returns:
        0, or 1 if an input could not be answered.
    """
    settings = settings_from(options)
    artefact = _chosen(Repository(settings.models), options.model)
    task = artefact.manifest.task
    given = {name: getattr(options, name) for name in ("question", "context") if getattr(options, name) is not None}
    _check_given(options, given, artefact)
    shape = Shape(task, settings.max_body_bytes, options.format, options.text_column, given)
    wishes = {name: value for name, value in vars(options).items() if name in option_names}
    sources = options.files or [STANDARD_INPUT]
    check(sources)
    for_people = on_terminal() and not options.json
    shown: Show = table(task, wishes) if for_people else partial(as_json, len(sources) > 1)
    with (
        asking(artefact, route_of(task), settings, wishes) as asker,
        closing(ReadAhead(_inputs(options, sources, shape))) as ahead,
    ):
        return _answer_all(command, asker, ahead, shown)


def _answer_all(command: str, asker: Asker, ahead: ReadAhead, shown: Show) -> int:
    progress = Progress()
    num_done = num_failed = 0
    try:
        while inputs := ahead.take():
            for one, answer in zip(inputs, asker.ask(inputs), strict=True):
                num_failed += "error" in answer
                for line in shown(one, answer):
                    print(line)
            sys.stdout.flush()  # whoever reads a pipe gets each answer when it is there
            num_done += len(inputs)
            progress.tell(num_done, num_failed)
    finally:
        progress.clear()
    if num_failed:
        print(f"hooper {command}: {num_failed:,} of {num_done:,} inputs could not be answered", file=sys.stderr)
    return 1 if num_failed else 0


def _inputs(options: argparse.Namespace, sources: list[str], shape: Shape) -> Generator[Asked, None, None]:
    if options.text or (not options.files and len(shape.given) == 2):
        texts = [{shape.text_field: text} for text in options.text] or [{}]
        fields = [{**shape.given, **one} for one in texts]
        yield from (Asked("--text", number, one) for number, one in enumerate(fields, start=1))
        return
    for source in sources:
        yield from read(source, shape)


def _chosen(repository: Repository, wish: str | None) -> Artefact:
    if wish is not None:
        return repository.find(wish)
    names = repository.names()
    if len(names) == 1:
        return repository.open(names[0])
    raise SetupError(f"which model? say --model NAME; published are: {', '.join(names) or 'none'}")


def _check_given(options: argparse.Namespace, given: Mapping[str, str], artefact: Artefact) -> None:
    if options.text and options.files:
        raise SetupError("give either files or --text, not both")
    if given and artefact.manifest.task != "question-answering":
        raise SetupError(f"--{next(iter(given))} is for question answering; {artefact.id} does {artefact.manifest.task}")
    if len(given) == 2 and (options.text or options.files):
        raise SetupError("--question and --context are already a whole input; leave one of them out to give the other")


def _request_options() -> dict[str, list[TaskName]]:
    """The names of all tasks' options, with the tasks that have them."""
    found: dict[str, list[TaskName]] = {}
    for task, route in ROUTES.items():
        for name in route.option_names:
            found.setdefault(name, []).append(task)
    return found


def _add_request_options(group: Any) -> None:
    for name, tasks in _request_options().items():
        route = ROUTES[tasks[0]]
        kind = typing.get_type_hints(route.options)[name]
        own = route.request.model_fields[name].description
        text = own if len(tasks) == 1 else _COMMON.get(name, own)
        kinds: Mapping[str, Any] = {"action": "store_true"} if kind is bool else _valued(kind)
        only = f" ({tasks[0]})" if len(tasks) == 1 else ""
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            help=f"{text}{only}".replace("%", "%%"),
            **kinds,
        )


_COMMON = {
    "top_k": "how many labels or answers to give, best first",
    "truncation": "what to do with a text longer than the model reads: refuse, cut, or read it in windows",
}
"""What is said of the options that several tasks have."""


def _valued(kind: Any) -> Mapping[str, Any]:
    """How argparse reads an option of this type; `X | None` is read as `X`."""
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    if typing.get_origin(kind) is not Literal and parts:
        kind = parts[0]
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    return {"type": kind, "metavar": "N" if kind is int else kind.__name__.upper()}
