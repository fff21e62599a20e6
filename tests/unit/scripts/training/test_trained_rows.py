"""The record of what a version was trained on: hashes alone, found by the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.core.manifest import Manifest, read_manifest
from app.tasks.text_classification.task import ClassificationItem
from scripts.training.data import Dataset, Example
from scripts.training.trained_rows import find, keep, weights_id, without_trained_on
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


def test_held_out_rows_that_the_base_was_trained_on_are_left_out(tmp_path: Path) -> None:
    manifest, runs = manifest_of(tmp_path / "models"), tmp_path / "runs"
    keep(runs / "any", manifest, Dataset([example("a good film")], [example("a bad film")], []))
    data = Dataset([example("a film")], [example("A good film"), example("a bad film"), example("bad")], [])
    kept, note = without_trained_on(data, manifest, runs)
    assert [row.item.text for row in kept.validation] == ["a bad film", "bad"]
    assert kept.train == data.train
    assert note.startswith("1 rows left out of the held-out ones: tiny/1")


def test_what_the_base_of_the_base_was_trained_on_is_known_too(tmp_path: Path) -> None:
    manifest, runs = manifest_of(tmp_path / "models"), tmp_path / "runs"
    versions = [renumbered(manifest, number) for number in (1, 2, 3)]
    before = None
    for version, text in zip(versions, ("first film", "second film", "third film"), strict=True):
        keep(runs / "any", version, Dataset([example(text)], [example(f"{text} held out")], []), before)
        before = find(version, runs)
    assert before is not None
    items = [ClassificationItem(text) for text in ("first film", "second film", "third film", "first film held out")]
    assert before.parts_of(items) == ["train", "train", "train", ""]


def renumbered(manifest: Manifest, number: int) -> Manifest:
    """Another version, with other weights."""
    file = manifest.files[manifest.graph.file].model_copy(update={"sha256": str(number) * 64})
    return manifest.model_copy(update={"version": number, "files": {**manifest.files, manifest.graph.file: file}})


def test_a_training_whose_held_out_rows_are_all_known_is_refused(tmp_path: Path) -> None:
    manifest, runs = manifest_of(tmp_path / "models"), tmp_path / "runs"
    keep(runs / "any", manifest, Dataset([example("a good film")], [], []))
    with pytest.raises(InvalidSettings, match=r"all 1 rows that would be held out were trained on by tiny/1.*--validation"):
        without_trained_on(Dataset([example("a film")], [example("a good film")], []), manifest, runs)


def test_it_is_said_where_nothing_is_known_of_the_base(tmp_path: Path) -> None:
    data = Dataset([example("a film")], [example("a good film")], [])
    kept, note = without_trained_on(data, manifest_of(tmp_path / "models"), tmp_path / "runs")
    assert kept == data
    assert "is not known" in note
