"""A run that must end in time, and what long inputs cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training import budget as module
from scripts.training.budget import BudgetPlan, Deadline, length_cost, shorten, shortened, within_budget
from scripts.training.fine_tune import fine_tune
from scripts.training.recipe import Recipe
from scripts.training.run_folder import RunFolder
from scripts.training.trainer import make_schedule
from scripts.training.training_setup import set_up_training

TASK = TextClassificationTraining()
RECIPE = Recipe(data=["x"], batch_size=8, learning_rate=0.01, precision="fp32", budget="1h")
PER_EPOCH = 5


def test_a_budget_that_is_long_enough_changes_nothing(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    model = tiny_model("Bert")
    before = model.classifier.weight.detach().clone()
    found = within_budget(set_up_training(RECIPE, TASK, model, training_rows), model, tmp_path / "run")
    assert found.updates == 12 * PER_EPOCH
    assert found.tokens_per_s > 0
    assert found.trial_s > 0
    assert torch.equal(model.classifier.weight, before)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_budget_that_is_too_short_for_an_epoch_buys_a_part_of_it(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("Bert")
    course = set_up_training(RECIPE, TASK, model, training_rows)
    tokens = course.workload.tokens[0]
    assert [module._updates(course, share * tokens) for share in (0, 0.1, 0.5, 1, 2.5, 100)] == [1, 1, 2, 5, 12, 60]


@pytest.mark.slow
def test_a_run_tells_what_its_budget_became_and_a_resumed_one_keeps_to_it(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    recipe = replace(RECIPE, budget="90s")
    cost = fine_tune(recipe, TASK, tiny_model("Bert"), training_rows, run, False)
    assert cost["budget"]["asked"] == "90s"
    assert cost["budget"]["updates"] == cost["updates"]
    assert cost["epochs"] == cost["updates"] / PER_EPOCH
    run.settle({**cost["budget"], "updates": 7})
    monkeypatch.setattr("scripts.training.fine_tune.within_budget", None)  # nothing is measured again
    for checkpoint in run.checkpoints:
        checkpoint.rename(tmp_path / f"other-{checkpoint.name}")
    assert fine_tune(recipe, TASK, tiny_model("Bert"), training_rows, run, True)["updates"] == 7


def test_a_new_run_forgets_what_an_earlier_one_settled(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.settle({"updates": 7})
    assert run.stored_length == {"updates": 7}
    run.start(RECIPE)
    assert run.stored_length is None


def test_a_run_is_shortened_once_it_would_be_late() -> None:
    assert shortened(done=10, updates=100, pace_s=1, left_s=90, slack_s=5) == 100
    assert shortened(done=10, updates=100, pace_s=1, left_s=86, slack_s=5) == 100
    assert shortened(done=10, updates=100, pace_s=2, left_s=90, slack_s=5) == 52
    assert shortened(done=10, updates=100, pace_s=2, left_s=-1, slack_s=5) == 10


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one-cycle"])
def test_the_schedule_of_a_shortened_run_ends_with_it(schedule: Any) -> None:
    recipe = replace(RECIPE, schedule=schedule)
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=recipe.learning_rate)
    scheduler = make_schedule(recipe, 100)(optimizer)
    for update in range(60):
        if update == 40:
            shorten(scheduler, recipe, 60)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


def test_a_run_on_a_machine_that_got_slower_ends_in_time(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)

    class Slow(Deadline):
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            clock.now += 100
            super().on_step_end(*arguments, **named)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("scripts.training.fine_tune.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("scripts.training.fine_tune.Deadline", Slow)
    monkeypatch.setattr("scripts.training.fine_tune.within_budget", lambda *_: BudgetPlan(60, 1000, 1.0))
    run = RunFolder(tmp_path)
    cost = fine_tune(RECIPE, TASK, tiny_model("Bert"), training_rows, run, False)
    assert 30 <= cost["updates"] <= 36
    assert clock.now <= 3600
    assert cost["budget"]["updates"] == cost["updates"]


def test_memory_and_work_grow_faster_than_the_length(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    short, long = (length_cost(Recipe(), model, length) for length in (1024, 8192))
    assert short is not None
    assert long is not None
    assert long.serving_bytes == 64 * short.serving_bytes
    assert long.training_bytes > 4 * short.training_bytes  # of the short ones four are computed at once
    assert long.work > 8 * short.work
    assert "texts of 8,192 tokens need about " in str(long)


def test_a_model_that_does_not_say_its_sizes_is_not_estimated(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    model.config.num_attention_heads = None
    assert length_cost(Recipe(), model, 1024) is None
