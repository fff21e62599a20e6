"""A graph that protobuf cannot hold keeps its weights in a second file, from the export to the published folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from app.core.errors import InvalidArtefact
from app.core.manifest import read_manifest, verify_files
from app.core.types import Row
from app.runtime import onnx_session
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.add_model import main
from scripts.export import graph_files
from scripts.export.graph_files import move, num_bytes, save, weights_file
from scripts.export.quantize_weights import compact
from tests.unit.scripts.conftest import Save


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if protobuf ended at a kilobyte."""
    monkeypatch.setattr(graph_files, "MAX_PROTO_BYTES", 1000)
    monkeypatch.setattr(onnx_session, "MAX_FOLDED_BYTES", 1000)
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # the exporter writes two files, too


def test_a_graph_that_goes_into_one_file_has_one(export: Any, tmp_path: Path) -> None:
    save(onnx.load(export("Bert").file), tmp_path / "one.onnx")
    assert weights_file(tmp_path / "one.onnx") is None
    assert num_bytes(tmp_path / "one.onnx") == (tmp_path / "one.onnx").stat().st_size


@pytest.mark.usefixtures("small_limit")
def test_a_larger_one_has_two_and_answers_alike_after_it_was_renamed(export: Any, rows: list[Row], tmp_path: Path) -> None:
    exported = export("Bert")
    save(onnx.load(exported.file), tmp_path / "two.onnx")
    save(onnx.load(exported.file), tmp_path / "two.onnx")  # again: nothing is appended
    size = num_bytes(tmp_path / "two.onnx")
    assert weights_file(tmp_path / "two.onnx") is not None
    assert size < 1.2 * num_bytes(exported.file)
    moved = move(tmp_path / "two.onnx", tmp_path / "renamed.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["renamed.onnx", "renamed.onnx.data"]
    session = EncoderEngine(moved, exported.graph, choose_provider("cpu"))
    for one, other in zip(session.run_rows(rows), exported.session().run_rows(rows), strict=True):
        np.testing.assert_array_equal(one["logits"], other["logits"])


@pytest.mark.usefixtures("small_limit")
def test_weights_that_are_compact_on_disk_unfold_beside_the_graph(export: Any, rows: list[Row], tmp_path: Path) -> None:
    exported = export("Bert")
    graph = compact(exported.file, tmp_path / "model.onnx", exported.graph, "fp16", min_weights=1)
    session = EncoderEngine(tmp_path / "model.onnx", graph, choose_provider("cpu"))
    for one, other in zip(session.run_rows(rows), exported.session().run_rows(rows), strict=True):
        np.testing.assert_allclose(one["logits"], other["logits"], atol=0.05)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("storage", ["fp32", "int8"])
def test_a_checkpoint_over_the_limit_is_published_with_both_files_checksummed(
    storage: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOPER_MODELS", str(tmp_path / "models"))
    assert main([str(save()), "--storage", storage]) == 0
    folder = tmp_path / "models" / "films" / "1"
    manifest = read_manifest(folder)
    assert "model.onnx.data" in manifest.files
    verify_files(folder, manifest)
    row = Row([2, 4, 6, 3], [0] * 4)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"))
    assert np.isfinite(session.run_rows([row])[0]["logits"]).all()
    assert (
        f"{sum(entry.num_bytes for name, entry in manifest.files.items() if name.startswith('model.onnx')) / 1e6:.1f} MB"
        in (folder / "README.md").read_text(encoding="utf-8")
    )
    data = folder / "model.onnx.data"
    data.write_bytes(bytes(data.stat().st_size))
    with pytest.raises(InvalidArtefact, match=r"model\.onnx\.data differs"):
        verify_files(folder, manifest)
