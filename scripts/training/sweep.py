"""`hooper sweep`: tries recipes on a part of the training rows, and prints the best one as TOML. Needs optuna (extra `sweep`).

Which recipe is best is judged on a fifth of the training rows alone: the rows that are reported on stay unseen (ADR 24).
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from app.core.command_line import offline_errors, program, spread
from app.core.errors import InvalidSettings
from app.core.files import write_atomically
from scripts.export.formatting import metric_name, say
from scripts.training.data import Dataset, Example, normalized, read_all, split_groups
from scripts.training.recipe import FIELDS, Recipe, recipe_of, recipe_options

JUDGED_SHARE = 0.2
"""Of the training rows, what a trial is judged on."""
DEFAULT_SPACE = ("learning_rate=2e-5:5e-4:log", "batch_size=16,32", "hidden_dropout=0.0,0.1")
EXAMPLES = """\
  hooper sweep reviews.csv --trials 20
  hooper sweep reviews.csv --trials 30 --space learning_rate=1e-5:1e-3:log epochs=2,4,8 freeze=-1,2,4
  hooper train --recipe runs/reviews/sweep.toml           train with the best recipe, and publish it

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
) -> int:
    """Look for a better recipe: each trial trains on a part of the training rows, and is judged on the rest of them."""
    from scripts.train_and_export import read_recipe

    settings, _ = read_recipe(overrides, sources or [], recipe)
    if trials < 1:
        raise InvalidSettings(f"--trials is {trials}; at least 1 is needed")
    choices = parse_space(space or DEFAULT_SPACE)
    best = sweep(settings, choices, trials)
    print(best.read_text(encoding="utf-8"), end="")
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


def sweep(recipe: Recipe, space: Mapping[str, Any], num_trials: int) -> Path:
    """Try recipes until there are so many trials, and write the best as TOML.

    Returns:
        The file, which `hooper train --recipe` takes.

    Raises:
        InvalidSettings: optuna is missing, the data or a recipe cannot be used, or every trial failed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InvalidSettings("hooper sweep needs optuna; run `pip install 'hooper[sweep]'`") from error
    from scripts.training.pipeline import Pipeline  # torch takes seconds to import

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    line = Pipeline(replace(recipe, log_to=[]), None, say)
    prepared = line.load(read_all(line.recipe))
    dataset = judged_split(prepared.dataset)
    prepared = replace(prepared, dataset=dataset)
    say(
        "sweep",
        f"each trial trains on {len(dataset.train):,} training rows and is judged on {len(dataset.validation):,} others",
    )
    metric = metric_name(line.training.primary_metric)
    sign = -1 if line.training.primary_is_error else 1

    def objective(trial: Any) -> float:
        values = {key: _suggest(trial, key, choices) for key, choices in space.items()}
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            own = replace(line.recipe, runs=folder)
            tried = Pipeline(recipe_of({**vars(own), **values}), None, lambda stage, text: None)
            reference = tried.evaluate(prepared, tried.train(prepared, resume=False))
            scores = line.training.row_scores(reference.predictions.answers, reference.examples)
        score = float(scores.mean())
        shown = ", ".join(f"{key} {value}" for key, value in values.items())
        say("trial", f"{trial.number + 1} of {num_trials}: {metric} {sign * score:.4f} with {shown}")
        return score

    folder = line.run_folder.path
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=f"sqlite:///{folder / 'sweep.db'}",
            study_name=json.dumps({key: list(choices) for key, choices in space.items()}, sort_keys=True)[:500],
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=recipe.seed),
        )
    finished = len([trial for trial in study.trials if trial.value is not None])
    study.optimize(objective, n_trials=max(0, num_trials - finished))
    say("best", f"{metric} {sign * study.best_value:.4f} on the judged training rows, trial {study.best_trial.number + 1}")
    file = folder / "sweep.toml"
    write_atomically(file, to_toml(recipe_of({**vars(line.recipe), "log_to": recipe.log_to, **study.best_params})))
    return file


def judged_split(dataset: Dataset) -> Dataset:
    """The training rows in two parts; the same text, or questions about one context, are in one of them."""

    def group(example: Example) -> Any:
        return getattr(example.item, "context", None) or normalized(example.item)

    train, judged = split_groups(dataset.train, 1 - JUDGED_SHARE, 0, group)
    if not judged:
        raise InvalidSettings(f"{len(dataset.train)} training rows cannot be split; bring more rows")
    return replace(dataset, train=train, validation=judged)


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
