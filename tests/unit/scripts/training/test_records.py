"""Data sets of the hub where no hub can be reached; files are read by `app.data`."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from app.core.errors import InvalidSettings
from scripts.training import hub
from scripts.training.records import read_records


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder; nothing listens at the hub's address, and nothing was fetched from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "why_unreachable", lambda: "no connection")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_one_sentence_says_what_was_looked_for() -> None:
    Path("films.csv").touch()
    with pytest.raises(InvalidSettings) as raised:
        read_records("films")
    assert raised.value.detail == (
        "films is neither a file nor a folder, and the hub (https://huggingface.co) cannot be reached: no connection; what was"
        " fetched from it before holds no data set of this name; did you mean films.csv?"
    )


def test_a_data_set_that_was_fetched_before_is_read(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": ["good", "bad"], "label": ["a", "b"]})
    folder = tmp_path / "cache" / "owner___films" / "default" / "0.0.0" / "abc"  # as `load_dataset` keeps it
    folder.mkdir(parents=True)
    with datasets.arrow_writer.ArrowWriter(path=str(folder / "films-train.arrow"), features=rows.features) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    splits = datasets.SplitDict({"train": datasets.splits.SplitInfo("train", num_examples=2, dataset_name="films")})
    info = datasets.DatasetInfo(
        features=rows.features, splits=splits, dataset_name="films", config_name="default", builder_name="parquet"
    )
    info.write_to_directory(str(folder))
    assert [record.columns["text"] for record in read_records("owner/films")] == ["good", "bad"]


def test_a_file_below_a_folder_that_is_here_is_not_looked_for_elsewhere() -> None:
    Path("data").mkdir()
    Path("data/films.csv").touch()
    with pytest.raises(InvalidSettings, match=r"data/film does not exist; did you mean data/films.csv\?"):
        read_records("data/film")
