"""Few rows from Python: the first fit begins with a probe, the next goes on from its model and pools as it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.manifest import read_manifest
from hooper import get_dataset, text_classifier

OPTIONS: dict[str, Any] = {"precision": "fp32", "schedule": "linear"}


@pytest.fixture
def trainer(reviews: Path, sentence_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(reviews.parent)
    model = text_classifier.get_model(sentence_encoder)
    return text_classifier.create_trainer(model, *get_dataset(reviews.name), **OPTIONS)


def test_a_second_fit_goes_on_from_the_head_of_the_first_and_pools_as_it_did(trainer: Any, tmp_path: Path) -> None:
    trainer.fit(epochs=1)
    first = json.loads((tmp_path / "runs" / "reviews" / "cost.json").read_text(encoding="utf-8"))
    assert first["probe"]["folds"] == 5
    assert first["batch_size"] == 16
    trainer.fit(epochs=1)
    second = json.loads((tmp_path / "runs" / "reviews.fit2" / "cost.json").read_text(encoding="utf-8"))
    assert "probe" not in second
    assert read_manifest(trainer.save("reviews")).graph.outputs[0].pooling == "mean"


def test_a_fit_may_choose_its_head(trainer: Any) -> None:
    trainer.fit(epochs=1, head="random")
    assert read_manifest(trainer.save("reviews")).graph.outputs[0].pooling == "first"
