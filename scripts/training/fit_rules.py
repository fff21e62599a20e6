"""What the recipe's keys about the fit must satisfy, each in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.core.errors import InvalidSettings

if TYPE_CHECKING:
    from scripts.training.recipe import Recipe

UNITS = {"h": 3600, "m": 60, "s": 1}


def fit_rules(recipe: Recipe) -> Sequence[tuple[str, bool]]:
    """Sentences, and whether each holds.

    Raises:
        InvalidSettings: the budget or the class weights cannot be read at all.
    """
    seconds_of(recipe.budget)
    weights_of(recipe.class_weights)
    step, lora = recipe.micro_batch, recipe.lora_rank
    return (
        ("warmup_share must be -1 or between 0 and 1", recipe.warmup_share == -1 or 0 <= recipe.warmup_share <= 1),
        ("max_grad_norm must not be negative", recipe.max_grad_norm >= 0),
        ("label_smoothing must be at least 0 and below 1", 0 <= recipe.label_smoothing < 1),
        (
            f"micro_batch is {step}: batch_size ({recipe.batch_size}) must be a multiple of it",
            step == 0 or (step > 0 and recipe.batch_size % step == 0),
        ),
        ("epochs and budget both say how long training lasts: leave one out", not (recipe.epochs and recipe.budget)),
        ("budget and autofit both decide when training ends: leave one out", not (recipe.autofit and recipe.budget)),
        (
            f"autofit lowers the learning rate by itself: leave out schedule = {recipe.schedule}",
            not recipe.autofit or recipe.schedule == "linear",
        ),
        ("freeze must be -1 or more", recipe.freeze >= -1),
        ("lora_rank must not be negative", lora >= 0),
        ("lora_alpha must not be negative", recipe.lora_alpha >= 0),
        ("lora_dropout must be at least 0 and below 1", 0 <= recipe.lora_dropout < 1),
        ("lora_alpha and lora_dropout need a lora_rank", lora > 0 or not (recipe.lora_alpha or recipe.lora_dropout)),
        (
            "lora_rank trains adapters and leaves all other weights alone: leave out freeze and gradual_unfreezing",
            not lora or (recipe.freeze == -1 and not recipe.gradual_unfreezing),
        ),
        ("teacher_share must be between 0 and 1", 0 <= recipe.teacher_share <= 1),
        ("teacher_temperature must be above 0", recipe.teacher_temperature > 0),
    )


def seconds_of(budget: str) -> float:
    """Seconds of `20m`, `90s`, `1h30m`, `1.5h`; 0 for none.

    Raises:
        InvalidSettings: it is no time, or none at all.
    """
    if not budget:
        return 0.0
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", budget)
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != budget or not total:
        raise InvalidSettings(f"budget must be a time such as 90s, 20m or 1h30m, not {budget!r}")
    return total


def weights_of(wish: str) -> Mapping[str, float]:
    """The weights of the labels that are named; none for `none` and `balanced`.

    Raises:
        InvalidSettings: it is neither of these nor a JSON object of numbers above 0.
    """
    if wish in ("none", "balanced"):
        return {}
    try:
        found: Any = json.loads(wish)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found or not all(_is_weight(one) for one in found.values()):
        raise InvalidSettings(
            f'class_weights must be none, balanced, or a weight above 0 for some labels as in {{"spam": 2.0}}, not {wish!r}'
        )
    return found


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
