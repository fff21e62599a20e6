"""An encoder's products and a model's texts are measured in fp32 and in int7, and these compute about the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.core.manifest import read_manifest
from scripts.bench.encoder_forms import engines_of, main, write_products
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import publish_tiny
from tests.unit.scripts.export.test_published import with_product

SHAPE = ("--width", "256", "--inner", "256", "--layers", "1", "--turns", "1")


def test_products_and_texts_are_told_beside_fp32(tmp_path: Path) -> None:
    folder = with_product(publish_tiny(tmp_path))
    report = tmp_path / "forms.json"
    words = ["--model", str(folder), "--tokens", "64", "--texts", "2", *SHAPE, "--output", str(report)]
    assert main(words) == 0
    told = json.loads(report.read_text())
    assert told["products"].keys() == {"64"}
    assert told["texts"].keys() == {"2 short", "1 long"}
    for figures in (*told["products"].values(), *told["texts"].values()):
        assert figures["times_as_fast"] == pytest.approx(figures["fp32"]["ms"] / figures["int7"]["ms"], rel=0.2)


def test_a_model_without_such_products_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish_tiny(tmp_path)
    sign_again(folder, graph=read_manifest(folder).graph.model_dump(mode="json") | {"storage": "int8"})
    assert main(["--model", str(folder), "--tokens", "64", *SHAPE]) == 2
    assert "has no large products" in capsys.readouterr().err


def test_products_in_int7_are_nearly_those_of_fp32(tmp_path: Path) -> None:
    engines = engines_of(tmp_path, write_products(tmp_path / "model.onnx", 256, 512, 1))
    x = np.random.default_rng(1).normal(size=(1, 3, 256)).astype(np.float32)
    exact, rounded = (engine.share_session().run(["y"], {"x": x}, None)[0] for engine in engines.values())
    assert 0 < np.abs(exact - rounded).mean() < 0.05 * exact.std()
