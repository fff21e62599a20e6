"""Weights that learn and weights that do not; adapters that are merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from app.core.errors import InvalidSettings, SetupError
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.fine_tune import fine_tune
from scripts.training.recipe import Recipe
from scripts.training.run_folder import RunFolder
from scripts.training.weights import GradualUnfreezing, add_adapters, average_weights, freeze, merge_adapters
from tests.support.tiny_causal import model_of
from tests.support.tiny_writer import FAMILIES


def learning(model: Any) -> set[str]:
    """Which parts of the body have weights that learn."""
    parts = set()
    for name, weights in getattr(model, model.base_model_prefix).named_parameters():
        words = name.split(".")
        number = next((word for word in words if word.isdecimal()), "")
        if weights.requires_grad:
            parts.add(f"layer {number}" if number else words[0])
    return parts


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Electra"])
@pytest.mark.parametrize(
    ("wish", "left"), [(-1, {"layer 0", "layer 1", "embeddings"}), (0, {"layer 0", "layer 1"}), (1, {"layer 1"})]
)
def test_embeddings_and_first_layers_can_be_frozen(family: str, wish: int, left: set[str], tiny_model: Any) -> None:
    model = tiny_model(family)
    freeze(Recipe(data=["x"], freeze=wish), model)
    assert learning(model) - {"pooler", "embeddings_project"} == left
    assert all(entry.requires_grad for name, entry in model.named_parameters() if "classifier" in name)


def test_more_layers_than_there_are_cannot_be_frozen(tiny_model: Any) -> None:
    with pytest.raises(InvalidSettings, match="freeze is 3, but the model has only 2 layers"):
        freeze(Recipe(data=["x"], freeze=3), tiny_model("Bert"))


def test_layers_that_share_their_weights_cannot_be_frozen(tiny_model: Any) -> None:
    with pytest.raises(InvalidSettings, match="the layers of AlbertForSequenceClassification"):
        freeze(Recipe(data=["x"], freeze=0), tiny_model("Albert"))


def begin(callback: GradualUnfreezing, epoch: float) -> None:
    callback.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)


def test_one_layer_more_learns_in_each_epoch(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    thaw = GradualUnfreezing(model)
    found = []
    for epoch in (0, 1, 2, 3):
        begin(thaw, epoch)
        found.append(learning(model) - {"pooler"})
    assert found == [{"layer 1"}, {"layer 0", "layer 1"}, *2 * [{"embeddings", "layer 0", "layer 1"}]]


def test_a_resumed_run_knows_what_had_thawed(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    begin(GradualUnfreezing(model), 1.4)
    assert learning(model) - {"pooler"} == {"layer 0", "layer 1"}


def test_what_is_frozen_for_good_does_not_thaw(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    freeze(Recipe(data=["x"], freeze=1, gradual_unfreezing=True), model)
    thaw = GradualUnfreezing(model)
    begin(thaw, 9)
    assert learning(model) - {"pooler"} == {"layer 1"}


RECIPE = Recipe(data=["x"], epochs=3, batch_size=8, learning_rate=0.02, precision="fp32", lora_rank=2)
IDS = torch.tensor([[2, 5, 6, 7, 3]])


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Electra"])
def test_only_adapters_and_head_learn_and_merging_changes_no_answer(family: str, tiny_model: Any) -> None:
    model = tiny_model(family)
    plain = sorted(model.state_dict())
    learner = add_adapters(RECIPE, model)
    learning = [name for name, weights in learner.named_parameters() if weights.requires_grad]
    assert learning
    assert all("lora_" in name or "classifier" in name or "pooler" in name for name in learning)
    for name, weights in learner.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    learner.eval()
    before = learner(input_ids=IDS)["logits"]
    merge_adapters(learner)
    assert sorted(model.state_dict()) == plain
    torch.testing.assert_close(model.eval()(input_ids=IDS)["logits"], before, rtol=1e-4, atol=1e-4)


def test_a_model_trained_through_adapters_is_a_plain_one_that_learned(
    tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path
) -> None:
    task = TextClassificationTraining()
    model, before = tiny_model("Bert"), tiny_model("Bert")
    first = fine_tune(replace(RECIPE, epochs=0.4), task, tiny_model("Bert"), training_rows, RunFolder(tmp_path / "a"), False)
    cost = fine_tune(RECIPE, task, model, training_rows, RunFolder(tmp_path / "b"), False)
    assert cost["loss"] < first["loss"]
    assert sorted(model.state_dict()) == sorted(before.state_dict())
    embeddings = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(model.get_parameter(embeddings), before.get_parameter(embeddings))
    changed = "bert.encoder.layer.0.attention.self.query.weight"
    difference = (model.get_parameter(changed) - before.get_parameter(changed)).detach()
    assert torch.linalg.matrix_rank(difference, rtol=1e-3) == 2
    model.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("adapter*"))


@pytest.mark.slow
def test_a_killed_run_with_adapters_goes_on(tiny_model: Any, training_rows: list[TrainingRow], tmp_path: Path) -> None:
    task, run = TextClassificationTraining(), RunFolder(tmp_path)
    whole = tiny_model("Bert")
    fine_tune(RECIPE, task, whole, training_rows, run, False)
    last = run.checkpoints[-1]
    last.rename(tmp_path / "lost")  # as if it had been killed before it wrote the last one
    rest = tiny_model("Bert")
    assert fine_tune(RECIPE, task, rest, training_rows, run, True)["resumed_after_updates"] == 14
    for name, weights in rest.state_dict().items():
        torch.testing.assert_close(weights, whole.state_dict()[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama tied, with biases", "gpt2", "t5", "bart"])
def test_of_a_model_that_writes_adapters_learn_and_no_copy_of_its_output(family: str) -> None:
    model = FAMILIES[family](40) if family in FAMILIES else model_of(family)
    learner = add_adapters(RECIPE, model)
    assert all("lora_" in name for name, weights in learner.named_parameters() if weights.requires_grad)
    merge_adapters(learner)
    assert not any("lora_" in name for name, _ in model.named_parameters())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_weights_are_averaged_whatever_of_them_is_tied(tmp_path: Path) -> None:
    model = _bart()
    folders = [tmp_path / f"checkpoint-{number}" for number in (1, 2)]
    for folder, value in zip(folders, (1.0, 4.0), strict=True):
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(value)
        model.save_pretrained(folder)
    average_weights(model, folders)
    assert all(bool((weight == 2.5).all()) for weight in model.parameters())
    assert model.lm_head.weight is model.model.shared.weight
    (folders[0] / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(SetupError, match=r"checkpoint-1/model\.safetensors cannot be read"):
        average_weights(model, folders)


def _bart() -> Any:
    config = transformers.BartConfig(
        vocab_size=14, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)
