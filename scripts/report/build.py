"""A report as plain values, and where its answers come from: a training run, or a published version and labelled texts."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from app.core.manifest import Manifest, read_manifest
from scripts.export.eval_data import read_labelled
from scripts.export.published import OpenVersion
from scripts.report import page
from scripts.report.overlap import Overlap, overlap_sections
from scripts.tasks.spec import Prepared, ReportInput
from scripts.training.baselines import measure_baselines
from scripts.training.data import Broken, Dataset, Example, data_notes, describe_broken
from scripts.training.evaluation import RowRunner, predict
from scripts.training.recipe import Recipe
from scripts.training.records import read_records
from scripts.training.run_folder import fingerprint
from scripts.training.trained_rows import weights_id

if TYPE_CHECKING:  # they import torch, which a report on a published version does without
    from scripts.export.verified_graph import VerifiedGraph
    from scripts.export.verify import Reference


def build(
    evaluated: ReportInput, model_facts: Mapping[str, str], more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Measure everything.

    Args:
        evaluated: a model's answers, with the labels.
        model_facts: what the page says of the model, by what it is called there.
        more: sections that are not measured on these answers alone.
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
        **more,
        **training.report_sections(evaluated),
    }


def write_run_report(
    folder: Path,
    prepared: Prepared,
    reference: Reference,
    verified: VerifiedGraph,
    runner: RowRunner,
    run: Path,
    sections: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Report on what was just published.

    Args:
        prepared: the data, with the results of its checks.
        reference: the task, and the held-out examples.
        run: where the report is written.
        sections: of the report that were measured before.

    Returns:
        The page.

    Raises:
        SetupError: it cannot be written.
    """
    manifest = read_manifest(folder)
    name, notes = f"{manifest.name}/{manifest.version}", data_notes(prepared.dataset, prepared.sentences)
    evaluated = ReportInput(
        name, reference.training, manifest.task_options, reference.task, reference.examples, verified.predictions, runner,
        notes, are_options_fitted=True,
    )  # fmt: skip
    facts = {**facts_of(manifest), "trained on": f"{len(prepared.dataset.train):,} rows"}
    weights = weights_id(manifest)
    path = page.page_of(run, manifest.version)
    page.keep_older(path, weights)
    checks = [check.as_dict() for check in prepared.checks]
    return page.write(build(evaluated, facts, {"weights": weights, "checks": checks, **sections}), path)


def write_data_report(version: OpenVersion, recipe: Recipe, runs: Path) -> Path:
    """Report on how a published version does on the recipe's `validation`; no earlier report is written over.

    Args:
        runs: folder of the runs, into which the report goes, and where trainings keep which rows they had.

    Returns:
        The page.

    Raises:
        InvalidSettings: the data cannot be used.
        SetupError: it cannot be written.
    """
    manifest = version.manifest
    examples, broken = read_data(version, recipe)
    overlap = Overlap.of(manifest, examples, runs)
    notes = [describe_broken(broken)] if broken else []
    evaluated = evaluate_version(version, examples, [overlap.sentence, *notes])
    weights = weights_id(manifest)
    rows = Dataset([], examples, [])
    identity = hashlib.sha256(f"{weights} {fingerprint(rows)}".encode()).hexdigest()[:16]
    more: dict[str, Any] = {"weights": weights, "fingerprint": identity, "evaluated_on": _rows_of(examples, recipe)}
    more |= overlap_sections(overlap, evaluated)
    more["baselines"] = measure_baselines(version.training, [], examples, evaluated.predictions.answers, evaluated.task_options)
    report = build(evaluated, {**facts_of(manifest), "data": ", ".join(recipe.validation)}, more)
    return page.write(report, page.page_of_data(runs / manifest.name, manifest.version, recipe.validation, identity))


def _rows_of(examples: Sequence[Example], recipe: Recipe) -> str:
    return f"{len(examples):,} rows of {', '.join(Path(source).name for source in recipe.validation)}"


def read_data(version: OpenVersion, recipe: Recipe) -> tuple[Sequence[Example], Sequence[Broken]]:
    """The rows of the recipe's `validation`, with the model's own labels, and those that cannot be used.

    Raises:
        InvalidSettings: a source cannot be read, or too many of its rows cannot be used.
    """
    known = version.manifest.data_format
    records = {source: read_records(source, replace(recipe.read_options, usual=known)) for source in recipe.validation}
    examples, broken = read_labelled(version.training, version.manifest.task_options, recipe, records, known)
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
