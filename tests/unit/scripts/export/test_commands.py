"""`hooper models add`: what was published elsewhere becomes the next version here, and needs nothing that trains."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.archive import pack
from app.core.artefact import open_artefact
from scripts.export import commands
from scripts.export.commands import add
from tests.support.tiny_model import publish_tiny


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOOPER_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version of another machine."""
    return publish_tiny(tmp_path / "elsewhere", version=7)


def test_an_archive_and_a_folder_become_the_next_versions(version: Path, models: Path, tmp_path: Path) -> None:
    pack(version, tmp_path / "tiny.tar.gz")
    assert add([str(tmp_path / "tiny.tar.gz")]) == 0
    assert add([str(version)]) == 0
    assert add([str(version), "--name", "other"]) == 0
    for name, number in (("tiny", 1), ("tiny", 2), ("other", 1)):
        manifest = open_artefact(models / name / str(number)).manifest
        assert (manifest.name, manifest.version) == (name, number)
        assert manifest.first_published > manifest.created  # it came here today, whenever it was made
        assert {path.name for path in (models / name / str(number)).iterdir()} == {path.name for path in version.iterdir()}
    assert sorted(path.name for path in models.iterdir()) == ["other", "tiny"]


def test_an_altered_folder_is_refused_and_leaves_nothing(
    version: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (version / "golden.json").write_text("[]")
    assert add([str(version)]) == 2
    assert "differs from the checksum" in capsys.readouterr().err
    assert not list(models.rglob("*"))


def test_an_archive_that_is_none_is_one_sentence(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"hello")
    assert add([str(tmp_path / "a.tar.gz")]) == 2
    assert add([str(tmp_path / "missing.tar.gz")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_what_only_a_checkpoint_needs_is_refused_for_an_archive(
    version: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add([str(version), "--labels", "a", "b"]) == 2
    assert "--labels is for checkpoints" in capsys.readouterr().err


def test_adding_an_archive_needs_no_torch(version: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_import_checkpoint", lambda *rest: pytest.fail("a checkpoint was imported"))
    assert add([str(shutil.copytree(version, models.parent / "copy"))]) == 0


def test_the_options_are_known_without_what_trains() -> None:
    code = "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'onnx', 'onnxruntime', 'tqdm')))"
    code += "; from scripts.export import commands; commands.add.command; commands.measure.command"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4])
