"""A report as plain values, and where its answers come from: a training run, or a published version and labelled texts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.core.manifest import Manifest, read_manifest
from scripts.export.eval_data import read_labelled
from scripts.export.published import OpenVersion
from scripts.report import page
from scripts.tasks.spec import Prepared, ReportInput
from scripts.training.data import Broken, Example, data_notes
from scripts.training.evaluation import RowRunner, predict
from scripts.training.recipe import Recipe
from scripts.training.records import read_records

if TYPE_CHECKING:  # they import torch, which a report on a published version does without
    from scripts.export.verified_graph import VerifiedGraph
    from scripts.export.verify import Reference


def build(evaluated: ReportInput, model_facts: Mapping[str, str]) -> dict[str, Any]:
    """Measure everything.

    Args:
        evaluated: a model's answers, with the labels.
        model_facts: what the page says of the model, by what it is called there.
    """
    training, options = evaluated.training, evaluated.task_options
    return {
        "model": evaluated.name,
        "task": training.name,
        "about": dict(model_facts),
        "notes": list(evaluated.notes),
        **({"temperature": options["temperature"]} if "temperature" in options else {}),
        **({"metric_names": dict(names)} if (names := training.metric_names(options)) else {}),
        **training.evaluate(evaluated.predictions.answers, evaluated.examples, options),
        **training.report_sections(evaluated),
    }


def write_run_report(
    folder: Path, prepared: Prepared, reference: Reference, verified: VerifiedGraph, runner: RowRunner, run: Path
) -> Path:
    """Report on what was just published.

    Args:
        folder: the published version.
        prepared: the data, with the results of its checks.
        reference: the task, and the held-out examples.
        verified: the published graph's answers to them.
        runner: the graph itself.
        run: where the report is written.

    Returns:
        The page.

    Raises:
        SetupError: it cannot be written.
    """
    manifest = read_manifest(folder)
    evaluated = ReportInput(
        name=f"{manifest.name}/{manifest.version}",
        training=reference.training,
        task_options=manifest.task_options,
        task=reference.task,
        examples=reference.examples,
        predictions=verified.predictions,
        runner=runner,
        notes=data_notes(prepared.dataset, prepared.notes),
    )
    facts = {**facts_of(manifest), "trained on": f"{len(prepared.dataset.train):,} rows"}
    return page.write(build(evaluated, facts), page.page_of(run, manifest.version))


def read_data(version: OpenVersion, recipe: Recipe) -> tuple[Sequence[Example], Sequence[Broken]]:
    """The rows of the recipe's `validation`, with the model's own labels, and those that cannot be used.

    Raises:
        InvalidSettings: a source cannot be read, or too many of its rows cannot be used.
    """
    records = {source: read_records(source, recipe.read_options) for source in recipe.validation}
    examples, broken = read_labelled(version.training, version.manifest.task_options, recipe, records)
    if recipe.max_rows and len(examples) > recipe.max_rows:
        examples = random.Random(recipe.seed).sample(examples, recipe.max_rows)
    return examples, broken


def evaluate_version(version: OpenVersion, examples: Sequence[Example], notes: Sequence[str] = ()) -> ReportInput:
    """Have a published version answer the examples.

    Raises:
        HooperError: an item cannot be encoded, or the engine failed.
    """
    items = [example.item for example in examples]
    predictions = predict(version.task, version.training.serving_options(), items, version.session)
    options = version.manifest.task_options
    return ReportInput(version.name, version.training, options, version.task, examples, predictions, version.session, notes)


def facts_of(manifest: Manifest) -> dict[str, str]:
    """What the report says of a published model; the page has other words for some of the keys."""
    facts = {
        "description": manifest.description,
        "made from": manifest.base_model,
        "published": manifest.created.replace("T", " ")[:16],
        "reads": f"{manifest.max_tokens} tokens",
        "licence": manifest.license,
    }
    return {name: value for name, value in facts.items() if value}
