"""`hooper models int8`: what can have no int8 arithmetic is refused in a sentence, and nothing is published."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.manifest import read_manifest
from scripts import add_int8
from scripts.published_again import find
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import publish_tiny


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "models")
    (tmp_path / "texts.txt").write_text("good film\nbad\n", encoding="utf-8")
    return tmp_path / "models"


def add(models: Path, model: str) -> int:
    return add_int8.main([model, "--models", str(models), "--data", str(models.parent / "texts.txt")])


def test_a_version_that_is_not_stored_as_int8_is_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(models, "tiny/1") == 2
    assert "is stored as fp32; only models stored as int8 have a form that multiplies int8" in capsys.readouterr().err
    assert [one.name for one in (models / "tiny").iterdir()] == ["1"]


def test_a_graph_without_an_int8_product_is_refused_and_leaves_nothing(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models / "tiny" / "1"
    graph = read_manifest(folder).graph.model_dump(mode="json") | {"storage": "int8"}
    sign_again(folder, graph=graph)
    assert add(models, "tiny/1") == 2
    assert "has no part that multiplies int8" in capsys.readouterr().err
    assert [one.name for one in (models / "tiny").iterdir()] == ["1"]


def test_a_version_that_is_not_there_is_told(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(models, "tiny/7") == 2
    assert "there is no version tiny/7" in capsys.readouterr().err
    assert find("tiny/1", models) == models / "tiny" / "1"
