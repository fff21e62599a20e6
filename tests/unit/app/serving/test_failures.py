"""Models that could not be loaded: what is told of them, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import InvalidArtefact
from app.core.manifest import MANIFEST, read_manifest
from app.serving.failures import failed_model, without_paths


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ("{root}/tiny/1/model.onnx differs from its checksum", "model.onnx differs from its checksum"),
        ("{root}/tiny/1 is a symbolic link", "1 is a symbolic link"),
        ("{root}/tiny/serving.json cannot be read", "serving.json cannot be read"),
        ("Load model from {root}/tiny/1/model.onnx failed:Protobuf", "Load model from model.onnx failed:Protobuf"),
        ("'/opt/my models/x' is gone", "'my models/x' is gone"),
        ("Exception from src/inference/src/cpp/core.cpp:117", "Exception from src/inference/src/cpp/core.cpp:117"),
        ("see https://example.org/a/b and answer/question", "see https://example.org/a/b and answer/question"),
        ("~/models/tiny and ../models/tiny/1 (in /tmp/x)", "tiny and 1 (in x)"),
        ("tiny/1: golden request 0 is answered differently", "tiny/1: golden request 0 is answered differently"),
    ],
)  # fmt: skip
def test_files_are_called_by_their_names_alone(tmp_path: Path, detail: str, told: str) -> None:
    root = tmp_path / "some models"
    assert without_paths(detail.format(root=root), root / "tiny") == told


def test_a_relative_repository_is_not_told_either(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert without_paths("models/tiny/1/manifest.json cannot be read", Path("models/tiny")) == "manifest.json cannot be read"
    assert without_paths(f"{tmp_path}/models/tiny/1/a.json is bad", Path("models/tiny")) == "a.json is bad"


def test_an_error_that_nobody_expected_is_told_by_its_kind_alone(models: Path) -> None:
    failed = failed_model("tiny", 1, models / "tiny", PermissionError(13, "Permission denied", "/secret/place"))
    assert (failed.id, failed.detail) == ("tiny/1", "loading failed (PermissionError)")


@pytest.mark.parametrize("kept", [400, 100_000], ids=["cut off", "whole"])
def test_what_a_broken_model_does_and_since_when_is_read_from_what_is_left(models: Path, kept: int) -> None:
    whole = (models / "tiny" / "1" / MANIFEST).read_text()
    (models / "tiny" / "1" / MANIFEST).write_text(whole[:kept])
    failed = failed_model("tiny", 1, models / "tiny", InvalidArtefact("broken"))
    assert failed.task == "text-classification"


def test_a_name_without_a_version_that_could_be_meant_is_told_by_its_name(models: Path) -> None:
    failed = failed_model("nobody", None, models / "nobody", InvalidArtefact("it is not there"))
    assert (failed.id, failed.task, failed.first_published) == ("nobody", "", "")
    assert read_manifest(models / "tiny" / "1").task == failed_model("tiny", None, models / "tiny", InvalidArtefact("")).task
