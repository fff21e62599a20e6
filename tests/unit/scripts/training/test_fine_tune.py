"""Training learns, can be stopped at any update, and goes on as if it never had been."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from app.core.errors import InvalidSettings
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training import fine_tune as module
from scripts.training.fine_tune import fine_tune
from scripts.training.recipe import Recipe
from scripts.training.run_folder import Interrupted, RunFolder
from scripts.training.training_setup import default_epochs

TASK = TextClassificationTraining()
RECIPE = Recipe(data=["x"], epochs=3, batch_size=8, learning_rate=0.01, precision="fp32", epoch_tokens=[6, 12])
UPDATES = 15


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell starts background jobs, such as CI, with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def watch(monkeypatch: pytest.MonkeyPatch, on_step_end: Callable[[int], None]) -> None:
    """Call a function with the number of each update."""

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            on_step_end(state.global_step)

    real = module.TrainingProgress

    class Both(real, Watch):  # type: ignore[misc, valid-type]
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            real.on_step_end(self, *arguments, **named)
            Watch.on_step_end(self, *arguments, **named)

    monkeypatch.setattr(module, "TrainingProgress", Both)


def weights(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def train(model: Any, rows: list[TrainingRow], folder: Path, resume: bool = False, recipe: Recipe = RECIPE) -> dict[str, Any]:
    return fine_tune(recipe, TASK, model, rows, RunFolder(folder), resume)


def test_training_learns_and_says_what_it_cost(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model("Bert")
    first = train(model, training_rows, tmp_path / "first")
    cost = train(model, training_rows, tmp_path)
    assert (cost["epochs"], cost["updates"], cost["precision"], cost["resumed_after_updates"]) == (3, UPDATES, "fp32", 0)
    assert cost["loss"] < first["loss"]
    assert cost["seconds"] > 0
    assert RunFolder(tmp_path).last_checkpoint == tmp_path / f"checkpoint-{UPDATES}"
    output, errors = capfd.readouterr()
    assert output == ""
    assert "training 100%  loss " in errors
    assert "accuracy " in errors


@pytest.mark.parametrize("stop_after", [pytest.param(2, marks=pytest.mark.slow), 7, pytest.param(13, marks=pytest.mark.slow)])
def test_a_run_stopped_by_ctrl_c_goes_on_as_if_it_had_not_been(
    stop_after: int, tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_model("Bert")
    train(whole, training_rows, tmp_path / "whole")

    with monkeypatch.context() as patched:
        watch(patched, lambda update: signal.raise_signal(signal.SIGINT) if update == stop_after else None)
        with pytest.raises(Interrupted) as stopped:
            train(tiny_model("Bert"), training_rows, tmp_path / "parts")
    saved = stopped.value.checkpoint
    assert saved is not None
    assert int(saved.name.rpartition("-")[2]) in (stop_after, stop_after + 1)

    rest = tiny_model("Bert")
    cost = train(rest, training_rows, tmp_path / "parts", resume=True)
    assert cost["resumed_after_updates"] in (stop_after, stop_after + 1)
    assert cost["updates"] == UPDATES
    torch.testing.assert_close(weights(rest), weights(whole), rtol=0, atol=1e-6)


def test_ctrl_c_means_what_it_did_before_once_training_is_over(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    train(tiny_model("Bert"), training_rows, tmp_path / "a")
    assert signal.getsignal(signal.SIGINT) is before
    watch(monkeypatch, lambda update: signal.raise_signal(signal.SIGINT) if update == 2 else None)
    with pytest.raises(Interrupted):
        train(tiny_model("Bert"), training_rows, tmp_path / "b")
    assert signal.getsignal(signal.SIGINT) is before


def test_the_last_checkpoints_are_averaged_also_by_a_run_that_goes_on(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole = replace(RECIPE, average_checkpoints=3), tiny_model("Bert")
    cost = train(whole, training_rows, tmp_path / "whole", recipe=recipe)
    assert cost["averaged_after_updates"] == [12, 14, UPDATES]
    states = [load_file(folder / "model.safetensors") for folder in RunFolder(tmp_path / "whole").checkpoints[-3:]]
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(weight, sum(state[name] for state in states) / 3)
    assert not torch.equal(states[-1]["classifier.weight"], whole.classifier.weight)
    with monkeypatch.context() as patched:
        watch(patched, lambda update: signal.raise_signal(signal.SIGINT) if update == 13 else None)
        with pytest.raises(Interrupted):
            train(tiny_model("Bert"), training_rows, tmp_path / "parts", recipe=recipe)
    rest = tiny_model("Bert")
    cost = train(rest, training_rows, tmp_path / "parts", resume=True, recipe=recipe)
    assert cost["averaged_after_updates"] == [12, 14, UPDATES]
    torch.testing.assert_close(weights(rest), weights(whole), rtol=0, atol=1e-6)


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_last_checkpoint(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(update: int) -> None:
        if update == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    watch(monkeypatch, twice)
    with pytest.raises(Interrupted) as stopped:
        train(tiny_model("Bert"), training_rows, tmp_path)
    assert stopped.value.checkpoint == tmp_path / "checkpoint-4"


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one-cycle": {"schedule": "one-cycle"},
    "cosine": {"schedule": "cosine"},
    "thawing": {"gradual_unfreezing": True},
    "weighted": {"class_weights": "balanced", "label_smoothing": 0.1},
    "accumulated": {"micro_batch": 2, "hidden_dropout": 0.1},
}
SLOW_VARIANTS = [pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "plain"]


@pytest.mark.parametrize("name", ["plain", *SLOW_VARIANTS])
def test_the_seed_repeats_a_run_to_the_last_bit(
    name: str, tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, **VARIANTS[name])
    made = []
    for number in range(2):
        torch.manual_seed(number)  # whatever was drawn before
        model = tiny_model("Bert", hidden_dropout_prob=recipe.hidden_dropout)
        train(model, training_rows, tmp_path / str(number), recipe=recipe)
        made.append(weights(model))
    assert torch.equal(*made)
    other = tiny_model("Bert")
    train(other, training_rows, tmp_path / "other", recipe=replace(recipe, seed=14))
    assert not torch.equal(weights(other), made[0])


@pytest.mark.slow
def test_a_training_in_bf16_leaves_the_next_one_of_the_process_in_fp32(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    first, second = tiny_model("Bert"), tiny_model("Bert")
    train(first, training_rows, tmp_path / "first")
    train(tiny_model("Bert"), training_rows, tmp_path / "bf16", recipe=replace(RECIPE, precision="bf16"))
    train(second, training_rows, tmp_path / "second")
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("name", [pytest.param("one-cycle", marks=pytest.mark.slow), "thawing"])
def test_a_stopped_run_goes_on_with_its_schedule_and_with_what_had_thawed(
    name: str, tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, **VARIANTS[name])
    whole = tiny_model("Bert")
    train(whole, training_rows, tmp_path / "whole", recipe=recipe)
    with monkeypatch.context() as patched:
        watch(patched, lambda update: signal.raise_signal(signal.SIGINT) if update == 7 else None)
        with pytest.raises(Interrupted):
            train(tiny_model("Bert"), training_rows, tmp_path / "parts", recipe=recipe)
    rest = tiny_model("Bert")
    train(rest, training_rows, tmp_path / "parts", resume=True, recipe=recipe)
    torch.testing.assert_close(weights(rest), weights(whole), rtol=0, atol=1e-6)


def test_an_update_is_the_same_however_many_rows_are_computed_at_once(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    made = []
    for at_once in (8, 2):
        model = tiny_model("Bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        recipe = replace(RECIPE, micro_batch=at_once, epochs=2, epoch_tokens=[])
        train(model, training_rows[:8], tmp_path / str(at_once), recipe=recipe)
        made.append(weights(model))
    assert float((made[0] - made[1]).abs().mean()) < 1e-4
    assert float((made[0] - weights(tiny_model("Bert"))).abs().mean()) > 1e-3


def test_frozen_layers_keep_their_weights(tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path) -> None:
    model, before = tiny_model("Bert"), tiny_model("Bert")
    train(model, training_rows, tmp_path, recipe=replace(RECIPE, epochs=1, freeze=1))
    for name, now in model.named_parameters():
        is_frozen = name.startswith(("bert.embeddings", "bert.encoder.layer.0"))
        assert torch.equal(now, before.get_parameter(name)) == is_frozen, name


def test_a_longest_gradient_of_almost_nothing_trains_almost_nothing(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    losses = []
    for longest in (0.0, 1e-12):
        recipe = replace(RECIPE, max_grad_norm=longest)
        losses.append(train(tiny_model("Bert"), training_rows, tmp_path / str(longest), recipe=recipe)["loss"])
    assert losses[0] < losses[1] - 0.05


def test_the_cost_tells_speed_padding_and_memory(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cost = train(tiny_model("Bert"), training_rows, tmp_path)
    assert cost["tokens_per_s"] > 0
    assert 0 < cost["padding_share"] < 0.4
    assert cost["peak_memory_bytes"] > 2**26
    assert cost["processes"] == 1
    said = capfd.readouterr().err
    assert re.search(r"training       about \d+ s left for 11 updates at [\d,]+ tokens/s; memory \d\.\d GiB", said)


def test_a_run_stopped_before_its_first_checkpoint_has_none(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(update: int) -> None:
        raise KeyboardInterrupt

    watch(monkeypatch, stop)
    with pytest.raises(Interrupted) as stopped:
        train(tiny_model("Bert"), training_rows, tmp_path)
    assert stopped.value.checkpoint is None


def test_a_crash_keeps_the_last_checkpoint(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(update: int) -> None:
        if update == 9:
            raise RuntimeError("out of memory")

    watch(monkeypatch, crash)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tiny_model("Bert"), training_rows, tmp_path)
    assert RunFolder(tmp_path).last_checkpoint == tmp_path / "checkpoint-8"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_off_the_main_thread_leaves_signals_alone(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    costs: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: costs.append(train(tiny_model("Bert"), training_rows, tmp_path)))
    thread.start()
    thread.join()
    assert costs[0]["updates"] == UPDATES


def test_accuracy_is_told_under_label_smoothing_too(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(tiny_model("Bert"), training_rows, tmp_path, recipe=replace(RECIPE, epochs=1, label_smoothing=0.1))
    assert "accuracy –" not in capfd.readouterr().err


def test_label_smoothing_of_several_labels_is_refused(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    model = tiny_model("Bert", problem_type="multi_label_classification")
    with pytest.raises(InvalidSettings, match=r"label_smoothing is 0\.1"):
        train(model, training_rows, tmp_path, recipe=replace(RECIPE, label_smoothing=0.1))


@pytest.mark.parametrize(
    ("rows", "labels", "epochs"),
    [(320, 2, 12), (8_002, 77, 9), (4_000, 4, 5), (6_920, 2, 3), (43_924, 2, 2), (1_000_000, 2, 2)],
)
def test_small_sets_are_seen_more_often(rows: int, labels: int, epochs: int) -> None:
    assert default_epochs(rows, 32, labels) == epochs
