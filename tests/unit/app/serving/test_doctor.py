"""`hooper doctor`: what it finds on this machine and in the models."""

from __future__ import annotations

import json
import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.artefact import write_serving
from app.runtime.providers import Machine
from app.serving import doctor
from app.serving.doctor import Finding, examine
from app.settings import Settings
from tests.support.mutated_model import sign_again

PLAIN = Machine(frozenset({"CPUExecutionProvider"}), False, False, False, False, False, False, 2)


@pytest.fixture
def found(models: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    monkeypatch.setattr(doctor, "detect_machine", lambda: PLAIN)
    monkeypatch.setattr(doctor, "available_bytes", lambda: 8_000_000_000)
    return look(models)


def look(models: Path, device: str = "auto") -> dict[str, Finding]:
    return {entry.what: entry for entry in examine(Settings(models=models, device=device))}  # type: ignore[arg-type]


def test_a_sound_installation_has_nothing_to_complain_about(found: dict[str, Finding]) -> None:
    assert all(match.ok for match in found.values())
    assert list(found) == ["packages", "machine", "memory", "device", "keys", "tiny/1"]
    assert "onnxruntime" in found["packages"].detail
    assert found["packages"].detail.startswith(f"CPython {platform.python_version()}, ")
    assert found["memory"].detail == "8000 MB are free to this process"
    assert found["keys"].detail == "API keys: none; admin keys: 0; on 127.0.0.1, port 8000"
    assert found["machine"].detail == "2 cores, no bf16, no fast int8, no NVIDIA GPU, no OpenVINO plug-in"
    assert found["device"].detail.startswith("CPUExecutionProvider in fp32 (")
    assert found["tiny/1"].detail.startswith("text-classification, checksums match, ")
    assert re.search(r"MB, answers as published, on .*ExecutionProvider.* in \w+ with \d+ threads?$", found["tiny/1"].detail)


def test_what_the_engine_runs_on_is_what_it_says_itself(models: Path) -> None:
    (model,) = [entry for entry in examine(Settings(models=models, device="cpu", engine_threads=3)) if entry.what == "tiny/1"]
    assert model.detail.endswith("answers as published, on CPUExecutionProvider in fp32 with 3 threads")


def test_cuda_graphs_that_cannot_be_had_are_told(models: Path) -> None:
    settings = Settings(models=models, device="cpu", cuda_graphs=True)
    (model,) = [entry for entry in examine(settings) if entry.what == "tiny/1"]
    assert not model.ok
    assert "HOOPER_CUDA_GRAPHS=true needs HOOPER_DEVICE=cuda" in model.detail


def test_a_model_that_answers_otherwise_than_when_it_was_published_is_bad(models: Path) -> None:
    folder = models / "tiny" / "1"
    golden = json.loads((folder / "golden.json").read_text())
    golden[0]["answer"]["labels"][0]["score"] = 0.1
    (folder / "golden.json").write_text(json.dumps(golden))
    sign_again(folder)
    model = look(models, "cpu")["tiny/1"]
    assert not model.ok
    assert "is answered differently than when it was published" in model.detail


def test_older_versions_are_checked_and_not_loaded(models: Path) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    found = look(models, "cpu")
    assert found["tiny/1"].detail.endswith("not the latest, not loaded")
    assert "answers as published" in found["tiny/2"].detail


def test_the_version_that_a_rollback_left_serving_is_the_one_that_is_loaded(models: Path) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    write_serving(models / "tiny", 1, "loaded")
    found = look(models, "cpu")
    assert "answers as published" in found["tiny/1"].detail
    assert found["tiny/2"].detail.endswith("tiny/1 serves, not loaded")
    write_serving(models / "tiny", 7, "loaded")
    found = look(models, "cpu")
    assert not found["tiny"].ok
    assert found["tiny/1"].detail.endswith("no version serves, not loaded")


def test_a_version_that_the_settings_name_is_the_one_that_is_loaded(models: Path) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    write_serving(models / "tiny", 7, "loaded")
    found = {entry.what: entry for entry in examine(Settings(models=models, device="cpu", serve=("tiny/1",)))}
    assert "answers as published" in found["tiny/1"].detail
    assert found["tiny/2"].detail.endswith("tiny/1 serves, not loaded")
    assert "tiny" not in found


def test_an_error_that_nobody_expected_is_that_models_finding(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise TypeError("no")

    monkeypatch.setattr(doctor, "load", broken)
    model = look(models, "cpu")["tiny/1"]
    assert (model.ok, model.detail) == (False, "loading failed (TypeError('no'))")


def test_a_default_that_there_is_not_is_told(models: Path) -> None:
    settings = Settings(models=models, device="cpu", default_models={"summarization": "nobody"})
    (found,) = [entry for entry in examine(settings) if entry.what == "defaults"]
    assert found.detail == "HOOPER_DEFAULT_MODELS names nobody for summarization, but there is no such model"


def test_a_default_for_a_task_that_there_is_none_of_is_told(models: Path) -> None:
    found = examine(Settings(models=models, device="cpu", default_models={"chat": "tiny"}))
    assert [(entry.what, entry.detail.split(";")[0]) for entry in found if not entry.ok] == [
        ("tasks", "HOOPER_DEFAULT_MODELS: there is no task 'chat'")
    ]


def test_an_address_that_others_reach_without_a_key_is_bad(models: Path) -> None:
    found = {entry.what: entry for entry in examine(Settings(models=models, device="cpu", host="0.0.0.0"))}
    assert not found["keys"].ok
    assert "HOOPER_API_KEY_HASHES" in found["keys"].detail


def test_the_file_of_settings_and_what_is_wrong_with_keys_or_a_certificate_are_findings(models: Path, tmp_path: Path) -> None:
    settings = Settings(
        models=models, device="cpu", config="/a.toml", api_key_hashes_file=str(tmp_path / "no"), ssl_keyfile="/k.pem"
    )
    found = {entry.what: entry for entry in examine(settings)}
    assert found["settings"].detail.startswith("/a.toml is read; `hooper settings --values` shows each value")
    assert (found["keys"].ok, found["tls"].ok) == (False, False)
    assert "cannot be read: No such file or directory" in found["keys"].detail
    assert found["tls"].detail.startswith("HOOPER_SSL_KEYFILE=/k.pem is set without HOOPER_SSL_CERTFILE")


@pytest.mark.parametrize(("free", "ok"), [(100_000_000, False), (None, True)])
def test_too_little_memory_is_bad(models: Path, monkeypatch: pytest.MonkeyPatch, free: int | None, ok: bool) -> None:
    monkeypatch.setattr(doctor, "available_bytes", lambda: free)
    assert look(models)["memory"].ok is ok


@pytest.mark.parametrize(
    ("has", "words"),
    [
        ({"has_bf16": True}, "multiplies bf16"),
        ({"integers": ("int8", "int7")}, "multiplies int8,"),
        ({"integers": ("int7",)}, "multiplies int8 by weights of 7 bits"),
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
