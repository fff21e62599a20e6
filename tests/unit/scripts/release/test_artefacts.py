"""The bill of materials names the models, and each of them must answer."""

from __future__ import annotations

import venv
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import SetupError
from scripts.release.artefacts import Environment, ask_models, model_component, published_manifests
from tests.support.live_service import ROOT


def test_every_shipped_model_is_a_component_with_its_graphs_checksum_and_its_licence() -> None:
    shipped = published_manifests(ROOT / "models")
    assert {manifest.name for manifest in shipped} >= {"qa", "sentiment", "summary"}
    for manifest in shipped:
        component = model_component(manifest)
        assert component["type"] == "machine-learning-model"
        assert component["hashes"] == [{"alg": "SHA-256", "content": manifest.files["model.onnx"].sha256}]
        assert component["licenses"][0]["license"]["name"].startswith("Apache-2.0")


class Answering:
    """A service with the shipped models; keeps what each was asked, and refuses some."""

    def __init__(self, refuses: str = "") -> None:
        self.asked: dict[str, Any] = {}
        self._refuses = refuses

    def get(self, path: str) -> Any:
        return {
            "models": [
                {"name": manifest.name, "version": manifest.version} for manifest in published_manifests(ROOT / "models")
            ]
        }

    def post(self, path: str, body: Any) -> Any:
        self.asked[path] = body["inputs"]
        if path == self._refuses:
            raise OSError(f"{path} answers 500")
        return {}


def test_every_shipped_model_is_asked_with_an_item_of_its_golden_requests() -> None:
    service = Answering()
    answered, problems = ask_models(service, ROOT / "models")  # type: ignore[arg-type]
    assert len(answered) == len(service.asked) >= 3
    assert problems == []
    assert isinstance(service.asked["/models/sentiment"], str)
    assert set(service.asked["/models/qa"]) == {"question", "context"}


def test_a_model_that_does_not_answer_is_told() -> None:
    _, problems = ask_models(Answering("/models/qa"), ROOT / "models")  # type: ignore[arg-type]
    assert problems == ["qa/2 does not answer: /models/qa answers 500"]


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
