"""`hooper models fp16`: a version gets its form in fp16 where that decides alike; else nothing is published."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.core.manifest import describe_file, read_manifest, refuse_unlisted, verify_files
from app.runtime.providers import Provider, for_model
from scripts import add_fp16
from scripts.export import variants as forms
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import publish_tiny

ITEMS = ("good film", "bad", "the film was very good .", "not good films", "a bad bad film")


@pytest.fixture(params=["packed", "padded"])
def models(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    publish_tiny(tmp_path / "models", layout=request.param)
    (tmp_path / "texts.txt").write_text("\n".join(ITEMS), encoding="utf-8")
    return tmp_path / "models"


def add(models: Path, model: str) -> int:
    return add_fp16.main([model, "--models", str(models), "--data", str(models.parent / "texts.txt")])


def test_the_next_version_has_the_form_and_what_was_measured(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(models, "tiny/1") == 0
    before, after = read_manifest(models / "tiny" / "1"), read_manifest(models / "tiny" / "2")
    verify_files(models / "tiny" / "2", after)
    refuse_unlisted(models / "tiny" / "2", after)
    assert after.graph.variants == {"fp16": "model.fp16.onnx"}
    assert after.graph.file_for("fp16") == "model.fp16.onnx"
    assert after.files["model.onnx"] == before.files["model.onnx"]
    assert set(after.files) - set(before.files) == {"model.fp16.onnx"}
    measured = after.parity["fp16"]
    assert (measured.rows, measured.agreement, measured.passed) == (len(ITEMS), 1.0, True)
    assert 0 < measured.max_abs_error < 0.05
    assert after.parity["fp32"] == before.parity["fp32"]
    assert "cpu" not in before.engines  # as of versions that were published before engines were tried
    assert after.engines["cpu"].runs
    assert for_model(Provider("cuda", "fp32", "a GPU"), after, has_int8=False).precision == "fp16"
    assert "decided as in fp32" in capsys.readouterr().out


def test_who_has_the_form_gets_no_other(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(models, "tiny/1") == 0
    assert add(models, "tiny/2") == 2
    assert "has the form that computes in fp16 already" in capsys.readouterr().err
    assert not (models / "tiny" / "3").exists()


def test_a_form_that_leaves_fp16_is_refused_and_nothing_is_published(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = models / "tiny" / "1"
    model = onnx.load(folder / "model.onnx")
    weights = max((one for one in model.graph.initializer if one.data_type == 1), key=lambda one: int(np.prod(one.dims)))
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1e5), weights.name))
    onnx.save(model, folder / "model.onnx")
    sign_again(folder)
    assert add(models, "tiny/1") == 2
    assert "the form that computes in fp16 decides otherwise too often: agreement 0.0000" in capsys.readouterr().err
    assert [one.name for one in (models / "tiny").iterdir()] == ["1"]


def test_other_forms_of_the_version_are_kept(models: Path) -> None:
    folder = models / "tiny" / "1"
    shutil.copyfile(folder / "model.onnx", folder / "model.int8.onnx")
    manifest = read_manifest(folder)
    graph = manifest.graph.model_copy(update={"variants": {"int8": "model.int8.onnx"}}).model_dump(mode="json")
    entry = describe_file(folder / "model.int8.onnx").model_dump()
    files = {name: one.model_dump() for name, one in manifest.files.items()} | {"model.int8.onnx": entry}
    sign_again(folder, graph=graph, files=files)
    assert add(models, "tiny/1") == 0
    after = read_manifest(models / "tiny" / "2")
    verify_files(models / "tiny" / "2", after)
    assert after.graph.variants == {"int8": "model.int8.onnx", "fp16": "model.fp16.onnx"}


def test_of_many_items_some_are_drawn_and_the_manifest_says_how_many(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forms, "VARIANTS", {"fp16": replace(forms.HALF, most_rows=3)})
    assert add(models, "tiny/1") == 0
    assert "3 of them are drawn" in capsys.readouterr().out
    assert read_manifest(models / "tiny" / "2").parity["fp16"].rows == 3
