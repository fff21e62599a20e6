"""Answers that are vectors: in arrays of numpy, in lists of parquet files, and as JSON where a file has no lists."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from app import cli
from app.tasks.registry import installed_tasks
from tests.support.tiny_model import publish_tiny, publish_tiny_spec

NAME = "feature-extraction"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_tiny_spec(root, installed_tasks()[NAME])
    publish_tiny(root)
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text('text,topic\na good film,x\n" ",y\nbad,z\n', encoding="utf-8")
    return path


def batch(models: Path, source: Path, target: Path, *options: str, model: str = NAME) -> int:
    return cli.main(["batch", "--model", model, str(source), str(target), "--models", str(models), "--device", "cpu", *options])


def test_vectors_become_an_array_with_a_row_of_nan_for_what_cannot_be_answered(models: Path, source: Path) -> None:
    target = source.with_name("vectors.npy")
    assert batch(models, source, target) == 1  # one text is empty
    array = np.load(target, allow_pickle=False)
    assert (array.shape, array.dtype) == ((3, 2), np.float32)
    assert np.isnan(array).all(axis=1).tolist() == [False, True, False]
    assert np.linalg.norm(array[[0, 2]], axis=1) == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_parquet_file_has_them_as_lists_beside_the_columns_that_are_kept(models: Path, source: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    array, table = source.with_name("vectors.npy"), source.with_name("vectors.parquet")
    batch(models, source, array)
    batch(models, source, table, "--keep", "topic")
    rows = parquet.read_table(table)
    assert str(rows.schema.field("embedding").type) == "list<element: float>"
    assert rows["topic"].to_pylist() == ["x", "y", "z"]
    first, empty, last = rows["embedding"].to_pylist()
    assert empty is None
    assert np.array([first, last], np.float32) == pytest.approx(np.load(array)[[0, 2]])


def test_a_csv_file_has_them_as_json(models: Path, source: Path) -> None:
    target = source.with_name("vectors.csv")
    batch(models, source, target)
    with target.open(encoding="utf-8", newline="") as file:
        cells = [row["embedding"] for row in csv.DictReader(file)]
    assert [len(json.loads(cell)) if cell else 0 for cell in cells] == [2, 0, 2]


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("tiny", [], "a .npy file holds vectors alone, and these answers are none; write .parquet or .jsonl"),
        (NAME, ["--keep", "topic"], "a .npy file holds vectors alone, no columns of the input; write .parquet"),
    ],
)
def test_an_array_holds_nothing_but_vectors(
    models: Path, source: Path, capsys: pytest.CaptureFixture[str], model: str, options: list[str], reason: str
) -> None:
    assert batch(models, source, source.with_name("vectors.npy"), *options, model=model) == 2
    assert reason in capsys.readouterr().err
