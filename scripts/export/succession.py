"""Whether a new version takes the place of the one that serves: not where it is worse on the same held-out rows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.artefact import next_version, read_serving, serving_version
from app.core.errors import HooperError
from app.core.manifest import read_manifest
from scripts.export.formatting import format_value, metric_name
from scripts.export.published import OpenVersion, open_folder
from scripts.tasks.spec import TrainingTask
from scripts.training.bootstrap import Difference, paired_difference
from scripts.training.data import Example, held_out_fingerprint
from scripts.training.evaluation import predict
from scripts.training.recipe import Recipe

FINGERPRINT = "held_out_sha256"
"""Key of evaluation.json's `data` for the rows that a version was judged on."""


@dataclass(frozen=True)
class Succession:
    """What becomes of the version that serves when this one is published."""

    version: str
    """The new one, as `name/version`."""
    predecessor: str = ""
    """The one that serves until now; empty where there is none."""
    serves: bool = True
    """Whether the new one serves from the next start on."""
    sentence: str = ""
    """What happened, why, and with which figures."""
    record: dict[str, Any] | None = None
    """The same for evaluation.json; None where nothing was compared."""

    @property
    def is_lower(self) -> bool:
        """Whether its figure was worse than the predecessor's, by chance or beyond it."""
        return self.record is not None and self.record["difference"]["mean"] < 0

    def promotion(self, models: str) -> str:
        """The command that lets the new version serve."""
        return _promote(self.version, models)

    def rollback(self, models: str) -> str:
        """The command that lets the predecessor serve."""
        return _promote(self.predecessor, models)


def _promote(version: str, models: str) -> str:
    option = "" if models == Recipe().models else f" --models {shlex.quote(models)}"
    return f"hooper models promote {version}{option}"


def judge_succession(
    recipe: Recipe, training: TrainingTask, examples: Sequence[Example], answers: Sequence[Any], task_options: dict[str, Any]
) -> Succession:
    """Compare a graph that is about to be published with the version that serves.

    Args:
        recipe: names the model, the repository, and whether the new version serves however it compares.
    """
    folder = Path(recipe.models) / recipe.name
    version = f"{recipe.name}/{next_version(folder)}"
    try:
        number = serving_version(folder, read_serving(folder))
        if number is None:
            return Succession(version)
        before = open_folder(folder / str(number), may_write=True)
    except HooperError as error:
        return Succession(version, sentence=f"{version} serves from the next start on; no version before it: {error.detail}")
    comparison = _Comparison(version, before, training, examples, answers, task_options)
    return comparison.succession(recipe.serve_anyway)


def foreseen_succession(recipe: Recipe, task: str) -> str:
    """What will become of the version that serves, as far as that can be told before anything is trained.

    Args:
        recipe: names the model, the repository, and whether the new version serves however it compares.

    Raises:
        HooperError: what serves now cannot be told.
    """
    folder = Path(recipe.models) / recipe.name
    version = f"{recipe.name}/{next_version(folder)}"
    number = serving_version(folder, read_serving(folder))
    if number is None:
        return f"{folder / version.rpartition('/')[2]}, the first version, which serves from the next start on"
    before = read_manifest(folder / str(number))
    takes_over = f"{version} serves from the next start on, in place of {recipe.name}/{number}"
    if before.task != task:
        return f"{takes_over}, which is for {before.task}"
    if recipe.serve_anyway:
        return f"{takes_over}, also where it is worse"
    return f"{takes_over}, unless it is worse on the same held-out rows (--serve-anyway lets it serve all the same)"


@dataclass(frozen=True)
class _Comparison:
    """A new version and the one that serves, on the new one's held-out rows."""

    version: str
    before: OpenVersion
    training: TrainingTask
    examples: Sequence[Example]
    answers: Sequence[Any]
    task_options: dict[str, Any]

    def succession(self, serve_anyway: bool) -> Succession:
        name, old = self.version, self.before.name
        takes_over = f"{name} serves from the next start on, in place of {old}"
        if self.before.manifest.task != self.training.name:
            return Succession(name, old, sentence=f"{takes_over}, which is for {self.before.manifest.task}")
        try:
            result = self._measured()
        except HooperError as error:  # the old one cannot be judged, which says nothing against the new one
            return Succession(name, old, sentence=f"{takes_over}, which could not answer the held-out rows: {error.detail}")
        if result is None:
            return Succession(name, old, sentence=f"{takes_over}; the two cannot be compared row by row")
        difference, (figure, old_figure) = result
        same, metric = self._has_same_rows(), self.training.metric_of(self.examples)
        is_worse = same and difference.is_worse
        figures = (
            f"{metric_name(metric)} {format_value(figure)} against {format_value(old_figure)} on"
            f" {'the same' if same else 'its own'} {difference.rows:,} held-out rows (95 % interval of how much better it is:"
            f" {difference.low:.4g} to {difference.high:.4g})"
        )
        record = {
            "version": old,
            "metric": metric,
            "figures": [figure, old_figure],
            "difference": difference.as_json(),
            "same_rows": same,
            "serves": not is_worse or serve_anyway,
        }
        if is_worse and not serve_anyway:
            return Succession(name, old, False, f"{name} is worse than {old} and does not serve: {figures}", record)
        if is_worse:
            return Succession(name, old, True, f"{takes_over} although it is worse: {figures}", record)
        if difference.mean < 0:
            chance = ", but by no more than chance explains" if not difference.is_worse else ""
            takes_over += f", although it is worse on these rows{chance}"
        caveat = "" if same else f"; these are other rows than {old} was judged on, and it may have been trained on some"
        return Succession(name, old, True, f"{takes_over}: {figures}{caveat}", record)

    def _measured(self) -> tuple[Difference, list[float]] | None:
        """How much better the new one is, and the figure of each; None where the task has no scores of rows.

        Raises:
            HooperError: the old one cannot answer.
        """
        training, before = self.training, self.before
        items = [example.item for example in self.examples]
        options, title = training.serving_options(), f"asking {before.name}"
        old_answers = predict(before.task, options, items, before.session, title).answers
        difference = paired_difference(*(training.row_scores(each, self.examples) for each in (self.answers, old_answers)))
        if difference is None:
            return None
        headlines = [training.evaluate(each, self.examples, self.task_options) for each in (self.answers, old_answers)]
        return difference, [headline["headline"][training.metric_of(self.examples)] for headline in headlines]

    def _has_same_rows(self) -> bool:
        try:
            body = json.loads((self.before.folder / "evaluation.json").read_text(encoding="utf-8"))
            return bool(body["data"][FINGERPRINT] == held_out_fingerprint(self.examples))
        except (OSError, ValueError, LookupError, TypeError):  # as of versions that were published before this was kept
            return False
