"""Recipes: from files, from options, from Python; what they refuse."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from app.core.command_line import parse_options
from app.core.errors import InvalidSettings
from scripts.training.recipe import (
    AUTO,
    FIELDS,
    Recipe,
    load_recipe,
    recipe_of,
    recipe_options,
    seconds_of,
    to_command,
    weights_of,
)

SHIPPED = sorted(Path(__file__).parents[4].joinpath("scripts", "recipes").glob("*.toml"))

DATA = {"data": ["a.csv"]}


def options_of(*words: str) -> dict[str, Any]:
    """What a command is given that has one option for each key."""
    return parse_options(recipe_options(), words)


def from_command(*words: str) -> Recipe:
    return load_recipe(None, options_of(*words))


def from_file(folder: Path, text: str, **overrides: Any) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, {**DATA, **overrides})


def test_an_empty_recipe_has_the_defaults(tmp_path: Path) -> None:
    assert from_file(tmp_path, "") == Recipe(**DATA, task=AUTO) == from_command("--data", "a.csv")


def test_the_file_changes_defaults_and_the_command_line_changes_the_file(tmp_path: Path) -> None:
    recipe = from_file(tmp_path, 'name = "films"\nbatch_size = 16\nepochs = 3', batch_size=64)
    assert (recipe.name, recipe.batch_size, recipe.epochs, recipe.seed) == ("films", 64, 3, Recipe().seed)


def test_every_key_is_an_option_and_every_option_a_key() -> None:
    assert set(recipe_options()) == set(FIELDS) == {field.name for field in dataclasses.fields(Recipe)}


def test_every_key_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(entry.metadata["help"].strip() for entry in FIELDS.values())
    with pytest.raises(typer.Exit):
        options_of("--help")
    text = "".join(capsys.readouterr().out.split())  # lines break within `multi-label`
    for entry in FIELDS.values():
        assert "".join(entry.metadata["help"].split()) in text


def test_an_option_that_is_not_given_does_not_overrule_the_file() -> None:
    assert options_of("--epochs", "2") == {"epochs": 2.0}


def test_lists_are_given_as_several_words() -> None:
    recipe = from_command("--data", "a.csv", "b.csv", "--epoch-tokens", "128", "512", "--name", "films")
    assert (recipe.data, recipe.epoch_tokens, recipe.name) == (["a.csv", "b.csv"], [128, 512], "films")


@pytest.mark.parametrize("words", [["--batch-size", "many"], ["--precision", "fp8"]])
def test_an_option_of_the_wrong_type_is_refused(words: list[str]) -> None:
    with pytest.raises(InvalidSettings, match=words[0]):
        options_of(*words)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("epoch = 3", "unknown key 'epoch'"),
        ("batch_size = 16.5", "batch_size must be int, not 16.5"),
        ("batch_size = true", "batch_size must be int, not True"),
        ("epochs = false", "epochs must be float"),
        ("learning_rate = '1e-4'", "learning_rate must be float"),
        ("name = 5", "name must be str"),
        ("data = 'a.csv'", "data must be a list of str"),
        ("data = ['a.csv', 1]", "data must be a list of str"),
        ("epoch_tokens = [128, 'x']", "epoch_tokens must be a list of int"),
        ("storage = 'int4'", "storage must be one of int8, fp16, fp32, not 'int4'"),
        ("task = 'poetry'", "task must be one of"),
        ("name = ", "not valid TOML"),
        ("[model]\nname = 'films'", "unknown key 'model'"),
    ],
)
def test_a_wrong_key_is_refused_and_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        from_file(tmp_path, text)
    assert named in caught.value.detail


def test_a_whole_number_will_do_for_a_fraction(tmp_path: Path) -> None:
    assert from_file(tmp_path, "epochs = 3").epochs == 3


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"nothing\.toml cannot be read: No such file"):
        load_recipe(tmp_path / "nothing.toml", {})


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(InvalidSettings, match="not valid TOML"):
        load_recipe(tmp_path / "recipe.toml", {})


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"split": -0.1}, "split"),
        ({"split": 1.1}, "split"),
        ({"split": 1.0}, "nothing would be held out"),
        ({"max_bad_share": 1.5}, "max_bad_share"),
        ({"epochs": -1.0}, "epochs"),
        ({"batch_size": -1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"max_tokens": 7}, "max_tokens"),
        ({"data": ["a.csv"], "repeat": [1, 2]}, "repeat"),
    ],
)
def test_a_value_out_of_its_range_is_refused_and_named(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidSettings, match=named):
        load_recipe(None, {**DATA, **overrides})


def test_a_recipe_without_data_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="data must name at least one source"):
        load_recipe(None, {})


@pytest.mark.parametrize(
    "overrides",
    [
        {"split": 0.0},
        {"split": 1.0, "validation": ["dev.csv"]},
        {"max_bad_share": 0.0},
        {"max_bad_share": 1.0},
        {"max_tokens": 0},
        {"max_tokens": 8},
        {"batch_size": 0},
    ],
)
def test_the_ends_of_a_range_belong_to_it(overrides: dict[str, Any]) -> None:
    load_recipe(None, {**DATA, **overrides})


# a word may hold anything but what no command line can carry; one that begins with a dash would read as an option
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12).filter(
    lambda word: not word.startswith("-")
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "name": words,
        "description": words,
        "data": st.lists(words, min_size=1, max_size=3),
        "golden": st.lists(words, min_size=1, max_size=3),
        "epoch_tokens": st.lists(st.integers(8, 512), min_size=1, max_size=3),
        "split": st.floats(0.01, 0.99),
        "epochs": st.floats(0, 100),
        "learning_rate": st.floats(1e-9, 1),
        "seed": st.integers(0, 2**31),
        "precision": st.sampled_from(["auto", "fp32", "bf16"]),
        "storage": st.sampled_from(["int8", "fp16", "fp32"]),
    },
)


@given(changes)
def test_the_command_that_repeats_a_recipe_repeats_it(overrides: dict[str, Any]) -> None:
    recipe = load_recipe(None, {**DATA, **overrides})
    program, command, *rest = shlex.split(to_command(recipe))
    assert (program, command) == ("hooper", "train")
    assert from_command(*rest) == recipe


def test_the_command_names_only_what_differs_from_the_recipe_file(tmp_path: Path) -> None:
    recipe = from_file(tmp_path, 'name = "films"\ndata = ["a.csv"]\nepochs = 3', epochs=1.0)
    file = tmp_path / "recipe.toml"
    assert to_command(recipe, file) == f"hooper train --recipe {shlex.quote(str(file))} --epochs 1.0"


def test_the_command_can_be_told_where_the_data_came_from_the_command_line(tmp_path: Path) -> None:
    recipe = from_file(tmp_path, 'name = "films"')
    assert to_command(recipe, tmp_path / "recipe.toml").endswith(" --data a.csv")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_valid_and_named_like_its_file(path: Path) -> None:
    recipe = load_recipe(path, {})
    assert recipe.name == path.stem
    assert all(getattr(recipe, key) for key in ("description", "license", "limits", "data"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"warmup_share": 1.5}, "warmup_share must be"),
        ({"warmup_share": -0.5}, "warmup_share must be"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must not"),
        ({"label_smoothing": 1.0}, "label_smoothing must be"),
        ({"micro_batch": 5}, r"micro_batch is 5: batch_size \(32\) must be a multiple"),
        ({"micro_batch": -8}, "micro_batch is -8"),
        ({"epochs": 2, "budget": "5m"}, "epochs and budget"),
        ({"autofit": True, "budget": "5m"}, "budget and autofit"),
        ({"autofit": True, "schedule": "cosine"}, "leave out schedule = cosine"),
        ({"freeze": -2}, "freeze must be"),
        ({"lora_rank": -1}, "lora_rank must not"),
        ({"lora_rank": 4, "lora_alpha": -1}, "lora_alpha must not"),
        ({"lora_rank": 4, "lora_dropout": 1.0}, "lora_dropout must be"),
        ({"lora_alpha": 4}, "need a lora_rank"),
        ({"lora_rank": 4, "freeze": 1}, "leave out freeze"),
        ({"lora_rank": 4, "gradual_unfreezing": True}, "leave out freeze"),
        ({"cased": True, "lora_rank": 4}, "cased learns vectors"),
        ({"cased": True, "freeze": 0}, "cased learns vectors"),
        ({"cased": True, "gradual_unfreezing": True}, "cased learns vectors"),
        ({"teacher_share": 1.1}, "teacher_share must be"),
        ({"teacher_temperature": 0.0}, "teacher_temperature must be"),
        ({"budget": "soon"}, "budget must be a time"),
        ({"budget": "0m"}, "budget must be a time"),
        ({"class_weights": "heavy"}, "class_weights must be"),
        ({"class_weights": {"spam": 0}}, "class_weights must be"),
        ({"class_weights": {}}, "class_weights must be"),
        ({"autofit": "yes"}, "autofit must be true or false"),
        ({"schedule": "steps"}, "schedule must be one of"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSettings, match=sentence) as refused:
        recipe_of({"data": ["x"], **values})
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize(
    ("budget", "seconds"), [("", 0), ("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400), ("1h2m3s", 3723)]
)
def test_a_budget_is_a_time(budget: str, seconds: float) -> None:
    assert seconds_of(budget) == seconds


@pytest.mark.parametrize("budget", ["20", "m", "20 m", "-5m", "20min", "1d"])
def test_what_is_no_time_is_no_budget(budget: str) -> None:
    with pytest.raises(InvalidSettings, match="budget must be a time"):
        seconds_of(budget)


def test_class_weights_are_a_table_in_python_and_toml_and_json_on_the_command_line() -> None:
    recipe = recipe_of({"data": ["x"], "class_weights": {"spam": 2, "ham": 0.5}})
    assert weights_of(recipe.class_weights) == {"spam": 2, "ham": 0.5}
    assert to_command(recipe).endswith("""--class-weights '{"spam": 2, "ham": 0.5}'""")


def test_a_yes_or_no_of_a_recipe_is_an_option_without_a_value() -> None:
    assert to_command(recipe_of({"data": ["x"], "autofit": True})).endswith(" --autofit")


def test_a_recipe_for_regression_of_release_0_1_0_is_one_of_the_task_that_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('data = ["a.csv"]\ntask = "text-classification"\nproblem_type = "regression"\n')
    for recipe in (load_recipe(path, {}), recipe_of({"data": ["a.csv"], "problem_type": "regression"})):
        assert (recipe.task, recipe.problem_type) == ("text-regression", "auto")
