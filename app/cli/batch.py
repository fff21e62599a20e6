"""`hooper batch`."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import time
from contextlib import ExitStack, aclosing, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from app.cli.ahead import ReadAhead
from app.cli.ask import ROUTES, Asker, Route, asking, checked_options
from app.cli.draft import Draft, Mark, draft, is_own
from app.cli.groups import rows_after, share_read
from app.cli.inputs import STANDARD_INPUT, open_source
from app.cli.output import print_json
from app.cli.parser import Parser, add_settings
from app.cli.progress import Bar
from app.cli.request import Wish, add_model_options, add_request_options, request_options, wish_from
from app.cli.sheet import Sheet, Written, sheet_for, written
from app.cli.stages import in_order
from app.core.errors import SetupError
from app.core.manifest import MANIFEST
from app.core.types import TaskName
from app.serving.deployment import offline_predict

EXAMPLES = """  hooper batch --model sentiment reviews.csv answers.jsonl
  hooper batch --model sentiment --top-k 2 reviews.jsonl.gz labels.csv.gz   label, score, label_2, score_2
  hooper batch --model qa --question "Who won?" reports.parquet answers.parquet
  hooper batch --model summary --max-sentences 2 articles.jsonl summaries.tsv
  hooper batch --model sentiment --ray reviews.csv answers.jsonl            the same, by all nodes of a Ray cluster

INPUT is read as `hooper predict` reads a file, and parquet too (`pip install 'hooper[batch]'`). OUTPUT is json lines with
whole answers, or a table with the best of each; its name says which. Every row of INPUT gives one row, in order; one that
cannot be answered holds the error in its place and is counted, and then the exit code is 1.

OUTPUT appears when it is whole. Until then OUTPUT.partial and OUTPUT.journal stand beside it: stopped or killed, the same
command goes on where they end.
"""
SETTINGS = ("models", "state", "device", "precision", "engine_threads", "max_batch_tokens", "max_batch_rows", "max_body_bytes")
GROUP, GROUP_CHARACTERS = 256, 250_000
"""Rows that are written together: few, for they are what a kill costs; batches are filled from all groups under way."""
SWITCH_S = 0.0005
"""The interpreter's, ten times shorter than usual: the engine's thread must not wait for those that read and write."""


@dataclass(slots=True)
class Ran:
    """What a run did."""

    mark: Mark
    num_before: int = 0
    seconds: float = 0.0


def add_options(parser: Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="what to answer: csv, tsv, json lines, texts (also gzipped), parquet")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="what to write: .jsonl, .csv, .tsv (also .gz), .parquet")
    add_model_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT, once the new one is whole")
    parser.add_argument("--restart", action="store_true", help="begin again, whatever an earlier run has left")
    parser.add_argument(
        "--ray", nargs="?", const="auto", metavar="ADDRESS", help="answer on a Ray cluster; auto: the one of this node"
    )
    parser.add_argument("--json", action="store_true", help="say what was done as JSON")
    add_request_options(parser)
    add_settings(parser, SETTINGS)


def run(options: argparse.Namespace) -> int:
    target: Path = options.output
    _check_files(options.input, target)
    wish = wish_from(options, _route, list(request_options()))
    if len(wish.shape.given) == 2:
        raise SetupError("--question and --context are already a whole input; leave one of them out to read it from INPUT")
    sheet = sheet_for(target, wish.task, wish.options.get("top_k") or 1)
    with ExitStack() as stack:
        stream = stack.enter_context(open_source(options.input))
        job = _job(options.input, wish)
        begun = stack.enter_context(draft(target, job, overwrite=options.overwrite, restart=options.restart))
        ran = (
            Ran(begun, begun.num_rows)
            if isinstance(begun, Mark)
            else _go_on(begun, options.input, stream, wish, sheet, options.ray)
        )
    _say(target, ran, options.json)
    return 1 if ran.mark.num_failed else 0


def _route(task: TaskName) -> Route:
    return replace(ROUTES[task], predict=offline_predict)


def _check_files(source: str, target: Path) -> None:
    if source == STANDARD_INPUT or (Path(source).exists() and not Path(source).is_file()):
        raise SetupError("INPUT must be a file: a run that goes on reads it again; `hooper predict` reads pipes")
    if is_own(target, Path(source)):
        raise SetupError(f"{target} and what is written beside it would replace the input {source}; name another output")
    if target.exists() and not target.is_file():
        raise SetupError(f"{target} is no file")


def _job(source: str, wish: Wish) -> dict[str, Any]:
    """All that decides what the rows of the output are."""
    state = Path(source).stat()
    manifest = (wish.artefact.folder / MANIFEST).read_bytes()
    return {
        "input": str(Path(source).resolve()),
        "input's size or time": [state.st_size, state.st_mtime_ns],
        "model": [wish.artefact.id, hashlib.sha256(manifest).hexdigest()],
        "set of options": dict(wish.options),
        "way to read the input": [wish.shape.format, wish.shape.text_column, dict(wish.shape.given), wish.shape.max_bytes],
    }


def _go_on(begun: Draft, source: str, stream: BinaryIO, wish: Wish, sheet: Sheet, address: str | None) -> Ran:
    before, seconds = begun.mark, 0.0
    if not before.is_complete:
        began = time.monotonic()
        if address is None:
            began = _answer_here(begun, source, stream, wish, sheet)
        else:
            _answer_on_cluster(begun, source, wish, sheet, address)
        if not begun.mark.num_bytes:
            begun.write(sheet.head(), 0, 0)
        seconds = time.monotonic() - began
    begun.finish(sheet.convert)
    return Ran(begun.mark, before.num_rows, seconds)


def _answer_here(begun: Draft, source: str, stream: BinaryIO, wish: Wish, sheet: Sheet) -> float:
    """When it began: once the model was loaded."""
    bar = Bar(begun.mark.num_rows, share_read(stream, source, wish.shape))
    rows = rows_after(stream, source, wish.shape, begun.mark.num_rows)
    with (
        asking(wish.artefact, wish.route, wish.settings, wish.options) as asker,
        closing(ReadAhead(rows, GROUP, GROUP_CHARACTERS)) as ahead,
    ):
        began = time.monotonic()
        asker.runner.run(_answer_all(begun, asker, ahead, sheet, bar))
    return began


async def _answer_all(begun: Draft, asker: Asker, ahead: ReadAhead, sheet: Sheet, bar: Bar) -> None:
    def write(inputs: Any, answers: Any) -> None:
        _append(begun, sheet, written(sheet, inputs, answers))

    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        async with aclosing(in_order(ahead.take, asker.answers)) as groups:
            async for inputs, answers in groups:
                await asyncio.to_thread(write, inputs, answers)
                bar.tell(begun.mark.num_rows, begun.mark.num_failed)
    finally:
        sys.setswitchinterval(usual)
        bar.clear()


def _answer_on_cluster(begun: Draft, source: str, wish: Wish, sheet: Sheet, address: str) -> None:
    try:
        from app.cli import cluster
    except ImportError as error:
        raise SetupError(f"--ray needs {error.name}, which is not installed; run `pip install 'hooper[ray]'`") from error
    checked_options(wish.artefact, wish.route, wish.options)
    last = Written(b"", 0, 0)
    bar = Bar(begun.mark.num_rows, lambda _: last.share)
    job = cluster.Job(source, wish, sheet, begun.mark.num_rows, (GROUP, GROUP_CHARACTERS))
    with closing(cluster.answered(job, address)) as groups:
        try:
            for last in groups:
                _append(begun, sheet, last)
                bar.tell(begun.mark.num_rows, begun.mark.num_failed)
        finally:
            bar.clear()


def _append(begun: Draft, sheet: Sheet, one: Written) -> None:
    head = sheet.head() if not begun.mark.num_bytes else b""
    begun.write(head + one.rows, one.num_rows, one.num_failed)


def _say(target: Path, ran: Ran, as_json: bool) -> None:
    mark, num_new = ran.mark, ran.mark.num_rows - ran.num_before
    rate = num_new / ran.seconds if ran.seconds else 0.0
    if as_json:
        print_json({
            "output": str(target), "rows": mark.num_rows, "failed": mark.num_failed, "rows_before": ran.num_before,
            "seconds": round(ran.seconds, 3), "rows_per_s": round(rate, 1),
        })  # fmt: skip
        return
    failed = f", {mark.num_failed:,} of them with an error" if mark.num_failed else ""
    before = f", {ran.num_before:,} of them by an earlier run" if ran.num_before else ""
    print(f"{target}: {mark.num_rows:,} rows{failed}{before}; {num_new:,} in {ran.seconds:,.1f} s, {rate:,.0f} a second")
