"""A published version is read back out of its graph, answers as before, and hands its head on where that fits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.manifest import read_manifest
from scripts.export.export import export_graph
from scripts.export.import_checkpoint import ImportRequest, import_checkpoint
from scripts.export.optimize import optimize, quantize_weights
from scripts.export.pooling import KEY, pooling_of
from scripts.export.published_checkpoint import RestoredVersion, read_weights, restore
from scripts.tasks import training_task
from scripts.tasks.feature_extraction.modules import LayerSpec, SentenceModules, find_modules, write_modules
from scripts.training.pretrained import BaseModel, load_model
from scripts.training.recipe import Recipe
from tests.unit.scripts.conftest import Export, make_model, save_checkpoint

LARGE = {"hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 8, "intermediate_size": 256}
"""Its matrices are large enough to be rounded; its heads are of a size that is tried first, and not the first that is."""
LABELS = ["good", "bad", "so-so"]
OPTIONS = {"labels": LABELS, "problem_type": "single_label_classification"}
CLASSIFICATION = training_task("text-classification")


def publish(source: Path, models: Path, storage: Any = "fp32", task: Any = None) -> Path:
    recipe = Recipe(name=source.name, models=str(models), license="MIT")
    labels = LABELS if task is None and transformers.AutoConfig.from_pretrained(source).num_labels == 3 else []
    return import_checkpoint(ImportRequest(str(source), recipe, task, labels, storage, ""), lambda stage, text: None)


@pytest.mark.parametrize(
    ("family", "head", "axis"),
    [
        ("Bert", "SequenceClassification", "row"),
        ("Bert", "QuestionAnswering", "token"),
        ("Roberta", "SequenceClassification", "row"),
        ("Electra", "SequenceClassification", "row"),
        ("MPNet", "SequenceClassification", "row"),
        ("DistilBert", "SequenceClassification", "row"),
    ],
)
def test_each_weight_of_a_model_is_found_in_its_graph(
    family: str, head: str, axis: Any, export: Export, tmp_path: Path
) -> None:
    exported = export(family, head, axis)
    optimize(exported.file, tmp_path / "model.onnx")
    modules = read_weights(tmp_path / "model.onnx", exported.graph).modules
    body = f"{exported.model.base_model_prefix}."
    for name, weights in exported.model.named_parameters():
        path, _, kind = name.rpartition(".")
        stored = modules.get(path) or modules[path.removeprefix(body)]
        assert np.array_equal(stored[kind], weights.detach().numpy()), name


def test_layers_that_the_padded_graph_calls_by_their_names_are_found_too(tmp_path: Path) -> None:
    model = make_model("DistilBert")
    graph = export_graph(model, "row", tmp_path / "exported.onnx", may_pack=False)
    optimize(tmp_path / "exported.onnx", tmp_path / "model.onnx")
    stored = read_weights(tmp_path / "model.onnx", graph).modules["distilbert.transformer.layer.1.ffn.lin2"]["weight"]
    assert np.array_equal(stored, model.distilbert.transformer.layer[1].ffn.lin2.weight.detach().numpy())


@pytest.mark.parametrize(("storage", "largest"), [("int8", 0.02), ("fp16", 0.002)])
def test_rounded_weights_are_what_the_service_computes_with(
    storage: Any, largest: float, export: Export, tmp_path: Path
) -> None:
    exported = export("Bert")
    optimize(exported.file, tmp_path / "optimized.onnx")
    graph = quantize_weights(tmp_path / "optimized.onnx", tmp_path / "model.onnx", exported.graph, storage, min_weights=64)
    stored = read_weights(tmp_path / "model.onnx", graph).modules["bert.encoder.layer.0.output.dense"]["weight"]
    error = np.abs(stored - exported.model.bert.encoder.layer[0].output.dense.weight.detach().numpy()).max()
    assert 0 < error < largest


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three labels whose weights are stored as int8."""
    folder = tmp_path_factory.mktemp("published")
    return publish(save_checkpoint(folder / "films", **LARGE), folder / "models", "int8")


def base_of(checkpoint: RestoredVersion) -> BaseModel:
    return BaseModel(checkpoint.location, checkpoint.name, checkpoint.manifest)


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.tensor([[2, 5, 9, 11, 3], [2, 6, 12, 7, 3]])).logits
    return logits


def test_a_version_that_was_rounded_is_restored_as_it_answers(published: Path) -> None:
    assert read_manifest(published).graph.storage == "int8"
    checkpoint = restore(published)
    assert (checkpoint.name, checkpoint.tokenizer) == ("films/1", (published / "tokenizer.json").read_text(encoding="utf-8"))
    model = load_model(Recipe(), CLASSIFICATION, OPTIONS, base_of(checkpoint))
    original = transformers.AutoModelForSequenceClassification.from_pretrained(published.parents[2] / "films")
    error = (logits_of(model) - logits_of(original)).abs().max()
    assert 0 < error < 0.1 * logits_of(original).abs().max()  # by as much as int8 costs, and not more


def test_it_is_restored_once(published: Path) -> None:
    assert restore(published).location == restore(published.parent / "1").location


def test_a_head_of_the_same_labels_is_kept_in_the_order_of_the_new_ones(published: Path) -> None:
    base = base_of(restore(published))
    before = load_model(Recipe(), CLASSIFICATION, OPTIONS, base)
    after = load_model(Recipe(), CLASSIFICATION, {**OPTIONS, "labels": sorted(LABELS)}, base)
    assert not before.head_is_new
    assert not after.head_is_new
    assert torch.allclose(logits_of(before)[:, [1, 0, 2]], logits_of(after), atol=1e-5)
    assert after.config.id2label == {0: "bad", 1: "good", 2: "so-so"}


@pytest.mark.parametrize(
    "options",
    [
        {**OPTIONS, "labels": ["good", "bad", "dull"]},
        {**OPTIONS, "labels": ["good", "bad"]},
        {**OPTIONS, "problem_type": "multi_label_classification"},
    ],
)
def test_other_labels_begin_with_a_head_drawn_from_the_seed_on_the_same_body(published: Path, options: dict[str, Any]) -> None:
    base = base_of(restore(published))
    kept = load_model(Recipe(), CLASSIFICATION, OPTIONS, base)
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = load_model(Recipe(), CLASSIFICATION, options, base)
        assert model.head_is_new
        assert torch.equal(model.bert.pooler.dense.weight, kept.bert.pooler.dense.weight)
        assert model.classifier.weight.std() < 0.1 < kept.classifier.weight.std()
        heads.append(model.classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_another_task_begins_with_a_new_head_and_without_the_mean(published: Path) -> None:
    checkpoint = restore(published)
    config = transformers.AutoConfig.from_pretrained(checkpoint.location)
    setattr(config, KEY, "mean")
    model = load_model(Recipe(), training_task("question-answering"), {}, with_config(checkpoint, config))
    assert model.head_is_new
    assert pooling_of(model) == "first"
    assert not hasattr(model.config, KEY)


def with_config(checkpoint: RestoredVersion, config: Any) -> BaseModel:
    folder = Path(shutil.copytree(checkpoint.location, f"{checkpoint.location}-mean"))
    config.save_pretrained(folder)
    return replace(base_of(checkpoint), location=str(folder))


def test_a_head_that_reads_the_mean_reads_it_again(tmp_path: Path) -> None:
    folder = publish(save_checkpoint(tmp_path / "films", **{KEY: "mean"}), tmp_path / "models")
    assert read_manifest(folder).graph.outputs[0].pooling == "mean"
    assert pooling_of(load_model(Recipe(), CLASSIFICATION, OPTIONS, base_of(restore(folder)))) == "mean"


@pytest.mark.parametrize(
    "family",
    ["Roberta", *(pytest.param(family, marks=pytest.mark.slow) for family in ("Bert", "Electra", "MPNet", "DistilBert"))],
)
def test_a_body_whose_vectors_were_published_is_restored_with_all_that_lies_behind_it(family: str, tmp_path: Path) -> None:
    source = save_checkpoint(tmp_path / "vectors", family, "MaskedLM")
    said = SentenceModules("", ("max", "mean"), (LayerSpec("Normalize"),), prompts={"query": "the film"}, max_tokens=32)
    write_modules(source, said, 16)
    restored = find_modules(restore(publish(source, tmp_path / "models", task="feature-extraction")).location)
    assert restored == replace(said, transformer=restored.transformer if restored else "")


def test_a_classifier_begins_with_the_body_of_a_version_that_gives_vectors(tmp_path: Path) -> None:
    source = save_checkpoint(tmp_path / "vectors")
    base = base_of(restore(publish(source, tmp_path / "models", task="feature-extraction")))
    model = load_model(Recipe(), CLASSIFICATION, OPTIONS, base)
    body = transformers.AutoModel.from_pretrained(source)
    assert model.head_is_new
    assert torch.equal(model.bert.encoder.layer[1].output.dense.weight, body.encoder.layer[1].output.dense.weight)


def test_numbers_stay_the_same_on_the_scale_of_new_rows(tmp_path: Path) -> None:
    folder = publish(save_checkpoint(tmp_path / "films", num_labels=1, problem_type="regression"), tmp_path / "models")
    training, base = training_task("text-regression"), base_of(restore(folder))
    before = load_model(Recipe(), training, {"labels": ["score"], "scale": 1.0, "offset": 0.0}, base)
    after = load_model(Recipe(), training, {"labels": ["score"], "scale": 4.0, "offset": 30.0}, base)
    assert torch.allclose(logits_of(before), logits_of(after) * 4 + 30, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "config", "reason"),
    [
        (
            "Albert",
            {},
            r"its graph is of none of the kinds that can be read back \(bert, distilbert, electra, mpnet, roberta\)",
        ),
        ("Bert", {"hidden_act": "silu"}, "as bert its graph is not what transformers computes"),
    ],
)
def test_a_version_of_another_kind_is_refused_with_what_to_begin_with(
    family: str, config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = publish(save_checkpoint(tmp_path / "films", family, **config), tmp_path / "models")
    with pytest.raises(InvalidSettings, match=f"^films/1 cannot be trained further: {reason}.*made from, films$"):
        restore(folder)
