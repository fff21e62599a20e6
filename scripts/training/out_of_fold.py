"""Cross-validation, `hooper train --folds`: as many models as folds, and each row is judged by the one that did not see it.

Nothing is published and no model is kept; a report on all rows is, which says what a model trained on all of them may do.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app.core.errors import InvalidSettings, SetupError
from app.data import Record
from app.tasks.tokenizer import Tokenizer
from scripts.export.formatting import format_value, metric_name
from scripts.export.torch_reference import torch_reference
from scripts.export.verify import Reference
from scripts.report.build import build
from scripts.tasks.spec import Prepared, ReportInput, TrainingTask
from scripts.training.bars import quiet
from scripts.training.baselines import compare_baselines, is_reference
from scripts.training.data import Example, data_notes, read_corrections
from scripts.training.evaluation import Predictions
from scripts.training.folds import Folds, cut
from scripts.training.pipeline import Pipeline
from scripts.training.pretrained import Start
from scripts.training.processes import num_processes
from scripts.training.run_folder import Interrupted, refusal

PAGE = "cross-validation.html"
"""In the run's folder; the same as json beside it."""


@dataclass(frozen=True)
class FoldResult:
    """What one model did on the fold that it did not see."""

    trained_on: int
    """Rows."""
    headline: Mapping[str, Any]
    """Metrics, and the number of rows that were judged."""
    seconds: float
    """Of training."""


@dataclass(frozen=True)
class Answered:
    """A fold's rows with their answers."""

    result: FoldResult
    reference: Reference
    baselines: Mapping[str, Sequence[Any]]
    """By name the answers of methods without a transformer, which learnt from the same rows."""


def foldable(pipeline: Pipeline, records: Mapping[str, list[Record]], fold_all: bool = False) -> tuple[Prepared, list[Example]]:
    """The data without corrections, whose `written` rows may be judged, and the corrections to train on beside them.

    Args:
        records: of each source.
        fold_all: as for `cut_rows`.
    """
    recipe = pipeline.recipe
    if fold_all and not recipe.split and not recipe.validation:
        recipe = replace(recipe, split=1.0)
    prepared = pipeline.with_unlabelled(pipeline.training.prepare(replace(recipe, from_feedback=[]), dict(records)))
    if not recipe.from_feedback:
        return prepared, []
    corrections = read_corrections(recipe)
    joined = pipeline.training.prepare(recipe, {**records, **corrections.records})
    fresh = [example for example in joined.written if example.source in recipe.from_feedback]
    known = {label for example in joined.written for label in pipeline.training.strata(example)}
    rows = [example for example in prepared.written if known.issuperset(pipeline.training.strata(example))]
    notes = [*prepared.notes, f"{len(fresh):,} corrections are trained on, and judged in no fold", *corrections.notes]
    if num_gone := len(prepared.written) - len(rows):
        notes.append(f"{num_gone:,} rows are left out: corrections replace all rows of their label")
    dataset = replace(prepared.dataset, train=rows)
    return replace(prepared, dataset=dataset, task_options=joined.task_options, notes=notes, num_added=0), fresh


def cut_rows(
    pipeline: Pipeline, records: Mapping[str, list[Record]], num_folds: int, fold_all: bool = True
) -> tuple[Prepared, Folds]:
    """The data in folds, with what there is to say of it.

    Args:
        records: of each source.
        num_folds: 2 or more.
        fold_all: fold every row where the recipe names none to hold out, by `validation` or `split`; else those that it would
            train on.

    Raises:
        InvalidSettings: there are fewer folds than two, too few rows, or processes that would each train the folds.
    """
    if num_folds < 2:
        raise InvalidSettings(f"--folds is {num_folds}; at least 2 are needed")
    if num_processes() > 1:
        raise InvalidSettings("--folds trains in one process; start it without a launcher of several")
    recipe, say = pipeline.recipe, pipeline.say
    prepared, corrections = foldable(pipeline, records, fold_all)
    folds = cut(prepared.written, num_folds, pipeline.training.group, pipeline.training.strata, recipe.seed, corrections)
    prepared = replace(prepared, notes=[*prepared.notes, *folds.notes])
    unseen = len(prepared.dataset.validation)
    aside = f"; {unseen:,} rows that the recipe holds out stay unseen" if unseen else ""
    say("load", f"{len(folds.judged):,} rows to judge in {num_folds} folds{aside}")
    for note in data_notes(prepared.dataset, prepared.sentences):
        say("", note)
    if recipe.log_to:
        say("", f"the folds are not logged to {' and '.join(recipe.log_to)}")
    for number in range(num_folds):
        part = folds.dataset(number)
        say("fold", f"{number + 1} of {num_folds}: {len(part.train):,} rows to train on, {len(part.validation):,} to judge")
    return prepared, folds


def cross_validate(pipeline: Pipeline, prepared: Prepared, folds: Folds, start: Start) -> dict[str, Any]:
    """Train and judge each fold; nothing is kept but what is returned.

    Args:
        prepared: the data, as `cut_rows` gives it.

    Returns:
        A report as `scripts.report.build` makes it, on the rows of all folds; of each fold under `cross_validation`.

    Raises:
        InvalidSettings: the recipe cannot be used with this model or data.
        SetupError: the disk is full, or a model cannot be served.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if start.base.version is not None:
        raise InvalidSettings(
            f"--folds judges rows by models that did not see them, and {start.base.name} was trained before, perhaps on these;"
            " name a base model that was not"
        )
    prepared = pipeline.check_start(prepared, start)
    answered = []
    for number in range(folds.num_folds):
        part = pipeline.training.prepared_again(prepared, folds.dataset(number), pipeline.recipe)
        answered.append(_judged(pipeline, part, start))
        pipeline.say(
            "fold", f"{number + 1} of {folds.num_folds}: {_described(pipeline.training, prepared, answered[-1].result)}"
        )
    return _report(pipeline, prepared, folds, answered, start)


def _judged(pipeline: Pipeline, prepared: Prepared, start: Start) -> Answered:
    """Train on the one part, answer the other."""
    training, dataset = pipeline.training, prepared.dataset
    with _folder(pipeline.run_folder.path) as folder, quiet():
        recipe = replace(pipeline.recipe, runs=folder, log_to=[])
        trained = Pipeline(recipe, None, lambda stage, text: None).train(prepared, False, start)
        tokenizer = Tokenizer(trained.tokenizer, trained.max_tokens)
        reference = torch_reference(
            training, trained.model, tokenizer, prepared.task_options, dataset.validation, is_labelled=False
        )
    figures = training.evaluate(reference.predictions.answers, dataset.validation, prepared.task_options)
    baselines = dict(training.baselines(dataset.train, dataset.validation, prepared.task_options))
    return Answered(FoldResult(len(dataset.train), figures["headline"], trained.cost["seconds"]), reference, baselines)


@contextmanager
def _folder(run: Path) -> Iterator[str]:
    """A folder for one model, which goes when the block ends: as many models as folds would fill a disk.

    Raises:
        SetupError: the disk refused something.
        KeyboardInterrupt: the training in it was stopped.
    """
    run.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="fold-", dir=run) as folder:
            yield folder
    except Interrupted:
        raise KeyboardInterrupt from None
    except SetupError as error:
        refused = refusal(error)
        raise (SetupError(f"{refused}; nothing of the folds is kept") if refused else error) from error


def _described(training: TrainingTask, prepared: Prepared, result: FoldResult) -> str:
    metric = training.metric_of(prepared.dataset.validation or prepared.dataset.train)
    name = training.metric_names(prepared.task_options).get(metric) or metric_name(metric)
    figure = result.headline.get(metric)
    shown = f"{name} {format_value(figure)}, " if figure is not None else ""
    return f"{shown}{result.trained_on:,} rows trained on, {result.headline['rows']:,} judged, {result.seconds:.0f} s"


def _report(pipeline: Pipeline, prepared: Prepared, folds: Folds, answered: Sequence[Answered], start: Start) -> dict[str, Any]:
    """As of a published model, on the rows of all folds."""
    training, options = pipeline.training, prepared.task_options
    examples, predictions, baselines = _pooled(folds, answered)
    evaluated = ReportInput(
        name=pipeline.recipe.name,
        training=training,
        task_options=options,
        task=answered[-1].reference.task,
        examples=examples,
        predictions=predictions,
        runner=None,
        notes=data_notes(prepared.dataset, prepared.sentences),
    )
    more = {
        "evaluated_on": f"{len(examples):,} rows in {folds.num_folds} folds, each row by a model that did not see it",
        "cross_validation": _summary(training, [fold.result for fold in answered]),
        "baselines": compare_baselines(training, baselines.items(), examples, predictions.answers, options),
        "checks": [check.as_dict() for check in prepared.checks],
    }
    facts = {"made from": start.base.name, "folds": f"{folds.num_folds}; none of the models is kept"}
    return build(evaluated, facts, more)


def _pooled(folds: Folds, answered: Sequence[Answered]) -> tuple[list[Example], Predictions, dict[str, list[Any]]]:
    """All rows in the order of the data, their answers, and those of the baselines that answered in every fold."""
    names = [name for name in answered[0].baselines if all(name in fold.baselines for fold in answered)]
    by_row: dict[int, tuple[Any, ...]] = {}
    for fold in answered:
        own = fold.reference.predictions
        columns = (own.answers, own.encoded, own.outputs, *(fold.baselines[name] for name in names))
        by_row.update(zip(map(id, fold.reference.examples), zip(*columns, strict=True), strict=True))
    examples = folds.judged
    answers, encoded, outputs, *others = map(list, zip(*(by_row[id(example)] for example in examples), strict=True))
    return examples, Predictions(answers, encoded, outputs), dict(zip(names, others, strict=True))


def _summary(training: TrainingTask, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Each fold, and mean and standard deviation over the folds of each metric that all of them have."""
    figures: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for name, value in result.headline.items():
            if isinstance(value, float) and not is_reference(training, name):  # counts say nothing of how good it is
                figures[name].append(value)
    whole = {name: values for name, values in figures.items() if len(values) == len(results)}
    return {
        "folds": [asdict(result) for result in results],
        "mean": {name: round(statistics.fmean(values), 4) for name, values in whole.items()},
        "standard_deviation": {name: round(statistics.stdev(values), 4) for name, values in whole.items()},
    }


def _with_deviation(mean: float, deviation: float) -> str:
    """`0.9012 ± 0.0123`, and of percentages `90.12 ± 1.23`."""
    digits = 4 if abs(mean) <= 1 else 2
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def tables(report: Mapping[str, Any]) -> list[list[list[str]]]:
    """What a terminal shows: the folds with mean and standard deviation, and the labels where the task has some."""
    validated, names = report["cross_validation"], report.get("metric_names", {})
    means, deviations = validated["mean"], validated["standard_deviation"]
    lines = [["", *(names.get(key) or metric_name(key) for key in means), "rows"]]
    for number, fold in enumerate(validated["folds"], 1):
        lines.append(
            [f"fold {number}", *(format_value(fold["headline"][key]) for key in means), f"{fold['headline']['rows']:,}"]
        )
    lines.append(["mean", *(_with_deviation(means[key], deviations[key]) for key in means), ""])
    headline = report["headline"]
    lines.append(["all rows", *(format_value(headline[key]) for key in means), f"{headline['rows']:,}"])
    labels = [
        [label, *(f"{entry[key]:.3f}" for key in ("precision", "recall", "f1")), f"{entry['rows']:,}"]
        for label, entry in report.get("per_class", {}).items()
    ]
    return [lines, [["label", "precision", "recall", "F1", "rows"], *labels]] if labels else [lines]
