"""A model folder is served only if it is exactly what was published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.errors import InvalidArtefact
from app.core.manifest import MANIFEST, Parity, describe_file, is_path, read_manifest, verify_files
from tests.support.tiny_model import publish_tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish_tiny(tmp_path)


def change(folder: Path, **fields: Any) -> None:
    """Overwrite fields of the manifest; `graph__file=…` reaches into a part of it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for key, value in fields.items():
        part = manifest
        *parents, last = key.split("__")
        for parent in parents:
            part = part[parent]
        part[last] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_published_folder_is_read_and_verified(folder: Path) -> None:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert (manifest.name, manifest.version, manifest.task) == ("tiny", 1, "text-classification")
    assert manifest.graph.outputs[0].axis == "row"
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "golden.json", "evaluation.json"}


def test_a_manifest_survives_being_written_and_read_again(folder: Path) -> None:
    manifest = read_manifest(folder)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    assert read_manifest(folder) == manifest


def test_a_manifest_cannot_be_changed_in_memory(folder: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read_manifest(folder).version = 2


def test_one_flipped_byte_is_refused(folder: Path) -> None:
    model = folder / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(InvalidArtefact, match=r"model\.onnx differs from the checksum"):
        verify_files(folder, read_manifest(folder))


def test_an_appended_byte_is_refused(folder: Path) -> None:
    with (folder / "tokenizer.json").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(InvalidArtefact, match=r"tokenizer\.json differs"):
        verify_files(folder, read_manifest(folder))


def test_a_wrong_size_is_refused_even_if_the_checksum_holds(folder: Path) -> None:
    entry = describe_file(folder / "model.onnx")
    files = json.loads((folder / MANIFEST).read_text())["files"]
    files["model.onnx"]["num_bytes"] = entry.num_bytes + 1
    change(folder, files=files)
    with pytest.raises(InvalidArtefact, match="differs"):
        verify_files(folder, read_manifest(folder))


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "evaluation.json").unlink()
    with pytest.raises(InvalidArtefact, match=r"evaluation\.json is missing"):
        verify_files(folder, read_manifest(folder))


def test_a_symbolic_link_is_refused_even_if_its_content_is_right(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.onnx"
    (folder / "model.onnx").rename(elsewhere)
    (folder / "model.onnx").symlink_to(elsewhere)
    with pytest.raises(InvalidArtefact, match="not a plain file"):
        verify_files(folder, read_manifest(folder))


@pytest.mark.parametrize("needed", ["model.onnx", "tokenizer.json", "golden.json"])
def test_a_file_that_is_used_must_have_a_checksum(folder: Path, needed: str) -> None:
    files = json.loads((folder / MANIFEST).read_text())["files"]
    del files[needed]
    change(folder, files=files)
    with pytest.raises(InvalidArtefact, match=f"{re.escape(needed)} is used but has no checksum"):
        verify_files(folder, read_manifest(folder))


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b.onnx", "..", ".hidden", "model.onnx\n", "a\\b", ""])
def test_a_file_name_cannot_leave_the_folder(folder: Path, name: str) -> None:
    change(folder, graph__file=name)
    with pytest.raises(InvalidArtefact, match=r"graph\.file"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "a/b.onnx", ".."])
def test_a_listed_file_name_cannot_leave_the_folder(folder: Path, name: str) -> None:
    change(folder, files={name: {"sha256": "0" * 64, "num_bytes": 0}})
    with pytest.raises(InvalidArtefact, match="files"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Tiny"),
        ("name", "-tiny"),
        ("name", "tiny/../other"),
        ("name", "x" * 65),
        ("version", 0),
        ("format", 3),
        ("task", 7),
        ("max_tokens", 7),
        ("max_tokens", 8193),
        ("graph__layout", "ragged"),
        ("graph__storage", "int4"),
        ("graph__position_offset", -1),
        ("files__model.onnx__sha256", "0" * 63),
        ("files__model.onnx__num_bytes", -1),
        ("parity__fp32__agreement", 1.01),
        ("parity__fp32__rows", 0),
    ],
)
def test_a_field_out_of_its_range_is_refused_and_named(folder: Path, field: str, value: Any) -> None:
    change(folder, **{field: value})
    with pytest.raises(InvalidArtefact) as caught:
        read_manifest(folder)
    assert field.replace("__", ".") in caught.value.detail


def test_a_manifest_of_release_0_1_0_is_read_as_if_it_were_written_today(folder: Path) -> None:
    today = read_manifest(folder)
    change(folder, format=1, graph__outputs=[{"name": "logits", "axis": "marker"}])
    before = read_manifest(folder)
    assert (before.format, today.format) == (2, 2)
    assert before.graph.outputs[0].axis == "position"
    assert before.model_copy(update={"graph": today.graph}) == today


def test_regression_of_release_0_1_0_is_a_task_of_its_own(folder: Path) -> None:
    change(folder, format=1, task_options={"labels": ["stars"], "problem_type": "regression", "scale": 2.0})
    manifest = read_manifest(folder)
    assert (manifest.task, manifest.task_options) == ("text-regression", {"labels": ["stars"], "scale": 2.0})


def test_an_axis_of_format_1_is_none_of_format_2(folder: Path) -> None:
    change(folder, graph__outputs=[{"name": "logits", "axis": "marker"}])
    with pytest.raises(InvalidArtefact, match=r"graph\.outputs\.0\.axis"):
        read_manifest(folder)


def test_an_unknown_field_is_refused_and_named(folder: Path) -> None:
    change(folder, graph__trust_remote_code=True)
    with pytest.raises(InvalidArtefact, match=r"graph\.trust_remote_code"):
        read_manifest(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"name": "tiny"}'])
def test_a_file_that_is_no_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(InvalidArtefact, match=re.escape(str(folder / MANIFEST))):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtefact, match="cannot be read: No such file"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("rows", "alike", "shown"), [(1998, 1988, "99.49%"), (1000, 570, "57.00%"), (3, 2, "66.66%"), (20_001, 20_000, "99.99%")]
)
def test_an_agreement_that_misses_a_gate_by_a_row_does_not_look_as_if_it_had_reached_it(
    rows: int, alike: int, shown: str
) -> None:
    parity = Parity(rows=rows, agreement=alike / rows, max_abs_error=0.1, passed=False)
    assert f"{parity.agreement_to_show:.2%}" == shown


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("a", False), ("a/1", False), ("./a", True), ("../a", True), ("/a", True), ("~/a", True), ("a/b/1", True)],
)
def test_a_path_is_distinguished_from_a_name(reference: str, expected: bool) -> None:
    assert is_path(reference) is expected
