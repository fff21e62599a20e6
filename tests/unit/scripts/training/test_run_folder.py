"""A run goes on from its last whole checkpoint, and only with the recipe and the data it began with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import InvalidSettings
from app.tasks.text_classification.task import ClassificationItem
from scripts.training.data import Dataset, Example
from scripts.training.recipe import Recipe
from scripts.training.run_folder import RunFolder

RECIPE = Recipe(name="films", data=["films.csv"])
EXAMPLE = Example(ClassificationItem("a film"), "good", "films.csv", "films.csv:2")
DATASET = Dataset([EXAMPLE], [replace(EXAMPLE, target="bad")], [], 0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "films")


def checkpoint(run: RunFolder, update: int, state: str = "{}") -> Path:
    folder = run.path / f"checkpoint-{update}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(state)
    return folder


def test_the_last_checkpoint_is_the_one_after_most_updates(run: RunFolder) -> None:
    assert run.last_checkpoint is None
    for update in (900, 1000, 95):
        checkpoint(run, update)
    assert run.last_checkpoint == run.path / "checkpoint-1000"


def test_a_checkpoint_that_was_cut_off_is_passed_over(run: RunFolder) -> None:
    whole = checkpoint(run, 10)
    checkpoint(run, 20, state='{"epoch": ')
    (run.path / "checkpoint-30").mkdir()
    assert run.last_checkpoint == whole


def test_starting_anew_forgets_the_earlier_run_and_nothing_else(run: RunFolder) -> None:
    checkpoint(run, 10)
    run.final.mkdir()
    others = [run.path / "notes.txt", run.path / "checkpoint-of-mine" / "a", run.path / "finally" / "b"]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text("")
    run.start(RECIPE, DATASET)
    assert run.last_checkpoint is None
    assert not run.final.exists()
    assert all(other.exists() for other in others)


def test_the_same_recipe_and_data_may_go_on(run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    run.check_same(RECIPE, DATASET)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models", "elsewhere"),
        ("runs", "elsewhere"),
        ("golden", ["a"]),
        ("description", "d"),
        ("license", "l"),
        ("limits", "l"),
        ("max_bad_share", 0.5),
        ("storage", "fp32"),
    ],
)
def test_what_decides_nothing_about_the_training_may_change(key: str, value: object, run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    run.check_same(replace(RECIPE, **{key: value}), DATASET)  # type: ignore[arg-type]


def test_another_recipe_is_refused_with_every_key_that_differs(run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    with pytest.raises(InvalidSettings, match=r"batch_size \(was 0, is 8\), seed \(was 13, is 1\)"):
        run.check_same(replace(RECIPE, batch_size=8, seed=1), DATASET)


def test_a_run_that_was_begun_before_there_was_an_option_goes_on_with_its_default(run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    file = run.path / "recipe.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    del written["recipe"]["merge_labels"]
    file.write_text(json.dumps(written), encoding="utf-8")
    run.check_same(RECIPE, DATASET)
    with pytest.raises(InvalidSettings, match=r"merge_labels \(was False, is True\)"):
        run.check_same(replace(RECIPE, merge_labels=True), DATASET)


def test_a_run_of_the_release_before_probes_goes_on_by_what_was_the_default_then(run: RunFolder) -> None:
    run.start(replace(RECIPE, batch_size=32), DATASET)
    file = run.path / "recipe.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    del written["recipe"]["head"], written["recipe"]["pooling"]
    file.write_text(json.dumps(written), encoding="utf-8")
    recipe = run.check_same(RECIPE, DATASET)
    assert (recipe.head, recipe.pooling, recipe.batch_size) == ("random", "first", 32)
    with pytest.raises(InvalidSettings, match=r"head \(was 'random', is 'probe'\)"):
        run.check_same(replace(RECIPE, head="probe"), DATASET)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_changed_data_is_refused(part: str, run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    changed = replace(DATASET, **{part: [replace(EXAMPLE, item=ClassificationItem("another film"))]})  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings, match="the data has changed"):
        run.check_same(RECIPE, changed)


def test_a_run_remembered_without_its_data_is_compared_by_recipe_alone(run: RunFolder) -> None:
    run.remember(RECIPE)
    run.check_same(RECIPE, DATASET)
    with pytest.raises(InvalidSettings, match="seed"):
        run.check_same(replace(RECIPE, seed=1), DATASET)


def test_no_text_of_the_data_is_written_down(run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    assert "a film" not in (run.path / "recipe.json").read_text(encoding="utf-8")


def test_without_an_earlier_run_there_is_nothing_to_resume(run: RunFolder) -> None:
    with pytest.raises(InvalidSettings, match="nothing to resume"):
        run.check_same(RECIPE, DATASET)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": 1', "null"])
def test_an_unreadable_recipe_is_a_clear_error(text: str, run: RunFolder) -> None:
    run.path.mkdir()
    (run.path / "recipe.json").write_text(text)
    with pytest.raises(InvalidSettings, match="cannot be read"):
        run.check_same(RECIPE, DATASET)


class Model:
    """Stands for a transformers model that is being saved."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        if self.fails:
            raise OSError(28, "No space left on device")
        (folder / "config.json").write_text("{}")


def test_a_finished_model_is_there_whole_with_its_cost(run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    assert (run.is_finished, run.cost) == (False, {})
    run.save_final(Model(), {"updates": 3})
    assert run.is_finished
    assert run.cost == {"updates": 3}
    assert json.loads((run.path / "cost.json").read_text()) == {"updates": 3}


def test_a_model_that_could_not_be_saved_is_not_finished(run: RunFolder) -> None:
    run.start(RECIPE, DATASET)
    with pytest.raises(Exception, match=r"cannot be saved in .*: No space left on device"):
        run.save_final(Model(fails=True), {})
    assert not run.is_finished
    run.save_final(Model(), {})
    assert run.is_finished
