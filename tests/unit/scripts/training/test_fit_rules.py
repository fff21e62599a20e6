"""What a recipe says about the fit is refused with one sentence where it makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.errors import InvalidSettings
from scripts.training.fit_rules import seconds_of, weights_of
from scripts.training.recipe import recipe_of, to_command


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
