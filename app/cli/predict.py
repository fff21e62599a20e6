"""`hooper predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from app.cli.ahead import ReadAhead
from app.cli.answers import as_columns, as_json
from app.cli.ask import ROUTES, Asker, Route, asking
from app.cli.inputs import STANDARD_INPUT, Asked, Shape, check, read
from app.cli.output import columns, on_terminal
from app.cli.parser import Parser, add_settings
from app.cli.progress import Progress
from app.cli.request import add_model_options, add_request_options, request_options, wish_from
from app.core.errors import SetupError
from app.core.types import TaskName

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

SETTINGS = ("models", "state", "device", "precision", "engine_threads", "max_body_bytes")
Show = Callable[[Asked, Mapping[str, Any]], Iterator[str]]
"""The lines in which an input's answer is printed."""


def add_options(parser: Parser) -> None:
    add_input_options(parser)
    add_request_options(parser)
    add_settings(parser, SETTINGS)


def run(options: argparse.Namespace) -> int:
    def table(task: TaskName, wishes: Mapping[str, Any]) -> Show:
        return partial(as_columns, task, wishes.get("top_k") or 1, columns())

    return answer_inputs("predict", options, ROUTES.__getitem__, list(request_options()), table)


def add_input_options(parser: Parser) -> None:
    """What is asked of which model, and how its answers are shown."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="what to answer; `-`: standard input")
    add_model_options(parser)
    parser.add_argument("--text", action="append", default=[], help="a text to answer in place of files; may be repeated")
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
    wish = wish_from(options, route_of, option_names)
    _check_given(options, wish.shape.given)
    sources = options.files or [STANDARD_INPUT]
    check(sources)
    for_people = on_terminal() and not options.json
    shown: Show = table(wish.task, wish.options) if for_people else partial(as_json, len(sources) > 1)
    with (
        asking(wish.artefact, wish.route, wish.settings, wish.options) as asker,
        closing(ReadAhead(_inputs(options, sources, wish.shape))) as ahead,
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


def _check_given(options: argparse.Namespace, given: Mapping[str, str]) -> None:
    if options.text and options.files:
        raise SetupError("give either files or --text, not both")
    if len(given) == 2 and (options.text or options.files):
        raise SetupError("--question and --context are already a whole input; leave one of them out to give the other")
