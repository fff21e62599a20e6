"""A head that reads the mean over a text's tokens: in torch, in the graph, after loading, and where it cannot be."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export.export import export_model
from scripts.export.import_checkpoint import open_checkpoint
from scripts.export.pooling import is_pooled_by_mean, pool_by_mean, pooling_of, restore_pooling
from scripts.export.torch_reference import TorchRunner
from scripts.tasks import training_task
from scripts.training.distillation import open_teacher

PACKED = ["Bert", "Roberta", "Electra", "DistilBert", "Albert", "MPNet"]
TOLERANCE = 5e-5


def logits_of(model: Any, row: Row) -> np.ndarray:
    return np.asarray(TorchRunner(model, "row").run_alone(row)["logits"])


@pytest.fixture
def pooled(tiny_model: Any) -> Any:
    model = tiny_model("Bert")
    pool_by_mean(model)
    return model


@torch.no_grad()
def test_the_head_reads_the_mean_over_the_tokens_of_a_text_and_over_no_padding(
    tiny_model: Any, pooled: Any, rows: list[Row]
) -> None:
    plain = tiny_model("Bert")
    row = rows[2]
    hidden = plain.bert(torch.tensor([row.input_ids]), token_type_ids=torch.tensor([row.token_type_ids])).last_hidden_state
    mean = hidden.mean(1)
    expected = plain.classifier(torch.tanh(plain.bert.pooler.dense(mean)))[0].numpy()
    assert np.abs(logits_of(plain, row) - expected).max() > 0.01
    np.testing.assert_allclose(logits_of(pooled, row), expected, atol=TOLERANCE)
    together = TorchRunner(pooled, "row").run_together([*rows, row])[-1]["logits"]
    np.testing.assert_allclose(together, expected, atol=TOLERANCE)


@torch.no_grad()
def test_without_a_mask_every_token_counts(pooled: Any, rows: list[Row]) -> None:
    row = Row(rows[2].input_ids, [0] * rows[2].num_tokens)
    logits = pooled(input_ids=torch.tensor([row.input_ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, logits_of(pooled, row), atol=TOLERANCE)


@pytest.mark.parametrize(
    "family",
    [name if name in ("Bert", "DistilBert", "MPNet") else pytest.param(name, marks=pytest.mark.slow) for name in PACKED],
)
def test_a_packed_graph_pools_as_torch_does(family: str, tiny_model: Any, rows: list[Row], tmp_path: Path) -> None:
    model = tiny_model(family)
    pool_by_mean(model)
    exported = export_model(model, "row", rows, tmp_path)
    assert exported.graph.layout == "packed"
    assert exported.graph.outputs[0].pooling == "mean"
    session = EncoderEngine(exported.file, exported.graph, choose_provider("cpu"), num_threads=1)
    for output, row in zip(session.run_rows(rows), rows, strict=True):
        np.testing.assert_allclose(output["logits"], logits_of(model, row), atol=TOLERANCE)


def test_a_padded_graph_pools_as_torch_does(
    pooled: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.export.export.is_packable", lambda model: False)
    exported = export_model(pooled, "row", rows, tmp_path)
    assert exported.graph.layout == "padded"
    session = EncoderEngine(exported.file, exported.graph, choose_provider("cpu"), num_threads=1)
    for output, row in zip(session.run_rows(rows), rows, strict=True):
        np.testing.assert_allclose(output["logits"], logits_of(pooled, row), atol=TOLERANCE)


def test_a_model_that_is_saved_loaded_or_copied_goes_on_pooling(pooled: Any, rows: list[Row], tmp_path: Path) -> None:
    pooled.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    restore_pooling(loaded)
    for model in (loaded, copy.deepcopy(pooled)):
        assert pooling_of(model) == "mean"
        np.testing.assert_allclose(logits_of(model, rows[3]), logits_of(pooled, rows[3]), atol=TOLERANCE)


def test_a_checkpoint_that_pools_by_the_mean_is_opened_so_for_publishing_and_as_a_teacher(
    tiny_model: Any, save: Any, rows: list[Row]
) -> None:
    folder = save("films", problem_type="single_label_classification")
    pooled = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    pool_by_mean(pooled)
    pooled.save_pretrained(folder)
    training = training_task("text-classification")
    teacher = open_teacher(str(folder), training, {"labels": [f"LABEL_{index}" for index in range(3)]})
    for model in (open_checkpoint(str(folder)).model, teacher.model):
        assert pooling_of(model) == "mean"
        np.testing.assert_allclose(logits_of(model, rows[3]), logits_of(pooled, rows[3]), atol=TOLERANCE)


def test_pooling_twice_is_pooling_once(pooled: Any, rows: list[Row]) -> None:
    before = logits_of(pooled, rows[3])
    pool_by_mean(pooled)
    np.testing.assert_array_equal(logits_of(pooled, rows[3]), before)


def test_other_models_read_their_first_token(tiny_model: Any) -> None:
    model = tiny_model("Bert")
    restore_pooling(model)
    assert pooling_of(model) == "first"


@pytest.mark.parametrize("family", ["GPT2", "Bart", "XLNet"])
def test_what_reads_texts_in_a_way_of_its_own_is_refused(family: str, tiny_model: Any) -> None:
    with pytest.raises(InvalidSettings, match="mean pooling is for encoders such as BERT"):
        pool_by_mean(tiny_model(family))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, False),
        ({"pooling_mode_cls_token": True}, False),
        ({"pooling_mode": "mean"}, True),
        ("no settings", False),
        (None, False),
    ],
)
def test_a_sentence_encoder_says_by_what_it_was_trained(settings: Any, expected: bool, tmp_path: Path) -> None:
    if settings is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(
            json.dumps(settings) if isinstance(settings, dict) else settings, encoding="utf-8"
        )
    assert is_pooled_by_mean(str(tmp_path)) is expected
