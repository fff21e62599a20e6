"""A sweep: its space, the rows that it judges on, and a recipe that `hooper train` takes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import InvalidSettings
from scripts.training import sweep as module
from scripts.training.data import read_all
from scripts.training.pipeline import Pipeline
from scripts.training.recipe import Recipe, load_recipe
from scripts.training.sweep import Pruned, Pruning, main, parse_space, to_toml
from tests.support.corrections import labelled, write_feedback
from tests.unit.scripts.conftest import fast_options


def test_a_space_is_ranges_and_choices() -> None:
    space = parse_space(["learning_rate=1e-5:1e-3:log", "epochs=1:4", "schedule=linear,cosine", "autofit=true,false"])
    assert space["learning_rate"] == (1e-5, 1e-3, True)
    assert space["epochs"] == (1, 4, False)
    assert (space["schedule"], space["autofit"]) == (["linear", "cosine"], [True, False])


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("speed=1:2", "is no KEY=LOW:HIGH"),
        ("epochs", "is no KEY=LOW:HIGH"),
        ("epochs=4:1", "the first must be the smaller one"),
        ("learning_rate=0:1:log", "above 0"),
        ("learning_rate=low:high", "the limits must be numbers"),
        ("schedule=linear,steep", "schedule must be one of"),
    ],
)
def test_what_is_no_space_is_refused_before_anything_is_trained(word: str, sentence: str) -> None:
    with pytest.raises(InvalidSettings, match=sentence):
        parse_space([word])


def test_the_best_recipe_is_toml_that_training_reads(tmp_path: Path) -> None:
    recipe = Recipe(name="films", data=["a.csv", 'b "2".csv'], learning_rate=2.5e-5, autofit=True, golden=["schön"])
    file = tmp_path / "sweep.toml"
    file.write_text(to_toml(recipe), encoding="utf-8")
    assert load_recipe(file, {}) == recipe


def test_trials_are_judged_on_training_rows_alone_and_never_on_corrections(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = reviews.read_text(encoding="utf-8").splitlines()[1:40]
    feedback = write_feedback(tmp_path / "feedback.db", [labelled(row.rpartition(",")[0], "positive") for row in rows])
    recipe = Recipe(name="tiny", data=[str(reviews)], from_feedback=[str(feedback)])
    prepared = module.judged_part(Pipeline(recipe, None, lambda stage, text: None))
    reported = Pipeline(replace(recipe, from_feedback=[]), None, lambda stage, text: None).load(read_all(recipe))
    judged, unseen = ({entry.item for entry in part} for part in (prepared.dataset.validation, reported.dataset.validation))
    assert len(prepared.dataset.validation) == 10
    assert not judged & unseen
    assert not judged & {entry.item for entry in prepared.dataset.train}
    assert {entry.source for entry in prepared.dataset.validation} == {str(reviews)}
    assert str(feedback) in {entry.source for entry in prepared.dataset.train}


class Trial:
    """As Optuna's: it is worse than the median below a limit."""

    def __init__(self, limit: float) -> None:
        self.limit, self.reported = limit, dict[int, float]()

    def report(self, value: float, step: int) -> None:
        self.reported[step] = value

    def should_prune(self) -> bool:
        return min(self.reported.values()) < self.limit


def test_a_trial_ends_when_its_loss_is_worse_than_that_of_others_that_were_as_far() -> None:
    trial = Trial(limit=-1.0)
    pruning = Pruning(trial)
    pruning.on_train_begin({"updates": 12})
    pruning.on_validation({"update": 4, "validation_loss": 0.9})
    with pytest.raises(Pruned, match=r"ended after 67 % of its updates, at a loss of 1\.2000"):
        pruning.on_validation({"update": 8, "validation_loss": 1.2})
    assert trial.reported == {33: -0.9, 67: -1.2}


def test_a_trial_that_is_over_is_judged_by_its_metric_and_not_pruned() -> None:
    trial = Trial(limit=0.0)
    pruning = Pruning(trial)
    pruning.on_train_begin({"updates": 12})
    pruning.on_validation({"update": 12, "validation_loss": 9.0})
    assert trial.reported == {}


def test_a_sweep_goes_on_where_it_stopped_and_ends_a_trial_that_goes_worse(
    base_folder: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "UNPRUNED_TRIALS", 1)
    words = [str(reviews), *fast_options(base_folder), "--epochs", "2", "--head", "random"]
    words += ["--space", "learning_rate=0.0001,9.0"]
    assert main([*words, "--trials", "1"]) == 0
    assert main([*words, "--trials", "2"]) == 0  # whose learning rate is the other one, by the seed
    printed = capsys.readouterr().out
    assert "judged on 10 others" in printed
    assert re.search(r"trial      1 of 1: accuracy [\d.]+ with learning_rate 0.0001\n", printed)
    assert re.search(r"trial      2 of 2: ended after 50 % of its updates, at a loss of .*, with learning_rate 9.0\n", printed)
    best = load_recipe(Path("runs/reviews/sweep.toml"), {})
    assert (best.epochs, best.learning_rate) == (2, 0.0001)
    assert main([*words, "--trials", "2"]) == 0  # a trial that was ended counts, too
    assert "trial  " not in capsys.readouterr().out
    assert not Path("models").exists()


@pytest.mark.slow
def test_the_best_recipe_is_trained_and_published_where_that_is_asked_for(
    base_folder: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(reviews), *fast_options(base_folder), "--head", "random", "--space", "seed=7"]
    assert main([*words, "--trials", "1", "--no-prune", "--train-best"]) == 0
    assert "trained:   hooper train --recipe runs/reviews/sweep.toml" in capsys.readouterr().out
    evaluation = json.loads(Path("models/reviews/1/evaluation.json").read_text(encoding="utf-8"))
    assert "--seed 7" not in evaluation["command"]  # the file says it
    assert "sweep.toml" in evaluation["command"]
