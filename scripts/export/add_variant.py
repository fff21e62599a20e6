"""added_form: a version that was published without one of the forms gets it, as the next version with the same weights."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from app.core.artefact import next_release
from app.core.errors import InvalidSettings, SetupError
from app.core.manifest import MANIFEST, Manifest, describe_file, read_manifest, refuse_unlisted, verify_files
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export.engine_trials import describe_engines, try_engines
from scripts.export.eval_data import load_eval_data
from scripts.export.published_version import published_task
from scripts.export.variants import Variant
from scripts.export.verified_graph import Say, describe_parity
from scripts.export.verify import ParityFailed, Reference
from scripts.tasks import training_task
from scripts.training.evaluation import predict
from scripts.training.recipe import Recipe


def publish_variant(form: Variant, folder: Path, recipe: Recipe, models: Path, say: Say) -> Path:
    """Write the form, compare its answers with those of the same version in fp32, and publish both.

    Args:
        form: which one.
        folder: the published version.
        recipe: with `data`, the one that the version was trained by: then its held-out rows are read; else `validation`
            names files of held-out items, labelled or not.
        models: where the next version is published.
        say: told what is compared, and what came of it.

    Returns:
        The next version's folder.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: it has that form already or can have none, or the items cannot be used.
        ParityFailed: the form decides otherwise too often, or rows feel their neighbours.
        SetupError: this processor cannot compare it, or nothing can be written.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    refuse_unlisted(folder, manifest)
    reference = _fp32_answers(form, folder, manifest, recipe, say)
    with next_release(models, manifest.name) as release:
        for name in manifest.files:
            shutil.copyfile(folder / name, release.staging / name)
        changed = _with_form(form, release.staging, manifest, reference, say)
        update = {"version": release.version, "first_published": release.first_published}
        written = changed.model_copy(update=update)
        (release.staging / MANIFEST).write_text(written.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return release.folder


def _fp32_answers(form: Variant, folder: Path, manifest: Manifest, recipe: Recipe, say: Say) -> Reference:
    graph = manifest.graph
    if form.precision in graph.variants:
        raise InvalidSettings(f"{folder} has the form that {form.does} already")
    if graph.storage not in form.storages:
        stored = " or ".join(sorted(form.storages))
        raise InvalidSettings(
            f"{folder} is stored as {graph.storage}; only models stored as {stored} have a form that {form.does}"
        )
    offline = training_task(manifest.task)
    task = published_task(folder, manifest, offline)
    texts = load_eval_data(offline, manifest.task_options, recipe)
    say("load", texts.origin)
    examples = texts.examples
    if 0 < form.max_rows < len(examples):
        examples = random.Random(recipe.seed).sample(list(examples), form.max_rows)
        say("", f"{len(examples):,} of them are drawn")
    session = EncoderEngine(folder / graph.file, graph, choose_provider("cpu"))
    predictions = predict(task, offline.serving_options(), [one.item for one in examples], session)
    return Reference(offline, task, manifest.task_options, examples, predictions)


def _with_form(form: Variant, folder: Path, manifest: Manifest, reference: Reference, say: Say) -> Manifest:
    graph, target = manifest.graph, folder / form.file
    if not form.write(folder / graph.file, target, graph):
        raise InvalidSettings(f"the graph of {manifest.name}/{manifest.version} has no part that {form.does}")
    found = form.measure(reference, target, graph)
    if found is None:
        raise SetupError(f"{form.missing}, so the form cannot be compared here")
    say("verify", describe_parity(found.parity).replace("by torch", "in fp32"))
    if not found.parity.passed:
        raise ParityFailed(f"the form that {form.does} decides otherwise too often: {found}")
    engines = try_engines(folder / graph.file, graph, [row for one in reference.predictions.encoded for row in one.rows])
    for sentence in describe_engines(engines):
        say("", sentence)
    return manifest.model_copy(
        update={
            "engines": {**manifest.engines, **engines},
            "graph": graph.model_copy(update={"variants": {**graph.variants, form.precision: form.file}}),
            "parity": {**manifest.parity, form.precision: found.parity},
            "files": {**manifest.files, form.file: describe_file(target)},
        }
    )
