"""`hooper batch`."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from contextlib import ExitStack, aclosing, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from app.cli.local_model import LocalModel, ModelChoice, ModelRequest, model_choice, model_options, opened, request_options
from app.cli.options import COMPUTING, with_settings
from app.cli.pipeline import Prefetch, in_order, rows_after, share_read
from app.cli.resumable_writer import Mark, ResumableWriter, is_own, resumable_writer
from app.cli.row_writers import RowWriter, WrittenRows, row_writer, written
from app.cli.terminal import Progress, print_json
from app.core.command_line import program, spread
from app.core.errors import InvalidSettings, SetupError
from app.core.manifest import MANIFEST
from app.data import InputSchema
from app.data.items import columns_of
from app.data.sources import STANDARD_INPUT, open_source
from app.settings import Settings

CHUNK, CHUNK_CHARACTERS = 256, 250_000
"""Rows that are written together: few, for they are what a kill costs; batches are filled from all chunks under way."""
SWITCH_S = 0.0005
"""The interpreter's, ten times shorter than usual: the engine's thread must not wait for those that read and write."""


@dataclass(slots=True)
class BatchRun:
    """What a run did."""

    mark: Mark
    num_before: int = 0
    seconds: float = 0.0


InputFile = Annotated[
    str, typer.Argument(metavar="INPUT", help="what to answer: csv, spreadsheets, JSON, texts, parquet; also packed")
]
OutputFile = Annotated[
    Path, typer.Argument(metavar="OUTPUT", help="what to write: .jsonl, .csv, .tsv (also .gz), .parquet, .xlsx, .npy")
]
Keep = Annotated[
    str | None, typer.Option(metavar="COLUMNS", help="columns of INPUT to write beside the answers: `all`, or names as in a,b")
]
IdColumn = Annotated[
    str, typer.Option(metavar="NAME", help="column of INPUT that is written as `id`; default: `id`, where there is one")
]
RayAddress = Annotated[
    str | None, typer.Option(metavar="[ADDRESS]", help="answer on a Ray cluster; without an address: the one of this node")
]


@program(
    "hooper batch",
    """  hooper batch --model sentiment reviews.csv answers.jsonl
  hooper batch --model sentiment --top-k 2 reviews.jsonl.gz labels.csv.gz   label, score, label_2, score_2
  hooper batch --model sentiment --keep all reviews.xlsx answers.xlsx       the rows as they were, with answers beside them
  hooper batch --model sentiment --id-column ticket --keep date,branch reviews.csv answers.csv
  hooper batch --model qa --question "Who won?" reports.parquet answers.parquet
  hooper batch --model embed texts.parquet vectors.npy                      an array of float32, a row for each text
  hooper batch --model summary --max-sentences 2 articles.jsonl summaries.tsv
  hooper batch --model sentiment reviews.csv answers.jsonl --ray            the same, by all nodes of a Ray cluster

INPUT is read as `hooper predict` reads a file. OUTPUT is json lines with whole answers, or a table with the best of each; its
name says which. Every row of INPUT gives one row, in order; one that cannot be answered holds the error in its place and is
counted, and then the exit code is 1. `line` is the row that a spreadsheet shows, with the header in row 1. Columns that --keep
names stand under their own names, as `input_NAME` where answers have that name, and in json lines under `input`.

OUTPUT appears when it is whole. Until then OUTPUT.partial and OUTPUT.journal stand beside it: stopped or killed, the same
command resumes where they end.
""",
)
@with_settings(*COMPUTING, "max_batch_tokens", "max_batch_rows")
@spread("request_values", request_options(), dict)
@spread("choice", model_options(), model_choice)
def batch(
    settings: Settings,
    request_values: dict[str, Any],
    choice: ModelChoice,
    input_file: InputFile,
    output_file: OutputFile,
    keep: Keep = None,
    id_column: IdColumn = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace OUTPUT, once the new one is whole")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="begin again, whatever an earlier run has left")] = False,
    ray: RayAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="say what was done as JSON")] = False,
) -> int:
    """Answer every row of a large file into another; resumes where it was stopped."""
    source, target = input_file, output_file  # names that options of a request may have
    _check_files(source, target)
    request = choice.request("bulk", request_values, settings)
    if request.schema.is_whole:
        option_names = request.schema.given_options
        raise SetupError(f"{option_names} are already a whole input; leave one of them out to read it from INPUT")
    kept = _kept_columns(keep, id_column, source, request.schema)
    request = replace(request, schema=replace(request.schema, id_column=id_column, kept_columns=kept))
    writer = row_writer(target, request.table, request.options, request.artefact.manifest.task_options, kept)
    with ExitStack() as stack:
        stream = stack.enter_context(open_source(source))
        job = _job(source, request)
        if writer.joined:  # columns that are made of all that is ranked: the writer cuts, not the model
            job["columns of whole answers"] = list(writer.joined)
            request = replace(request, options={name: value for name, value in request.options.items() if name != "top_k"})
        output = stack.enter_context(resumable_writer(target, job, overwrite=overwrite, restart=restart))
        if isinstance(output, Mark):  # an earlier run was stopped when all was done
            run = BatchRun(output, output.num_rows)
        else:
            run = _run(output, source, stream, request, writer, None if ray is None else ray or "auto")
    _report(target, run, as_json)
    return 1 if run.mark.num_failed else 0


def _check_files(source: str, target: Path) -> None:
    if source == STANDARD_INPUT or (Path(source).exists() and not Path(source).is_file()):
        raise SetupError("INPUT must be a file: a run that is resumed reads it again; `hooper predict` reads pipes")
    if is_own(target, Path(source)):
        raise SetupError(f"{target} and what is written beside it would replace the input {source}; name another output")
    if target.exists() and not target.is_file():
        raise SetupError(f"{target} is no file")


def _kept_columns(keep: str | None, id_column: str, source: str, schema: InputSchema) -> tuple[str, ...]:
    """
    Raises:
        InvalidSettings: the input cannot be read, or has no such column.
    """
    if keep is None and not id_column:
        return ()
    columns = columns_of(source, schema.reading, schema.text_column or schema.text_field)
    if keep == "all" and keep not in columns:
        names = columns
    else:
        names = [keep] if keep in columns else [name.strip() for name in (keep or "").split(",") if name.strip()]
    missing = next((name for name in [*names, *filter(None, [id_column])] if name not in columns), None)
    if missing is not None:
        raise InvalidSettings(f"{source} has no column {missing!r}; it has {', '.join(map(repr, columns)) or 'none'}")
    return tuple(dict.fromkeys(names))


def _job(source: str, request: ModelRequest) -> dict[str, Any]:
    """All that decides what the rows of the output are; journals of earlier releases have the same keys."""
    state = Path(source).stat()
    manifest = (request.artefact.folder / MANIFEST).read_bytes()
    schema, reading = request.schema, request.schema.reading
    named, kept = (reading.encoding, reading.delimiter, reading.sheet), schema.id_column or schema.kept_columns
    return {
        "input": str(Path(source).resolve()),
        "input's size or time": [state.st_size, state.st_mtime_ns],
        "model": [request.artefact.id, hashlib.sha256(manifest).hexdigest()],
        "set of options": dict(request.options),
        "way to read the input": [reading.format, schema.text_column, dict(schema.given), reading.max_bytes],
        # as absent from the journals of earlier releases, where it is left to detection
        "encoding, delimiter or sheet": list(named) if any(named) else None,
        "choice of columns to keep": [*schema.kept_columns, schema.id_column] if kept else None,
    }


def _run(
    output: ResumableWriter, source: str, stream: BinaryIO, request: ModelRequest, writer: RowWriter, address: str | None
) -> BatchRun:
    before, seconds = output.mark, 0.0
    if not before.is_complete:
        began = time.monotonic()
        if address is None:
            began = _answer_here(output, source, stream, request, writer)
        else:
            _answer_on_cluster(output, source, request, writer, address)
        if not output.mark.num_bytes:
            output.write(writer.head(), 0, 0)
        seconds = time.monotonic() - began
    output.finish(writer.convert)
    return BatchRun(output.mark, before.num_rows, seconds)


def _answer_here(output: ResumableWriter, source: str, stream: BinaryIO, request: ModelRequest, writer: RowWriter) -> float:
    """When it began: once the model was loaded."""
    progress = Progress(output.mark.num_rows, share_read(stream, source))
    rows = rows_after(stream, source, request.schema, output.mark.num_rows)
    with opened(request) as model, closing(Prefetch(rows, CHUNK, CHUNK_CHARACTERS)) as prefetch:
        began = time.monotonic()
        model.runner.run(_answer_all(output, model, prefetch, writer, progress))
    return began


async def _answer_all(
    output: ResumableWriter, model: LocalModel, prefetch: Prefetch, writer: RowWriter, progress: Progress
) -> None:
    def write(inputs: Any, answers: Any) -> None:
        _append(output, writer, written(writer, inputs, answers))

    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        async with aclosing(in_order(prefetch.take, model.answers)) as chunks:
            async for inputs, answers in chunks:
                await asyncio.to_thread(write, inputs, answers)
                progress.update(output.mark.num_rows, output.mark.num_failed)
    finally:
        sys.setswitchinterval(usual)
        progress.clear()


def _answer_on_cluster(output: ResumableWriter, source: str, request: ModelRequest, writer: RowWriter, address: str) -> None:
    try:
        from app.cli import ray_batch
    except ImportError as error:
        raise SetupError(f"--ray needs {error.name}, which is not installed; run `pip install 'hooper[ray]'`") from error
    request.checked_options()
    last = WrittenRows(b"", 0, 0)
    progress = Progress(output.mark.num_rows, lambda _: last.share)
    job = ray_batch.Job(source, request, writer, output.mark.num_rows, (CHUNK, CHUNK_CHARACTERS))
    with closing(ray_batch.answered(job, address)) as chunks:
        try:
            for last in chunks:
                _append(output, writer, last)
                progress.update(output.mark.num_rows, output.mark.num_failed)
        finally:
            progress.clear()


def _append(output: ResumableWriter, writer: RowWriter, chunk: WrittenRows) -> None:
    head = writer.head() if not output.mark.num_bytes else b""
    output.write(head + chunk.rows, chunk.num_rows, chunk.num_failed)


def _report(target: Path, run: BatchRun, as_json: bool) -> None:
    mark, num_new = run.mark, run.mark.num_rows - run.num_before
    rate = num_new / run.seconds if run.seconds else 0.0
    if as_json:
        print_json({
            "output": str(target), "rows": mark.num_rows, "failed": mark.num_failed, "rows_before": run.num_before,
            "seconds": round(run.seconds, 3), "rows_per_s": round(rate, 1),
        })  # fmt: skip
        return
    failed = f", {mark.num_failed:,} of them with an error" if mark.num_failed else ""
    before = f", {run.num_before:,} of them by an earlier run" if run.num_before else ""
    print(f"{target}: {mark.num_rows:,} rows{failed}{before}; {num_new:,} in {run.seconds:,.1f} s, {rate:,.0f} a second")
