"""The model repository on disk: what is found, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.core.errors import InvalidArtefact, SetupError, UnknownModel
from app.core.manifest import MANIFEST
from app.serving.repository import Repository
from tests.support.mutated_model import sign_again


def copy_version(models: Path, name: str, version: int | str) -> Path:
    folder = Path(shutil.copytree(models / "tiny" / "1", models / name / str(version)))
    if isinstance(version, int):
        sign_again(folder, name=name, version=version)
    return folder


def test_the_latest_version_is_opened_and_versions_are_numbers(models: Path) -> None:
    for version in (2, 9, 10):
        copy_version(models, "tiny", version)
    repository = Repository(models)
    assert repository.versions("tiny") == [1, 2, 9, 10]
    assert repository.open("tiny").id == "tiny/10"
    assert repository.open("tiny", 2).folder == models / "tiny" / "2"


def test_models_are_listed_by_name(models: Path) -> None:
    for name in ("zebra", "ant"):
        copy_version(models, name, 1)
    assert Repository(models).names() == ["ant", "tiny", "zebra"]


def test_what_is_no_published_version_is_passed_over(models: Path) -> None:
    copy_version(models, ".publishing", 1)
    copy_version(models, "tiny", ".2-in-progress")
    copy_version(models, "tiny", "02")
    copy_version(models, "tiny", "0")
    copy_version(models, "tiny", "٣")
    (models / "tiny" / "4").mkdir()
    (models / "empty").mkdir()
    (models / "README.md").write_text("hello")
    (models / "tiny" / "5").write_text("a file")
    repository = Repository(models)
    assert repository.names() == ["tiny"]
    assert repository.versions("tiny") == [1]
    assert repository.versions(".publishing") == []
    assert repository.versions("nothing") == []


@pytest.mark.parametrize(
    ("name", "version"), [("other", None), ("tiny", 2), ("..", None), ("../models/tiny", None), ("tiny/1", None), ("", None)]
)
def test_an_unknown_model_is_named(models: Path, name: str, version: int | None) -> None:
    with pytest.raises(UnknownModel, match="there is no model"):
        Repository(models).open(name, version)


def test_a_repository_that_is_not_there_says_which_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtefact, match=r"nowhere does not exist; set HOOPER_MODELS"):
        Repository(tmp_path / "nowhere").names()


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "golden.json", "evaluation.json"])
def test_an_altered_file_is_refused(models: Path, file: str) -> None:
    path = models / "tiny" / "1" / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # the same number of bytes
    path.write_bytes(content)
    with pytest.raises(InvalidArtefact, match=f"{file} differs from the checksum"):
        Repository(models).open("tiny")


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "golden.json", "evaluation.json"])
def test_a_missing_file_is_refused(models: Path, file: str) -> None:
    (models / "tiny" / "1" / file).unlink()
    with pytest.raises(InvalidArtefact, match=f"{file} is missing"):
        Repository(models).open("tiny")


def test_a_link_in_the_place_of_a_file_is_refused(models: Path, tmp_path: Path) -> None:
    path = models / "tiny" / "1" / "model.onnx"
    shutil.move(path, tmp_path / "elsewhere.onnx")
    path.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(InvalidArtefact, match=r"model.onnx is missing or is not a plain file"):
        Repository(models).open("tiny")


def test_a_linked_manifest_is_refused(models: Path, tmp_path: Path) -> None:
    path = models / "tiny" / "1" / MANIFEST
    shutil.move(path, tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(InvalidArtefact, match=r"manifest.json is a symbolic link"):
        Repository(models).open("tiny")


@pytest.mark.parametrize("how", ["file", "link", "folder"])
def test_what_the_manifest_does_not_list_is_refused(models: Path, tmp_path: Path, how: str) -> None:
    path = models / "tiny" / "1" / "weights.bin"
    if how == "file":
        path.write_bytes(b"x")
    elif how == "link":
        path.symlink_to(tmp_path)
    else:
        path.mkdir()
    with pytest.raises(InvalidArtefact, match=r"weights.bin is not listed in manifest.json"):
        Repository(models).open("tiny")


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", "..", ".hidden", "C:\\x", "a\0b", ""])
def test_a_path_is_no_name_of_a_file(models: Path, name: str) -> None:
    path = models / "tiny" / "1" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name] = manifest["files"]["golden.json"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidArtefact, match=rf"{MANIFEST}: files\."):
        Repository(models).open("tiny")


@pytest.mark.parametrize("linked", ["tiny", "tiny/1"])
def test_a_linked_folder_is_refused(models: Path, tmp_path: Path, linked: str) -> None:
    shutil.move(models / linked, tmp_path / "elsewhere")
    (models / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidArtefact, match="symbolic link"):
        Repository(models).open("tiny")


@pytest.mark.parametrize("change", [{"name": "other"}, {"version": 2}], ids=str)
def test_a_folder_that_is_not_what_its_path_says_is_refused(models: Path, change: dict[str, object]) -> None:
    sign_again(models / "tiny" / "1", **change)
    with pytest.raises(InvalidArtefact, match="says that it is"):
        Repository(models).open("tiny")


@pytest.mark.parametrize("needed", ["model.onnx", "tokenizer.json", "golden.json"])
def test_a_needed_file_without_a_checksum_is_refused(models: Path, needed: str) -> None:
    path = models / "tiny" / "1" / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["files"][needed]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidArtefact, match=f"{needed} is used but has no checksum"):
        Repository(models).open("tiny")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_broken_manifest_is_refused(models: Path, text: str) -> None:
    (models / "tiny" / "1" / MANIFEST).write_text(text)
    with pytest.raises(InvalidArtefact, match=MANIFEST):
        Repository(models).open("tiny")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": 3}, "format"),
        ({"task": ["divination"]}, "task"),
        ({"tokenizer": "../../etc/passwd"}, "tokenizer"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_wrong_field_of_the_manifest_is_named(models: Path, change: dict[str, object], field: str) -> None:
    sign_again(models / "tiny" / "1", **change)
    with pytest.raises(InvalidArtefact, match=f"{MANIFEST}: {field}: "):
        Repository(models).open("tiny")


# --- what a person names


@pytest.mark.parametrize("wish", ["tiny", "tiny/1", "{models}/tiny/1"])
def test_a_model_is_found_by_name_by_version_and_by_path(wish: str, models: Path) -> None:
    assert Repository(models).find(wish.format(models=models)).id == "tiny/1"


def test_a_folder_elsewhere_is_found_without_a_repository(models: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(models / "tiny" / "1", tmp_path / "elsewhere"))
    assert Repository(tmp_path / "nowhere").find(str(elsewhere)).folder == elsewhere
    (elsewhere / "model.onnx").write_bytes(b"")
    with pytest.raises(InvalidArtefact, match="differs from the checksum"):
        Repository(tmp_path / "nowhere").find(str(elsewhere))


@pytest.mark.parametrize("wish", ["films", "./films", "films/9", "~/films", "{here}/films", "{here}/films/9"])
def test_a_models_folder_is_its_latest_version(
    wish: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (2, 9):
        sign_again(Path(shutil.copytree(models / "tiny" / "1", tmp_path / "films" / str(version))), version=version)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in (models, tmp_path / "nowhere"):
        assert Repository(root).find(wish.format(here=tmp_path)).id == "tiny/9"


def test_a_model_of_the_repository_and_a_folder_of_its_name_must_be_told_apart(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Path(shutil.copytree(models / "tiny", tmp_path / "elsewhere" / "tiny"))
    monkeypatch.chdir(elsewhere.parent)
    for wish in ("tiny", "tiny/1"):
        with pytest.raises(SetupError, match=rf"{wish} is a model of .* and also a folder here; write \./{wish} or "):
            Repository(models).find(wish)
    assert Repository(models).find("./tiny").folder == Path("tiny/1")
    monkeypatch.chdir(models)
    assert Repository(models).find("tiny").folder == models / "tiny" / "1"


def test_every_version_is_listed_with_what_is_wrong_with_it(models: Path) -> None:
    (copy_version(models, "tiny", 2) / MANIFEST).write_text("{}")
    found = Repository(models).manifests()
    assert list(found) == ["tiny/1", "tiny/2"]
    assert isinstance(found["tiny/2"], InvalidArtefact)
