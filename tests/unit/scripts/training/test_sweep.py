"""A sweep: its space, the rows that it judges on, and a recipe that `hooper train` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import InvalidSettings
from app.tasks.text_classification.task import ClassificationItem
from scripts.training.data import Dataset, Example
from scripts.training.recipe import Recipe, load_recipe
from scripts.training.sweep import judged_split, main, parse_space, to_toml


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


def test_trials_are_judged_on_training_rows_alone_and_a_text_is_in_one_part() -> None:
    rows = [Example(ClassificationItem(f"film {number // 2}"), "good", "a.csv", f"a.csv:{number}") for number in range(40)]
    held_out = [Example(ClassificationItem("other"), "good", "a.csv", "a.csv:99")]
    parts = judged_split(Dataset(rows, held_out, []))
    texts, judged = ({example.item.text for example in part} for part in (parts.train, parts.validation))
    assert len(parts.validation) == 8
    assert not texts & judged
    assert "other" not in texts | judged


def test_the_best_recipe_is_toml_that_training_reads(tmp_path: Path) -> None:
    recipe = Recipe(name="films", data=["a.csv", 'b "2".csv'], learning_rate=2.5e-5, autofit=True, golden=["schön"])
    file = tmp_path / "sweep.toml"
    file.write_text(to_toml(recipe), encoding="utf-8")
    assert load_recipe(file, {}) == recipe


def test_a_sweep_trains_its_trials_and_goes_on_where_it_stopped(
    base_folder: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(reviews), "--base-model", str(base_folder), "--epochs", "1", "--head", "random", "--space", "batch_size=8,16"]
    assert main([*words, "--trials", "1"]) == 0
    assert main([*words, "--trials", "2"]) == 0
    printed = capsys.readouterr().out
    assert "trial      2 of 2: accuracy" in printed
    assert "judged on 10 others" in printed
    assert load_recipe(Path("runs/reviews/sweep.toml"), {}).epochs == 1
    assert not Path("models").exists()
