"""Callbacks hear what a training does, and one that fails ends it in a sentence; trackers are callbacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.core.errors import InvalidSettings, SetupError
from scripts.tasks import training_task
from scripts.tasks.spec import TrainingRow
from scripts.training.callbacks import Callback, CallbackBridge, ExperimentTracker, check_trackers, notify, parameters
from scripts.training.fine_tune import fine_tune, history_of
from scripts.training.recipe import Recipe
from scripts.training.run_folder import RunFolder
from tests.unit.scripts.conftest import MakeModel


class Listener(Callback):
    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, float]]] = []

    def on_train_begin(self, metrics: Mapping[str, float]) -> None:
        self.heard.append(("begin", dict(metrics)))

    def on_log(self, metrics: Mapping[str, float]) -> None:
        self.heard.append(("log", dict(metrics)))

    def on_epoch_end(self, metrics: Mapping[str, float]) -> None:
        self.heard.append(("epoch", dict(metrics)))

    def on_train_end(self, metrics: Mapping[str, float]) -> None:
        self.heard.append(("end", dict(metrics)))


def train(tiny_model: MakeModel, rows: Sequence[TrainingRow], folder: Path, *callbacks: Any) -> RunFolder:
    recipe, run = Recipe(data=["a.csv"], epochs=2, batch_size=10, learning_rate=1e-3), RunFolder(folder)
    model = tiny_model("Bert", num_labels=2)
    fine_tune(recipe, training_task("text-classification"), model, rows, run, False, callbacks=callbacks)
    return run


def test_each_epoch_is_told_with_its_loss_and_the_report_gets_every_update(
    tiny_model: MakeModel, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    listener = Listener()
    run = train(tiny_model, training_rows, tmp_path, listener)
    names = [name for name, _ in listener.heard]
    assert (names[0], names[-1], names.count("epoch"), names.count("log")) == ("begin", "end", 2, 8)
    assert listener.heard[0][1]["updates"] == 8
    epochs = [metrics for name, metrics in listener.heard if name == "epoch"]
    assert [metrics["epoch"] for metrics in epochs] == [1, 2]
    assert all(metrics["loss"] > 0 for metrics in epochs)
    history = run.history
    assert [entry["update"] for entry in history["train"]] == list(range(1, 9))
    assert history["validation"] == []
    assert max(entry["learning_rate"] for entry in history["train"]) <= 1e-3


def test_a_resumed_run_has_the_curve_of_all_its_updates() -> None:
    logs = [{"step": 1, "loss": 0.5, "learning_rate": 1e-4}, {"step": 1, "eval_loss": 0.4}, {"step": 2, "loss": float("nan")}]
    assert history_of([*logs, {"step": 3, "train_runtime": 1.0}]) == {
        "train": [{"update": 1, "loss": 0.5, "learning_rate": 1e-4}],
        "validation": [{"update": 1, "loss": 0.4}],
    }


def test_an_exception_in_a_callback_ends_the_run_with_its_name(
    tiny_model: MakeModel, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    class Broken(Callback):
        def on_epoch_end(self, metrics: Mapping[str, float]) -> None:
            raise ValueError("no such column")

    with pytest.raises(SetupError, match=r"callback Broken.on_epoch_end raised ValueError: no such column"):
        train(tiny_model, training_rows, tmp_path, Broken())


def test_a_callback_needs_only_the_methods_that_it_has_use_for() -> None:
    class Short:
        told = 0

        def on_epoch_end(self, metrics: Mapping[str, float]) -> None:
            self.told += 1

    short: Any = Short()
    bridge, state = CallbackBridge([short]), SimpleNamespace(global_step=1, epoch=1.0, max_steps=1)
    bridge.on_train_begin(None, state, None)
    bridge.on_epoch_end(None, state, None)
    assert short.told == 1


def test_tensorboard_gets_parameters_metrics_and_the_versions_path(tmp_path: Path) -> None:
    tracker = ExperimentTracker("tensorboard", Recipe(name="films", data=["a.csv"], runs=str(tmp_path)))
    notify([tracker], "on_log", {"update": 3, "epoch": 0.5, "loss": 0.25, "learning_rate": 1e-4})
    notify([tracker], "on_publish", {"accuracy": 0.75}, tmp_path / "films" / "1")
    tracker.close()
    events = EventAccumulator(str(tmp_path / "films" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(3, 0.25)]
    assert [event.value for event in events.Scalars("held_out/accuracy")] == [0.75]
    assert any("artefact" in tag for tag in events.Tags()["tensors"])


def test_parameters_are_the_recipe_in_values_that_a_tracker_stores() -> None:
    stored = parameters(Recipe(data=["a.csv", "b.csv"], learning_rate=2e-4))
    assert (json.loads(stored["data"]), stored["learning_rate"], stored["autofit"]) == (["a.csv", "b.csv"], 2e-4, False)


def test_a_tracker_that_is_unknown_or_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match="log_to must be one of mlflow, wandb, tensorboard, not 'neptune'"):
        check_trackers(["neptune"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidSettings, match="run `pip install wandb`"):
        check_trackers(["wandb"])
