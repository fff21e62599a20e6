"""The learning-rate finder suggests a rate at which the loss falls, and leaves the model alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.errors import InvalidSettings, SetupError
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.learning_rate import HIGHEST, LOWEST, Curve, LossWatch, checked, find_learning_rate, plot, rate_at
from scripts.training.recipe import Recipe

RECIPE = Recipe(data=["x"], batch_size=8, precision="fp32")
RATES = [10.0**power for power in range(-9, 3)]
LOSSES = [4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.9, 3.0, 2.8, 2.7, 2.9, 9.0]


def curve() -> Curve:
    return Curve(RATES, LOSSES, LOSSES)


def test_the_suggestion_is_the_lower_of_steepest_descent_and_a_tenth_of_the_minimum() -> None:
    assert curve().minimum == RATES[9]
    assert curve().steepest in (RATES[6], RATES[7])
    assert curve().suggestion == pytest.approx(min(curve().steepest, curve().minimum / 10))
    late = [4.0] * 6 + [3.99, 3.98, 3.97, 1.0, 0.9, 9.0]
    assert Curve(RATES, late, late).suggestion == pytest.approx(RATES[9])


def test_the_rate_rises_by_the_same_factor_from_the_lowest_to_the_highest() -> None:
    found = [rate_at(update, 101) for update in (0, 50, 100)]
    assert found == pytest.approx([LOWEST, (LOWEST * HIGHEST) ** 0.5, HIGHEST])


def test_a_tiny_model_gets_a_rate_at_which_it_learns_and_is_left_as_it_was(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    model = tiny_model("Bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = find_learning_rate(RECIPE, TextClassificationTraining(), model, training_rows, tmp_path / "run")
    assert 1e-5 < found.suggestion < 0.1
    assert found.suggestion <= found.minimum / 9
    assert len(found.rates) == len(found.losses) <= 200
    assert min(found.smoothed) < found.smoothed[5]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_it_stops_once_the_loss_has_diverged() -> None:
    watch, control = LossWatch(100), type("Control", (), {"should_training_stop": False})
    for update in range(100):
        watch.on_log(None, None, control, {"loss": 1.0 if update < 40 else 50.0})
        if control.should_training_stop:
            break
    assert 40 <= len(watch.curve.rates) <= 43


def test_a_loss_that_is_no_number_ends_it_and_is_left_out() -> None:
    watch, control = LossWatch(100), type("Control", (), {"should_training_stop": False})
    for loss in (1.0, 1.0, float("nan")):
        watch.on_log(None, None, control, {"loss": loss})
    assert control.should_training_stop
    assert watch.curve.losses == [1.0, 1.0]


def test_a_loss_that_never_falls_gives_no_suggestion() -> None:
    rising = [float(number) for number in range(12)]
    with pytest.raises(InvalidSettings, match="does not fall"):
        checked(Curve(RATES, rising, rising))
    with pytest.raises(InvalidSettings, match="is no number"):
        checked(Curve(RATES[:4], rising[:4], rising[:4]))


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_the_curve_is_drawn(suffix: str, magic: bytes, tmp_path: Path) -> None:
    file = plot(curve(), tmp_path / "new folder" / f"curve{suffix}")
    assert file.read_bytes().startswith(magic)


def test_a_picture_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"must end in one of \.svg, \.png, \.pdf"):
        plot(curve(), tmp_path / "curve.jpg")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        plot(curve(), tmp_path / "file" / "curve.svg")
