"""The record of what a version was trained on: hashes alone, found by the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.core.manifest import Manifest, read_manifest
from app.tasks.text_classification.task import ClassificationItem
from scripts.training.data import Dataset, Example
from scripts.training.trained_rows import find, keep, weights_id
from tests.support.tiny_model import publish_tiny


def example(text: str, label: str = "good") -> Example:
    return Example(ClassificationItem(text), label, "a.csv", "a.csv:2")


def manifest_of(models: Path) -> Manifest:
    publish_tiny(models)
    return read_manifest(models / "tiny" / "1")


def test_rows_are_known_again_whatever_their_case_and_spaces(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "models")
    keep(tmp_path / "runs" / "any", manifest, Dataset([example("A good  film")], [example("a bad film")], []))
    record = find(manifest, tmp_path / "runs")
    assert record is not None
    items = [ClassificationItem(text) for text in ("a GOOD film ", "A bad film", "another film")]
    assert record.parts_of(items) == ["train", "validation", ""]


def test_the_record_holds_no_text_and_each_has_its_own_salt(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "models")
    dataset = Dataset([example("a good film")], [example("a bad film")], [])
    first, second = (json.loads(keep(tmp_path / name, manifest, dataset).read_text()) for name in ("one", "two"))
    assert "film" not in json.dumps(first)
    assert first["train"] != second["train"]


def test_a_version_with_the_same_weights_finds_the_record_and_one_with_others_does_not(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "models")
    keep(tmp_path / "runs" / "any", manifest, Dataset([example("a film")], [example("a good film")], []))
    file: Any = manifest.files[manifest.graph.file]
    variant = manifest.model_copy(update={"version": 2, "files": {**manifest.files, "model.int8.onnx": file}})
    other = file.model_copy(update={"sha256": "0" * 64})
    retrained = manifest.model_copy(update={"files": {**manifest.files, manifest.graph.file: other}})
    assert find(variant, tmp_path / "runs") is not None
    assert find(retrained, tmp_path / "runs") is None
    external = manifest.model_copy(update={"files": {**manifest.files, f"{manifest.graph.file}.data": other}})
    assert weights_id(external) != weights_id(manifest)  # weights beside the graph are weights


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "models")
    path = keep(tmp_path / "runs" / "any", manifest, Dataset([example("a film")], [example("a good film")], []))
    path.write_text("{")
    assert find(manifest, tmp_path / "runs") is None
