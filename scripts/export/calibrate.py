"""Scores become probabilities of being right: what is fitted for that when a model is published, or for a version that was."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.artefact import next_release
from app.core.errors import InvalidSettings
from app.core.manifest import Manifest
from app.tasks.tokenizer import Tokenizer
from scripts.export.card import SCORES, describe_scores
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.formatting import Say
from scripts.export.publish import CARD, EVALUATION, as_json, golden_answers
from scripts.export.published import OpenVersion, open_folder
from scripts.tasks.spec import Calibration, TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import Predictions, RowRunner, drift_reference, predict, read_again
from scripts.training.recipe import Recipe


def fit_calibration(
    training: TrainingTask,
    predictions: Predictions,
    examples: Sequence[Example],
    runner: RowRunner,
    tokenizer: Tokenizer,
    task_options: Mapping[str, Any],
) -> Calibration:
    """What the task fits on held-out predictions.

    Args:
        predictions: of the examples; how they were decoded does not matter.
        examples: held out, with their labels.
        runner: what answered them, for what the task asks besides.
        task_options: of the manifest; those that are fitted are left out.
    """
    plain = _not_fitted(training, task_options)
    task, options = training.serving_task(tokenizer, plain), training.serving_options()
    if plain != task_options:
        predictions = read_again(task, options, predictions)
    more = training.calibration_examples(examples)
    if more:
        made = predict(task, options, [example.item for example in more], runner, "calibrating")
        predictions = Predictions(
            [*predictions.answers, *made.answers],
            [*predictions.encoded, *made.encoded],
            [*predictions.outputs, *made.outputs],
        )
    return training.calibrate(predictions, [*examples, *more], tokenizer, plain)


def publish_calibrated(folder: Path, recipe: Recipe, models: Path, say: Say) -> Path:
    """Fit a version's scores on held-out rows: the next version has the same weights, and other scores.

    Args:
        recipe: with `data`, the one that the version was trained by: then its held-out rows are read; else `validation` names
            files of held-out items with their labels.
        say: told what was fitted, and what came of it.

    Returns:
        The next version's folder.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: the rows have no labels, nothing of such models is fitted, or nothing would change.
        SetupError: nothing can be written.
    """
    version = open_folder(folder)
    manifest, training = version.manifest, version.training
    data = _labelled_data(version, recipe)
    say("load", data.origin)
    predictions = version.answers(data.examples).predictions
    calibration = fit_calibration(
        training, predictions, data.examples, version.session, version.tokenizer(), manifest.task_options
    )
    for paragraph in describe_scores(calibration.metrics)[1:]:
        if not paragraph.startswith("|"):  # tables are for the card
            say("calibrate", paragraph)
    options = {**_not_fitted(training, manifest.task_options), **calibration.task_options}
    if options == manifest.task_options:
        raise InvalidSettings(f"the scores of {version.name} would stay what they are")
    # who compares its scores with a number finds that they mean something else: no reason to serve it unasked
    with next_release(models, manifest.name, serves=False) as release:
        release.add_files(version.artefact)
        release.seal(_write(version, options, calibration.metrics, predictions, release.staging))
    return release.folder


def _labelled_data(version: OpenVersion, recipe: Recipe) -> EvalData:
    """
    Raises:
        InvalidSettings: the rows have no labels, or nothing of such models is fitted.
    """
    manifest, training = version.manifest, version.training
    if not training.fitted_options:
        raise InvalidSettings(f"{version.name} does {manifest.task}; nothing is fitted to the scores of such models")
    data = load_eval_data(training, manifest.task_options, recipe, manifest.data_format)
    if not data.is_labelled:
        raise InvalidSettings("scores are fitted on rows with their labels; these have none")
    return data


def _not_fitted(training: TrainingTask, task_options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in task_options.items() if name not in training.fitted_options}


def _write(
    version: OpenVersion, options: Mapping[str, Any], figures: Mapping[str, Any], predictions: Predictions, folder: Path
) -> Manifest:
    """Write what differs under these options: golden answers, figures and card. The manifest still lists the other files."""
    training, manifest = version.training, version.manifest
    task = training.serving_task(version.tokenizer(), options)
    items = [request["item"] for request in json.loads((version.folder / manifest.golden).read_bytes())]
    evaluation, card = (_text(version, name) for name in (EVALUATION, CARD))
    texts = {
        manifest.golden: as_json(golden_answers(training, task, items, version.session)),
        EVALUATION: as_json({**json.loads(evaluation or "{}"), "calibration": dict(figures)}),
        CARD: with_scores(card, describe_scores(figures)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    answered = read_again(task, training.serving_options(), predictions)
    update = {
        "task_options": dict(options),
        "reference": drift_reference(task, training.serving_options(), version.tokenizer(), answered),
        "files": {name: entry for name, entry in manifest.files.items() if name not in texts},
    }
    return manifest.model_copy(update=update)


def _text(version: OpenVersion, name: str) -> str:
    """What a file of the version says; nothing where there is none, as in one that is written by hand."""
    return (version.folder / name).read_text(encoding="utf-8") if name in version.manifest.files else ""


def with_scores(card: str, paragraphs: Sequence[str]) -> str:
    """The card with this section on its scores, in place of what it said of them."""
    told = re.compile(r"(Scores are calibrated: |Answers with a score of at least )")  # as earlier releases wrote it
    parts = [part for part in card.strip().split("\n\n") if not told.match(part)]
    begin = next((number for number, part in enumerate(parts) if part == SCORES), None)
    if begin is not None:
        end = next((number for number in range(begin + 1, len(parts)) if parts[number].startswith("## ")), len(parts))
        del parts[begin:end]
    figures = next((number for number, part in enumerate(parts) if part == "## Figures"), -1)
    after = next((number for number in range(figures + 1, len(parts)) if parts[number].startswith("## ")), len(parts))
    return "\n\n".join([*parts[:after], *paragraphs, *parts[after:]]) + "\n"
