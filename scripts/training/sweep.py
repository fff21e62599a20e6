"""`hooper sweep`: tries recipes on a part of the training rows, and prints the best one as TOML. Needs optuna (extra `sweep`).

Which recipe is best is judged on a fifth of the training rows alone: the rows that are reported on stay unseen (ADR 24).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.core.command_line import offline_errors, program, spread
from app.core.errors import HooperError, InvalidSettings
from app.core.files import write_atomically
from scripts.export.formatting import metric_name, say
from scripts.training.bars import quiet
from scripts.training.data import data_notes, read_all
from scripts.training.recipe import FIELDS, Recipe, recipe_of, recipe_options

if TYPE_CHECKING:
    from scripts.tasks.spec import Prepared
    from scripts.training.pipeline import Pipeline

NUM_PARTS = 5
"""Of the training rows, one of which a trial is judged on."""
UNPRUNED_TRIALS = 4
"""So many trials are trained to their end before others are compared with them."""
DEFAULT_SPACE = ("learning_rate=2e-5:5e-4:log", "batch_size=16,32", "hidden_dropout=0.0,0.1")
EXAMPLES = """\
  hooper sweep reviews.csv --trials 20
  hooper sweep reviews.csv --trials 30 --space learning_rate=1e-5:1e-3:log epochs=2,4,8 freeze=-1,2,4
  hooper sweep reviews.csv --trials 20 --train-best       then train with the best recipe, and publish
  hooper train --recipe runs/reviews/sweep.toml           the same by hand

KEY=LOW:HIGH draws numbers, KEY=LOW:HIGH:log draws them by their magnitude, KEY=A,B,C chooses. Trials are kept in the run's
folder; the same command goes on until there are --trials of them. The rows held out for the report are never looked at.
"""


@program("hooper sweep", EXAMPLES, offline_errors("hooper sweep", "trials until now are kept; the same command goes on"))
@spread("overrides", recipe_options(), dict)
def main(
    overrides: dict[str, Any],
    sources: Annotated[list[str] | None, typer.Argument(metavar="[DATA]...", help="training data, as for --data")] = None,
    recipe: Annotated[str, typer.Option(metavar="FILE", help="recipe to start from, as for `hooper train`")] = "",
    trials: Annotated[int, typer.Option(metavar="N", help="how many recipes are tried, those of earlier calls included")] = 20,
    space: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUES ...", help=f"what is tried; default: {' '.join(DEFAULT_SPACE)}")
    ] = None,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="train every trial to its end, however badly it goes")] = False,
    train_best: Annotated[
        bool, typer.Option("--train-best", help="then train with the best recipe, as `hooper train` does, and publish")
    ] = False,
) -> int:
    """Look for a better recipe: each trial trains on a part of the training rows, and is judged on the rest of them."""
    from scripts.train_and_export import main as train
    from scripts.train_and_export import read_recipe

    settings, _ = read_recipe(overrides, sources or [], recipe)
    if trials < 1:
        raise InvalidSettings(f"--trials is {trials}; at least 1 is needed")
    choices = parse_space(space or DEFAULT_SPACE)
    best = sweep(settings, choices, trials, prune=not no_prune)
    print(best.read_text(encoding="utf-8"), end="")
    if train_best:
        print(f"\ntrained:   hooper train --recipe {best}", flush=True)
        return train(["--recipe", str(best)])
    print(f"\ntrain it:  hooper train --recipe {best}")
    return 0


def parse_space(words: Sequence[str]) -> dict[str, Sequence[Any] | tuple[float, float, bool]]:
    """By key either the values to choose from, a list, or the lowest, the highest and whether magnitudes are drawn, a tuple.

    Raises:
        InvalidSettings: a key is unknown, or what is behind it cannot be read.
    """
    parsed: dict[str, Sequence[Any] | tuple[float, float, bool]] = {}
    for word in words:
        key, _, values = word.partition("=")
        if key not in FIELDS or not values:
            raise InvalidSettings(f"--space {word!r} is no KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A,B with a key of a recipe")
        parts = values.split(":")
        if len(parts) == 1:
            parsed[key] = [_value(entry) for entry in values.split(",")]
            for value in parsed[key]:
                recipe_of({"data": ["-"], key: value})  # refused now rather than in a trial
            continue
        low, high = _value(parts[0]), _value(parts[1])
        is_log = parts[2:] == ["log"]
        if not all(isinstance(limit, int | float) for limit in (low, high)) or parts[2:] not in ([], ["log"]):
            raise InvalidSettings(f"--space {word!r}: the limits must be numbers, and only `:log` may follow them")
        if low >= high or (is_log and low <= 0):
            raise InvalidSettings(f"--space {word!r}: the first must be the smaller one{', above 0' if is_log else ''}")
        parsed[key] = (low, high, is_log)
    return parsed


def _value(text: str) -> Any:
    """A number, true or false, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def sweep(recipe: Recipe, space: Mapping[str, Any], num_trials: int, prune: bool = True) -> Path:
    """Try recipes until there are so many trials, and write the best as TOML.

    Args:
        space: as `parse_space` gives it.
        num_trials: those of earlier calls included.
        prune: whether trials end early whose loss on the judged rows is worse than usual at this point of a trial.

    Returns:
        The file, which `hooper train --recipe` takes.

    Raises:
        InvalidSettings: optuna is missing, or the data or a recipe cannot be used.
    """
    optuna = _optuna()
    from scripts.training.pipeline import Pipeline  # torch takes seconds to import

    line = Pipeline(replace(recipe, log_to=[]), None, say)
    prepared = judged_part(line)
    metric = metric_name(line.training.metric_of(prepared.dataset.validation))
    sign = -1 if line.training.primary_is_error else 1

    def objective(trial: Any) -> float:
        values = {key: _suggest(trial, key, choices) for key, choices in space.items()}
        shown = f"with {', '.join(f'{key} {value}' for key, value in values.items())}"
        try:
            score = _score(line, prepared, values, trial if prune else None)
        except Pruned as pruned:
            say("trial", f"{trial.number + 1} of {num_trials}: {pruned.detail}, {shown}")
            raise optuna.TrialPruned from None
        say("trial", f"{trial.number + 1} of {num_trials}: {metric} {sign * score:.4f} {shown}")
        return score

    study = _study(line.run_folder.path, space, recipe.seed)
    study.optimize(objective, n_trials=max(0, num_trials - _num_ended(study)))
    say("best", f"{metric} {sign * study.best_value:.4f} on the judged training rows, trial {study.best_trial.number + 1}")
    file = line.run_folder.path / "sweep.toml"
    write_atomically(file, to_toml(recipe_of({**vars(line.recipe), "log_to": recipe.log_to, **study.best_params})))
    return file


def _optuna() -> Any:
    """
    Raises:
        InvalidSettings: it is missing.
    """
    try:
        import optuna
    except ImportError as error:
        raise InvalidSettings("hooper sweep needs optuna; run `pip install 'hooper[sweep]'`") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def judged_part(line: Pipeline) -> Prepared:
    """The training rows, one part of them held out: texts that are alike in one part, corrections never judged."""
    from scripts.training.folds import cut  # they import scikit-learn and torch
    from scripts.training.out_of_fold import foldable

    prepared, corrections = foldable(line, read_all(line.recipe))
    for note in data_notes(prepared.dataset, prepared.sentences):
        say("", note)
    folds = cut(prepared.written, NUM_PARTS, line.training.group, line.training.strata, 0, corrections)
    dataset = folds.dataset(0)
    prepared = line.training.prepared_again(prepared, dataset, line.recipe)
    rows = len(prepared.dataset.train)
    say("sweep", f"each trial trains on {rows:,} training rows and is judged on {len(dataset.validation):,} others")
    return prepared


def _score(line: Pipeline, prepared: Prepared, values: Mapping[str, Any], trial: Any) -> float:
    """Train with these values, and the mean of the judged rows' scores.

    Raises:
        Pruned: the trial is ended early; never where it is None.
    """
    from scripts.training.pipeline import Pipeline

    judged = prepared.dataset.validation
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder, quiet():
        recipe = recipe_of({**vars(line.recipe), "runs": folder, **values})
        # autofit ends a trial by itself, by the loss on rows of its own
        callbacks: list[Any] = [] if trial is None or recipe.autofit else [Pruning(trial)]
        tried = Pipeline(recipe, None, lambda stage, text: None, callbacks=callbacks)
        trained = tried.train(prepared, resume=False, watched=judged if callbacks else ())
        answers = tried.evaluate(prepared, trained).predictions.answers
    return float(line.training.row_scores(answers, judged).mean())


def _study(folder: Path, space: Mapping[str, Any], seed: int) -> Any:
    """The study of this space, with the trials of earlier calls."""
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'sweep.db'}",
        study_name=json.dumps({key: list(choices) for key, choices in space.items()}, sort_keys=True)[:500],
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS),
    )
    # a call that goes on must not draw what the first one drew
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _num_ended(study: Any) -> int:
    """Trials that were judged, or pruned; not those that Ctrl-C or an error ended."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)


class Pruned(HooperError):
    """Ends a trial that goes worse than others did."""


class Pruning:
    """A callback that ends a trial whose loss on the judged rows is worse than the median of trials that were as far."""

    def __init__(self, trial: Any) -> None:
        self._trial, self._updates = trial, 0.0

    def on_train_begin(self, metrics: Mapping[str, float]) -> None:
        self._updates = metrics["updates"]

    def on_validation(self, metrics: Mapping[str, float]) -> None:
        """
        Raises:
            Pruned: it is worse.
        """
        if metrics["update"] >= self._updates:  # it is over, and judged by its metric
            return
        percent = round(100 * metrics["update"] / self._updates)
        self._trial.report(-metrics["validation_loss"], percent)
        if self._trial.should_prune():
            raise Pruned(f"ended after {percent} % of its updates, at a loss of {metrics['validation_loss']:.4f}")


def _suggest(trial: Any, key: str, choices: Any) -> Any:
    if isinstance(choices, list):
        return trial.suggest_categorical(key, choices)
    low, high, is_log = choices
    if isinstance(FIELDS[key].default, int) and not isinstance(FIELDS[key].default, bool):
        return trial.suggest_int(key, int(low), int(high), log=is_log)
    return trial.suggest_float(key, low, high, log=is_log)


def to_toml(recipe: Recipe) -> str:
    """The task, and the keys that differ from the defaults, as a recipe's file."""
    defaults = Recipe()
    # the task always: where none is named it is guessed from the data
    names = [name for name in FIELDS if name == "task" or getattr(recipe, name) != getattr(defaults, name)]
    values = {name: getattr(recipe, name) for name in names}
    # strings, numbers, truth values and lists of JSON are those of TOML
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
