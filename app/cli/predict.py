"""`hooper predict` and `hooper explain`."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Annotated, Any

import typer

from app.cli.formatting import Show, as_bars, as_columns, as_json
from app.cli.local_model import (
    LocalModel,
    ModelChoice,
    ModelRequest,
    explain_options,
    model_choice,
    model_options,
    opened,
    request_options,
)
from app.cli.options import COMPUTING, with_settings
from app.cli.pipeline import Prefetch
from app.cli.terminal import Progress, columns, on_terminal
from app.core.command_line import program, spread
from app.core.errors import SetupError
from app.data import Input, InputSchema, read
from app.data.items import check_sources
from app.data.sources import STANDARD_INPUT
from app.settings import Settings

Files = Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="what to answer; `-`: standard input")]
Texts = Annotated[
    list[str] | None, typer.Option("--text", metavar="TEXT", help="what to answer in place of files; may be repeated")
]
AsJson = Annotated[bool, typer.Option("--json", help="json lines on a terminal, too")]


@program(
    "hooper predict",
    """  hooper predict --model sentiment --text "A warm, funny film."
  hooper predict --model sentiment reviews.csv > answers.jsonl
  zcat reviews.txt.gz | hooper predict --model sentiment --top-k 1 | jq -r '.labels[0].label'
  hooper predict --model qa --question "Who won?" reports.txt          the question, asked of every line
  hooper predict --model qa questions.jsonl                            {"id": …, "question": …, "context": …} a line
  hooper predict --model summary --max-sentences 2 articles.jsonl.gz

A FILE is one text a line, json lines or an array, csv, a spreadsheet, parquet or feather, by its name, also as .gz, .zip or
.zst; `-`, or no FILE, is standard input. Encoding and delimiter are detected, and said where that may be wrong. Blank lines are
passed over. Every other input gives one line, in order: a table on a terminal, json lines elsewhere. What cannot be
answered gives {"error": …} in its place, and then the exit code is 1.
""",
)
@with_settings(*COMPUTING)
@spread("options", request_options(), dict)
@spread("choice", model_options(), model_choice)
def predict(
    settings: Settings,
    options: dict[str, Any],
    choice: ModelChoice,
    files: Files = None,
    text: Texts = None,
    as_json: AsJson = False,
) -> int:
    """Answer texts from files or a pipe, without a service."""
    request = choice.request("predict", options, settings)
    table = partial(as_columns, request.lines, options.get("top_k") or 1, columns())
    return _answer_inputs("predict", request, files or [], text or [], None if as_json else table)


@program(
    "hooper explain",
    """  hooper explain --model sentiment --text "It was not bad at all."
  hooper explain --model sentiment --target negative reviews.csv > explanations.jsonl
  hooper explain --model qa --question "When?" --context "A new library opened in 1903."
  hooper explain --model summary --json article.jsonl

FILE is read as `hooper predict` reads it. On a terminal each word that matters stands beside its weight, in log-odds, the
heaviest first: > contributes to the target, < against it. Elsewhere json lines, as the service's `/v1/explain` answers.
""",
)
@with_settings(*COMPUTING)
@spread("options", explain_options(), dict)
@spread("choice", model_options(), model_choice)
def explain(
    settings: Settings,
    options: dict[str, Any],
    choice: ModelChoice,
    files: Files = None,
    text: Texts = None,
    as_json: AsJson = False,
) -> int:
    """Say which words made a model decide, without a service."""
    request = choice.request("explain", options, settings)
    return _answer_inputs("explain", request, files or [], text or [], None if as_json else partial(as_bars, columns()))


def _answer_inputs(command: str, request: ModelRequest, files: Sequence[str], texts: Sequence[str], table: Show | None) -> int:
    """Answer every input of the files, the pipe or the options.

    Args:
        command: its name, for what is said at the end.
        texts: in place of files.
        table: how a person is shown an answer; None: as programs are.

    Returns:
        0, or 1 if an input could not be answered.
    """
    if texts and files:
        raise SetupError("give either files or --text, not both")
    if request.schema.is_whole and (texts or files):
        raise SetupError(f"{request.schema.given_options} are already a whole input; leave one of them out to give the other")
    sources = files or [STANDARD_INPUT]
    check_sources(sources)
    show = table if table and on_terminal() else partial(as_json, len(sources) > 1)
    with opened(request) as model, closing(Prefetch(_inputs(sources, files, texts, request.schema))) as prefetch:
        return _print_answers(command, model, prefetch, show)


def _print_answers(command: str, model: LocalModel, prefetch: Prefetch, show: Show) -> int:
    progress = Progress()
    num_done = num_failed = 0
    try:
        while inputs := prefetch.take():
            for item, answer in zip(inputs, model.answer(inputs), strict=True):
                num_failed += "error" in answer
                for line in show(item, answer):
                    print(line)
            sys.stdout.flush()  # whoever reads a pipe gets each answer when it is there
            num_done += len(inputs)
            progress.update(num_done, num_failed)
    finally:
        progress.clear()
    if num_failed:
        print(f"hooper {command}: {num_failed:,} of {num_done:,} inputs could not be answered", file=sys.stderr)
    return 1 if num_failed else 0


def _inputs(
    sources: Sequence[str], files: Sequence[str], texts: Sequence[str], schema: InputSchema
) -> Generator[Input, None, None]:
    if texts or (not files and schema.is_whole):
        items = [{schema.text_field: text} for text in texts] or [{}]
        yield from (Input("--text", number, {**schema.given, **item}) for number, item in enumerate(items, start=1))
        return
    for source in sources:
        yield from read(source, schema)
