"""`hooper train --dry-run`: everything about a run that can be known without training, as a table. Nothing is written.

What takes time is bounded whatever the size of the data: all rows are read and checked, and a sample of them is tokenized and
trained on for a few updates, on a copy of the model.
"""

from __future__ import annotations

import copy
import heapq
import math
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

import torch

from app.core.command_line import missing_package
from app.core.errors import HooperError
from app.core.exit_codes import EXIT_FAILED, EXIT_SETUP
from app.core.memory import available_bytes
from scripts.export.formatting import describe_beginning
from scripts.export.succession import foreseen_succession
from scripts.export.verified_graph import describe_layout
from scripts.tasks.spec import Prepared, TrainingRow
from scripts.training import pretrained
from scripts.training.budget import length_cost, readable_size, timed_trial
from scripts.training.data import Example, data_notes, read_all
from scripts.training.disk import check_writable, disk_needs, disk_room
from scripts.training.fine_tune import LONGER, split_for_autofit
from scripts.training.pipeline import Beginning, Pipeline, beginning_of
from scripts.training.processes import is_main_process
from scripts.training.progress import peak_memory_bytes, spoken_time
from scripts.training.recipe import Recipe
from scripts.training.training_setup import TrainingSetup, Workload, set_up_training
from scripts.training.weights import add_adapters, freeze

SAMPLED, SAMPLED_WITH_TEACHER = 1000, 64
"""Training rows that are tokenized, and timed as far as there is time."""
LONGEST = 32
"""Rows with the most characters that are among them: they decide how much memory is needed."""
TRIAL_S, FEWEST_TIMED = 5.0, 2
"""Updates are timed for so long, and at least two, beside the first, which warms up."""
NAME, LEVEL = 11, 9
"""Widths of the first columns."""
Level = Literal["ok", "warning", "problem"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunCheck:
    """One thing about a run that was looked at."""

    name: str
    level: Level
    detail: str
    exit_code: int = 0
    """Of a problem: what the run would end with."""


Checks = Generator[RunCheck, None, T]
"""Checks as they are made, and at the end what later ones need."""


def dry_run(recipe: Recipe, file: Path | None, resume: bool, command: str) -> int:
    """Print each check as it is made, and at the end what they come to.

    Args:
        file: where it was read from.
        resume: whether the run goes on from an earlier one.

    Returns:
        0, or the exit code with which the run would end.

    Raises:
        HooperError: the recipe itself cannot be used: nothing else can be looked at.
    """
    said: list[str] = []
    pipeline = Pipeline(recipe, file, lambda stage, text: said.append(text))
    task = said[0] if said else f"{pipeline.recipe.task}, as the recipe says"
    checks: list[RunCheck] = []
    for check in chain([RunCheck("task", "ok", task)], examine_run(pipeline, resume)):
        _show(check, checks[-1].name if checks else "")
        checks.append(check)
    _conclude(checks, command)
    return next((check.exit_code for check in checks if check.level == "problem"), 0)


def examine_run(pipeline: Pipeline, resume: bool = False) -> Iterator[RunCheck]:
    """Each check of a run, in the order of its stages. What needs a thing that was not found is left out."""
    recipe = pipeline.recipe
    if recipe.log_to:
        yield RunCheck("trackers", "ok", f"{', '.join(recipe.log_to)}: installed; whether they can be reached shows in the run")
    yield from _attempt("disk", partial(check_writable, recipe))
    start = yield from _attempt("base model", pipeline.find_start)
    prepared = yield from _attempt("data", lambda: pipeline.load(read_all(recipe)))
    if prepared is not None and start is not None:
        prepared = yield from _attempt("data", partial(pipeline.check_start, prepared, start))
    if prepared is not None:
        yield from _data(prepared)
        yield from _earlier_run(pipeline, prepared, resume)
    if prepared is not None and start is not None:
        begun = yield from _attempt("base model", partial(pipeline.begin, recipe, prepared, start))
        if begun is not None:
            yield from _base_model(start, begun)
            yield from _export(pipeline, prepared, begun)
            yield from _training(pipeline, prepared, begun)
            yield from _disk(begun)
    yield from _publication(pipeline)


def _attempt(name: str, find: Callable[[], T]) -> Checks[T | None]:
    """What was found, or None after the problem that stopped it."""
    try:
        return find()
    except HooperError as error:
        yield RunCheck(name, "problem", error.detail, EXIT_SETUP)
    except ImportError as error:
        if not (missing := missing_package(error)):
            raise
        yield RunCheck(name, "problem", missing, EXIT_SETUP)
    return None


def _data(prepared: Prepared) -> Iterator[RunCheck]:
    dataset = prepared.dataset
    yield RunCheck("data", "ok", f"{len(dataset.train):,} rows to train on, {len(dataset.validation):,} held out")
    yield from (RunCheck("data", "ok", note) for note in prepared.notes if note)
    yield from (RunCheck("data", "warning", note) for note in data_notes(dataset, [str(check) for check in prepared.checks]))


def _earlier_run(pipeline: Pipeline, prepared: Prepared, resume: bool) -> Iterator[RunCheck]:
    """What becomes of what an earlier run of this name left."""
    run = pipeline.run_folder
    if resume:
        if (yield from _attempt("resume", lambda: run.check_same(pipeline.recipe, prepared.dataset))) is None:
            return
        place = (
            "finished before, and not trained again" if run.is_finished else f"from {run.last_checkpoint or 'the beginning'}"
        )
        yield RunCheck("resume", "ok", place)
    elif run.last_checkpoint and not run.is_finished:
        advice = "this one would replace; --resume goes on with it"
        yield RunCheck(
            "run folder", "warning", f"{run.path} holds an unfinished run ({run.last_checkpoint.name}), which {advice}"
        )


def _base_model(start: pretrained.Start, begun: Beginning) -> Iterator[RunCheck]:
    size = f"{begun.model.num_parameters() / 1e6:,.1f} million weights"
    yield RunCheck("base model", "ok", f"{start.base.name}: {size}, inputs of up to {begun.tokenizer.max_tokens} tokens")
    taken_over = beginning_of(start.base, begun.recipe, begun.model)
    if taken_over is not None:
        yield RunCheck("base model", "ok", describe_beginning(taken_over))


def _export(pipeline: Pipeline, prepared: Prepared, begun: Beginning) -> Iterator[RunCheck]:
    training, recipe = pipeline.training, pipeline.recipe
    tried = None
    if not training.has_decoder:
        trial = partial(pipeline.trial_export, begun.model, begun.tokenizer, prepared.task_options)
        tried = yield from _attempt("export", trial)
    if tried is not None:
        packs = tried.graph.layout == "packed"
        cost = "" if packs else "; texts of several lengths are padded to the longest, which takes longer than packing them"
        found = f"the untrained model becomes a graph in {describe_layout(tried.graph)}{cost}"
        yield RunCheck("export", "ok" if packs else "warning", found)
    requests = yield from _attempt("golden", lambda: [training.item(fields) for fields in training.golden_items(recipe)])
    if requests and recipe.golden:
        yield RunCheck("golden", "ok", f"{len(requests)} texts to replay at every load")


def _training(pipeline: Pipeline, prepared: Prepared, begun: Beginning) -> Iterator[RunCheck]:
    """The teacher's answers, then memory and time by a few updates of a copy, the longest texts among them."""
    recipe, train = begun.recipe, prepared.dataset.train
    if recipe.autofit and (yield from _attempt("training", lambda: split_for_autofit(train))) is None:
        return
    name = "teacher" if recipe.teacher else "training"
    spaced, longest = sample_of(train, SAMPLED_WITH_TEACHER if recipe.teacher else SAMPLED)
    rows = yield from _attempt(
        name, lambda: [pipeline.training_rows(part, prepared, begun.tokenizer) for part in (spaced, longest)]
    )
    if rows is None:
        return
    if recipe.teacher:
        yield RunCheck("teacher", "ok", f"{recipe.teacher} fits the data, and answered a sample of it")
    usual, longest_rows = rows
    widest = max(row.longest.num_tokens for row in [*usual, *longest_rows])
    estimate, free = length_cost(recipe, begun.model, widest), _free_bytes()
    if estimate and free is not None and estimate.training_bytes > free:
        needed = readable_size(estimate.training_bytes)
        yield _no_memory(f"texts of {widest:,} tokens need about {needed}, and {readable_size(free)} are free")
        return
    num_examples = len(train) + len(prepared.dataset.unlabelled)
    num_rows = round(num_examples * len(usual) / len(spaced))  # some tasks make several rows of an example
    yield from _trial(pipeline, begun, usual, longest_rows, num_rows)


def _trial(
    pipeline: Pipeline, begun: Beginning, usual: Sequence[TrainingRow], longest: Sequence[TrainingRow], num_rows: int
) -> Iterator[RunCheck]:
    recipe = begun.recipe
    try:
        found = yield from _attempt("training", lambda: _timed(pipeline, begun, [*usual, *longest]))
    except torch.OutOfMemoryError:
        yield _no_memory("the first updates do not fit into the memory of the GPU")
        return
    if found is None:
        return
    setup, tokens_per_s = found
    free = _free_bytes()
    left = f"; {readable_size(free)} more are free" if free is not None else ""
    peak = readable_size(peak_memory_bytes())
    yield RunCheck("memory", "ok", f"{peak} at the peak of a few updates with the longest texts{left}")
    workload = Workload.of([setup.length_of(row) for row in usual], recipe.epoch_tokens)
    epochs = recipe.epochs or setup.epochs_for(num_rows) * (LONGER if recipe.autofit else 1)
    tokens = workload.until(epochs) * num_rows / len(usual)
    updates = math.ceil(setup.updates_for(num_rows) * epochs)
    most = "at most " if recipe.autofit or recipe.budget else ""
    yield RunCheck(
        "time",
        "ok",
        f"an estimate: {most}{recipe.budget or f'about {spoken_time(tokens / tokens_per_s)}'} for"
        f" {most}{updates:,} updates ({epochs:g} epochs) at {tokens_per_s:,.0f} tokens/s; then evaluation and export",
    )


def _timed(pipeline: Pipeline, begun: Beginning, rows: Sequence[TrainingRow]) -> tuple[TrainingSetup, float]:
    """What a run of these rows would be, and tokens a second."""
    recipe, learner = begun.recipe, copy.deepcopy(begun.model)
    setup = set_up_training(recipe, pipeline.training, learner, rows)
    freeze(recipe, learner)
    if recipe.lora_rank:
        learner = add_adapters(recipe, learner)
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        return setup, timed_trial(setup, learner, Path(folder), TRIAL_S, FEWEST_TIMED)


def _no_memory(finding: str) -> RunCheck:
    advice = "lower --max-tokens or --micro-batch, or take a smaller --base-model"
    return RunCheck("memory", "problem", f"{finding}; {advice}", EXIT_FAILED)


def _free_bytes() -> int | None:
    """Where training runs; None where the system does not say."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else available_bytes()


def sample_of(examples: Sequence[Example], count: int) -> tuple[list[Example], list[Example]]:
    """So many examples at equal distances, and those with the most characters."""
    spaced = list(examples[:: math.ceil(len(examples) / count)])
    return spaced, heapq.nlargest(LONGEST, examples, key=lambda example: len(str(example.item)))


def _disk(begun: Beginning) -> Iterator[RunCheck]:
    for room in disk_room(disk_needs(begun.recipe, begun.model.num_parameters())):
        level: Level = "ok" if room.is_enough else "problem"
        yield RunCheck("disk", level, str(room), 0 if room.is_enough else EXIT_SETUP)


def _publication(pipeline: Pipeline) -> Iterator[RunCheck]:
    foreseen = yield from _attempt("publish", lambda: foreseen_succession(pipeline.recipe, pipeline.training.name))
    if foreseen is not None:
        yield RunCheck("publish", "ok", foreseen)


def _show(check: RunCheck, name_above: str) -> None:
    name = check.name if check.name != name_above else ""
    _print(f"{name:<{NAME}}{check.level:<{LEVEL}}", check.detail)


def _conclude(checks: Sequence[RunCheck], command: str) -> None:
    problems, warnings = (sum(check.level == level for check in checks) for level in ("problem", "warning"))
    counts = f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    train = "the run would stop at the first problem" if problems else f"train with: {command}"
    _print(f"{'dry run':<{NAME}}", f"{counts}; nothing was trained or written; {train}")


def _print(head: str, text: str) -> None:
    """A line; on a terminal, as many as it takes."""
    if is_main_process():
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        plain = "".join(character if character.isprintable() else " " for character in text)
        print(
            textwrap.fill(plain, room, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False),
            flush=True,
        )
