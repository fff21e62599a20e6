"""autofit ends when nothing more is learned, and keeps the best."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.errors import InvalidSettings
from app.tasks.text_classification.task import ClassificationItem
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training import fine_tune as module
from scripts.training.data import Example
from scripts.training.fine_tune import fine_tune
from scripts.training.objective import mean_loss
from scripts.training.recipe import Recipe
from scripts.training.run_folder import Interrupted, RunFolder

TASK = TextClassificationTraining()
RECIPE = Recipe(data=["x"], epochs=12, batch_size=8, learning_rate=0.03, precision="fp32", autofit=True)


def example(text: str) -> Example:
    return Example(ClassificationItem(text), "a", "source", "where")


def train(model: Any, rows: list[TrainingRow], folder: Path, resume: bool = False, recipe: Recipe = RECIPE) -> dict[str, Any]:
    """A quarter of the rows, with labels that are partly wrong, so that the loss on them rises in the end."""
    validation_split = [replace(row, label=1 - row.label) if number % 3 == 0 else row for number, row in enumerate(rows[:10])]
    return fine_tune(recipe, TASK, model, rows[10:], RunFolder(folder), resume, validation_split)


def weights(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_tenth_is_set_aside_and_no_text_is_in_both() -> None:
    examples = [example(f"text {number // 2}") for number in range(100)]
    kept, validation_split = module.split_for_autofit(examples)
    assert len(validation_split) == 10
    assert sorted(map(repr, kept + validation_split)) == sorted(map(repr, examples))
    assert not {repr(kept_item.item) for kept_item in kept} & {repr(part.item) for part in validation_split}


def test_of_many_rows_two_thousand_are_set_aside() -> None:
    assert len(module.split_for_autofit([example(str(number)) for number in range(50_000)])[1]) == 2000


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="there are only 3 rows"):
        module.split_for_autofit([example(str(number)) for number in range(3)])


def test_it_ends_early_and_keeps_the_best(tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path) -> None:
    model = tiny_model("Bert")
    cost = train(model, training_rows, tmp_path)
    tuned = cost["autofit"]
    losses = [entry["loss"] for entry in tuned["evaluations"]]
    assert cost["updates"] < 12 * 4
    assert cost["updates"] == tuned["evaluations"][-1]["update"]
    assert tuned["best_loss"] == min(losses)
    assert losses[-1] > min(losses)
    assert tuned["best_update"] == tuned["evaluations"][len(losses) - 1 - module.PATIENCE]["update"]
    assert tuned["rows_set_aside"] == 10
    validation_split = [replace(row, label=1 - row.label) if n % 3 == 0 else row for n, row in enumerate(training_rows[:10])]
    assert mean_loss(TASK, model, validation_split) == pytest.approx(min(losses), abs=1e-3)


def test_each_evaluation_without_a_lower_loss_halves_the_rate(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    real = module._trainer

    def watched(*arguments: Any) -> Any:
        trainer = real(*arguments)
        trainer.add_callback(type("Watch", (module.TrainerCallback,), {"on_step_begin": note}))
        return trainer

    def note(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        rates.append(kwargs["optimizer"].param_groups[0]["lr"])

    monkeypatch.setattr(module, "_trainer", watched)
    train(tiny_model("Bert"), training_rows, tmp_path)
    assert max(rates) == pytest.approx(0.03)
    assert rates[0] < 0.03
    assert rates[-1] == pytest.approx(0.03 / 4)  # of three evaluations the last one also ended it


@pytest.mark.slow
def test_it_goes_on_after_a_stop_as_if_there_had_been_none(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_model("Bert")
    wanted = train(whole, training_rows, tmp_path / "whole")
    stop_after = wanted["updates"] - 3  # patience has begun to wear out
    real = module.StopOnSignal.on_step_end

    def press(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == stop_after:
            signal.raise_signal(signal.SIGINT)
        real(self, args, state, control, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(module.StopOnSignal, "on_step_end", press)
        patched.setattr(signal, "default_int_handler", None)
        with pytest.raises(Interrupted):
            train(tiny_model("Bert"), training_rows, tmp_path / "parts")
    rest = tiny_model("Bert")
    found = train(rest, training_rows, tmp_path / "parts", resume=True)
    assert found["autofit"] == wanted["autofit"]
    assert found["updates"] == wanted["updates"]
    torch.testing.assert_close(weights(rest), weights(whole), rtol=0, atol=1e-6)
