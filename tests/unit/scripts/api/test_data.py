"""Data is read alike from wherever it is, and what cannot be read is told in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.core.errors import InvalidSettings
from scripts.api import get_dataset
from scripts.api.data import Data
from tests.unit.scripts.conftest import write_reviews

TEXTS = ["a good film", "a bad film", "the film was good"]
LABELS = ["up", "down", "up"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


def read(source: Any, **arguments: Any) -> Data:
    train, val = get_dataset(source, **arguments)
    assert (train.name, val.name) == ("train", "validation")
    assert train.data is val.data
    return train.data


def columns(data: Data) -> list[dict[str, Any]]:
    return [dict(record.columns) for records in data.records.values() for record in records]


@pytest.mark.parametrize("kind", ["path", "text", "list", "rows", "columns", "arrays", "frame", "pair", "array pair"])
def test_files_and_what_is_in_memory_are_read_alike(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "films.csv"
    frame = pd.DataFrame(ROWS)
    frame.to_csv(file, index=False)
    sources: dict[str, Any] = {
        "path": file,
        "text": str(file),
        "pair": (TEXTS, LABELS),
        "array pair": (np.array(TEXTS), np.array(LABELS)),
        "list": [file],
        "rows": ROWS,
        "columns": {"text": TEXTS, "label": LABELS},
        "arrays": {"text": np.array(TEXTS), "label": np.array(LABELS)},
        "frame": frame,
    }
    assert columns(read(sources[kind])) == ROWS


def test_class_folders_are_read(tmp_path: Path) -> None:
    for label, text in (("neg", "bad"), ("pos", "good")):
        (tmp_path / "imdb" / label).mkdir(parents=True)
        (tmp_path / "imdb" / label / "1.txt").write_text(text)
    assert columns(read(tmp_path / "imdb")) == [{"text": "bad", "label": "neg"}, {"text": "good", "label": "pos"}]


def test_cells_become_pythons_own_and_what_a_frame_lacks_is_nothing() -> None:
    frame = pd.DataFrame({"text": ["a", None], "label": np.array([1, 2]), "score": [0.5, np.nan]})
    assert columns(read(frame)) == [{"text": "a", "label": 1, "score": 0.5}, {"text": None, "label": 2, "score": None}]


def test_what_is_held_out_may_be_data_of_its_own(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv", 4)
    data = read(tmp_path / "reviews.csv", validation=pd.DataFrame(ROWS))
    assert (data.sources, data.validation) == ([str(tmp_path / "reviews.csv")], ["validation data frame"])
    assert [len(records) for records in data.records.values()] == [4, 3]


def test_the_call_is_kept_without_the_texts(tmp_path: Path) -> None:
    file = str(write_reviews(tmp_path / "reviews.csv", 4))
    assert read(file, split_ratio=0.8).call == f"get_dataset({file!r}, split_ratio=0.8)"
    assert read([file]).call == f"get_dataset([{file!r}])"
    data = read(pd.DataFrame(ROWS), split_ratio=0.5, validation=ROWS)
    assert data.call == "get_dataset(data_frame, split_ratio=0.5, validation=validation_rows)"


@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        ("missing.csv", {}, "missing.csv does not exist"),
        ([], {}, r"the data \(rows\) has no rows"),
        ({"text": [], "label": []}, {}, r"the data \(columns\) has no rows"),
        ({"text": TEXTS, "label": []}, {}, "the columns differ in length: text has 3, label has 0"),
        (7, {}, "no data can be read from int; give a path"),
        (["a.csv", 7], {}, "no data can be read from list"),
        (pd.Series(TEXTS), {}, "no data can be read from Series"),
        (ROWS, {"split_ratio": 0}, "split_ratio is 0; it must be between 0 and 1"),
        (ROWS, {"split_ratio": 1}, "split_ratio is 1; it must be between 0 and 1, or 1 where validation is given"),
        (ROWS, {"split_ratio": 80}, "split_ratio is 80"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(source: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said) as raised:
        get_dataset(source, **arguments)
    assert "\n" not in raised.value.detail


# looking at it


def test_a_part_has_a_length_and_rows_and_a_short_repr() -> None:
    texts = [f"text {number}" for number in range(50)]
    train, val = get_dataset({"text": texts, "label": ["a", "b"] * 25}, split_ratio=0.8)
    assert repr(train) == "<train: a part of 50 rows of columns, to train on>"
    assert (len(train), len(val)) == (40, 10)
    assert train[0].keys() == {"text", "label"}
    assert [row["text"] for row in train[:3]] == [train[number]["text"] for number in range(3)]
    assert {row["text"] for row in [*train, *val]} == set(texts)
    assert repr(val) == "<validation: 10 rows of columns, held out>"
    assert repr(train.data) == "<50 rows of columns>"
    with pytest.raises(IndexError):
        train[40]


def test_a_part_whose_columns_are_not_clear_is_there_and_says_so_when_it_is_counted() -> None:
    train, _ = get_dataset({"x": [1, 2], "y": [3, 4]})
    assert train
    assert "2 rows" in repr(train)
    with pytest.raises(InvalidSettings):
        len(train)
