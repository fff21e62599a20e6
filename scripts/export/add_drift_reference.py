"""referenced: a version that was published without a drift reference gets one; nothing else of it changes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app.core.artefact import STAGING
from app.core.errors import SetupError
from app.core.manifest import MANIFEST, DriftReference, Manifest, read_manifest, refuse_unlisted, verify_files
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.tokenizer import Tokenizer
from scripts.export.eval_data import load_eval_data
from scripts.export.formatting import describe_metrics
from scripts.export.published_version import published_task
from scripts.export.verified_graph import Say
from scripts.tasks import training_task
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import Predictions, drift_reference, predict
from scripts.training.recipe import Recipe


def add_reference(folder: Path, recipe: Recipe, say: Say) -> DriftReference:
    """Count the reference over held-out items and write it into the version's manifest.

    The manifest has no checksum of its own, and those of all other files stay as they are: it is the same version.

    Args:
        folder: the published version.
        recipe: with `data`, the one that the version was trained by: then its held-out rows are read; else `validation`
            names files of held-out items, labelled or not.
        say: told what is counted over, and how the model does on it where that can be told: it should be what its card says.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: the items cannot be used, and why.
        SetupError: the manifest cannot be written.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    refuse_unlisted(folder, manifest)
    offline = training_task(manifest.task)
    task = published_task(folder, manifest, offline)
    texts = load_eval_data(offline, manifest.task_options, recipe)
    say("load", texts.origin)
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"))
    predictions = predict(task, offline.serving_options(), [one.item for one in texts.examples], session)
    if texts.is_labelled:
        say("evaluate", f"{_figures(offline, manifest, predictions, texts.examples)}; {_of_the_card(manifest)}")
    reference = drift_reference(task, offline.serving_options(), tokenizer, predictions)
    write_manifest(folder, manifest.model_copy(update={"reference": reference}))
    return reference


def _figures(offline: TrainingTask, manifest: Manifest, predictions: Predictions, examples: Sequence[Example]) -> str:
    return describe_metrics(offline.evaluate(predictions.answers, examples, manifest.task_options)["headline"])


def _of_the_card(manifest: Manifest) -> str:
    return f"its card says {describe_metrics(manifest.evaluation)}" if manifest.evaluation else "its card has no figures"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """By one rename, from outside the folder: whoever reads it meanwhile finds the old manifest or the new one."""
    try:
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=folder.parent) as place:
            written = Path(place) / MANIFEST
            written.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            os.replace(written, folder / MANIFEST)  # noqa: PTH105 - says that it replaces
    except OSError as error:
        raise SetupError(f"{folder / MANIFEST} cannot be written: {error.strerror or error}") from error
