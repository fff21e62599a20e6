"""A published version judged on labelled texts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.core.manifest import Manifest
from scripts.export.eval_data import read_labelled
from scripts.export.published import OpenVersion
from scripts.report.judged import Judged
from scripts.tasks import training_task
from scripts.training.data import Broken, Example
from scripts.training.evaluation import predict
from scripts.training.recipe import Recipe
from scripts.training.records import read_records


def read_data(manifest: Manifest, recipe: Recipe) -> tuple[Sequence[Example], Sequence[Broken]]:
    """The rows of the recipe's `validation`, with the model's own labels, and those that cannot be used.

    Raises:
        InvalidSettings: a source cannot be read, or too many of its rows cannot be used.
    """
    records = {source: read_records(source) for source in recipe.validation}
    examples, broken = read_labelled(training_task(manifest.task), manifest.task_options, recipe, records)
    if recipe.max_rows and len(examples) > recipe.max_rows:
        examples = random.Random(recipe.seed).sample(examples, recipe.max_rows)
    return examples, broken


def judge(version: OpenVersion, examples: Sequence[Example], notes: Sequence[str] = ()) -> Judged:
    """Have the version answer the examples.

    Raises:
        HooperError: an item cannot be encoded, or the engine failed.
    """
    items = [one.item for one in examples]
    predictions = predict(version.task, version.offline.serving_options(), items, version.session)
    manifest = version.manifest
    return Judged(
        version.name,
        manifest.task,
        manifest.task_options,
        version.offline,
        version.task,
        examples,
        predictions,
        version.session,
        notes,
    )


def about(manifest: Manifest) -> dict[str, str]:
    """What the page says of a published model."""
    told = {
        "description": manifest.description,
        "made from": manifest.base_model,
        "published": manifest.created.replace("T", " ")[:16],
        "reads": f"up to {manifest.max_tokens} tokens at once",
        "licence": manifest.license,
    }
    return {name: value for name, value in told.items() if value}
