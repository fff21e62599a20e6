"""`hooper doctor`: what it finds on this machine and in the models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.runtime.machine import Machine
from app.serving import doctor
from app.serving.doctor import Finding, examine
from app.settings import Settings

PLAIN = Machine(frozenset({"CPUExecutionProvider"}), False, False, False, False, False, 2)


@pytest.fixture
def found(models: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    monkeypatch.setattr(doctor, "detect_machine", lambda: PLAIN)
    return look(models)


def look(models: Path, device: str = "auto") -> dict[str, Finding]:
    return {one.what: one for one in examine(Settings(models=models, device=device))}  # type: ignore[arg-type]


def test_a_sound_installation_has_nothing_to_complain_about(found: dict[str, Finding]) -> None:
    assert all(one.ok for one in found.values())
    assert list(found) == ["packages", "machine", "device", "tiny/1"]
    assert "onnxruntime" in found["packages"].detail
    assert found["machine"].detail == "2 cores, no bf16, no NVIDIA GPU, no OpenVINO plug-in"
    assert found["device"].detail.startswith("CPUExecutionProvider in fp32 (")
    assert found["tiny/1"].detail.startswith("text-classification, checksums match, ")


@pytest.mark.parametrize(
    ("has", "words"),
    [
        ({"has_bf16": True}, "multiplies bf16"),
        ({"has_nvidia_driver": True}, "an NVIDIA GPU answers"),
        ({"has_openvino_plugin": True}, "does not offer this processor"),
        ({"has_openvino_plugin": True, "has_openvino": True}, "OpenVINO can be used"),
    ],
)
def test_the_machine_is_described(models: Path, monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], words: str) -> None:
    monkeypatch.setattr(doctor, "detect_machine", lambda: replace(PLAIN, **has))
    assert words in look(models)["machine"].detail


def test_a_device_that_is_not_there_is_bad_and_says_what_to_install(found: dict[str, Finding], models: Path) -> None:
    device = look(models, "cuda")["device"]
    assert not device.ok
    assert "hooper[gpu]" in device.detail


def test_two_onnxruntimes_side_by_side_are_bad(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda _: "1.0")
    packages = look(models)["packages"]
    assert not packages.ok
    assert "overwrite each other" in packages.detail


def test_an_altered_model_is_bad_and_the_others_are_still_looked_at(found: dict[str, Finding], models: Path) -> None:
    (models / "tiny" / "1" / "tokenizer.json").write_text("{}")
    assert not look(models)["tiny/1"].ok
    assert look(models)["device"].ok


def test_no_models_are_bad(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no published model" in look(tmp_path / "empty")["models"].detail
    assert "HOOPER_MODELS" in look(tmp_path / "nowhere")["models"].detail
    assert not look(tmp_path / "empty")["models"].ok
    assert not look(tmp_path / "nowhere")["models"].ok
