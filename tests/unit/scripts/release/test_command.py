"""The bill of materials names the models, and each of them must answer."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.release.artefacts import ASKED, Environment
from scripts.release.command import manifests, model_component
from tests.support.live_service import ROOT


def test_every_shipped_model_is_a_component_with_its_graphs_checksum_and_its_licence() -> None:
    shipped = manifests(ROOT / "models")
    assert {one.name for one in shipped} >= {"qa", "sentiment", "summary"}
    for one in shipped:
        component = model_component(one)
        assert component["type"] == "machine-learning-model"
        assert component["hashes"] == [{"alg": "SHA-256", "content": one.files["model.onnx"].sha256}]
        assert component["licenses"][0]["license"]["name"].startswith("Apache-2.0")


def test_every_task_of_a_shipped_model_is_asked() -> None:
    assert {one.task for one in manifests(ROOT / "models")} <= set(ASKED)


def test_an_environment_of_its_own_does_not_see_what_is_on_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "stranger.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    venv.create(tmp_path / "own", with_pip=False)
    environment = Environment(tmp_path / "own")
    assert environment.run("python", "-c", "print(1)") == "1\n"
    with pytest.raises(SetupError, match="No module named 'stranger'"):
        environment.run("python", "-c", "import stranger")
