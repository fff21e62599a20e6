"""`hooper batch --keep` and `--id-column`: answers stand beside the columns that they are joined by."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.cli import batch as command
from app.cli import resumable_writer
from app.data import records

Batch = Callable[..., tuple[int, str]]
TABLE = "ticket;text;label;line\nT1;good film, really;x;5\nT2;;y;6\nT3;bad;z;7\n"


@pytest.fixture
def batch(published_tasks: Path, capsys: pytest.CaptureFixture[str]) -> Batch:
    """Runs the command on a tiny model; gives the exit code and what was said."""

    def run(source: Path, target: Path, *arguments: str) -> tuple[int, str]:
        words = ["--model", "text-classification", "--models", str(published_tasks), "--device", "cpu"]
        code = cli.main(["batch", str(source), str(target), *words, "--engine-threads", "1", *arguments])
        return code, capsys.readouterr().err

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text(TABLE, encoding="cp1252")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return [dict(record.columns) for record in records(path)]


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.parquet", "out.xlsx"])
def test_a_table_keeps_columns_and_renames_those_that_answers_have(
    name: str, batch: Batch, source: Path, tmp_path: Path
) -> None:
    assert batch(source, tmp_path / name, "--keep", "all", "--id-column", "ticket")[0] == 1
    rows = rows_of(tmp_path / name)
    assert [(row["ticket"], row["id"], row["input_label"], str(row["input_line"])) for row in rows] == [
        ("T1", "T1", "x", "5"),
        ("T2", "T2", "y", "6"),
        ("T3", "T3", "z", "7"),
    ]
    assert [str(row["line"]) for row in rows] == ["2", "3", "4"]  # as a spreadsheet shows them
    assert rows[0]["label"] == "good"
    assert rows[1]["error"]


def test_json_lines_keep_columns_by_themselves(batch: Batch, source: Path, tmp_path: Path) -> None:
    assert batch(source, tmp_path / "out.jsonl", "--keep", "ticket, label")[0] == 1
    first, second, _ = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["input"] == {"ticket": "T1", "label": "x"}
    assert (second["input"]["ticket"], "error" in second) == ("T2", True)


def test_numbers_of_json_lines_stay_numbers_in_parquet(batch: Batch, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "good", "n": 1, "tags": ["a"]}\n{"text": "bad", "n": 2.5}\n{"text": "good", "late": true}\n')
    assert batch(source, tmp_path / "out.parquet", "--keep", "all")[0] == 0
    rows = rows_of(tmp_path / "out.parquet")
    assert [(row["n"], row["tags"], row["late"]) for row in rows] == [
        (1.0, '["a"]', None),
        (2.5, None, None),
        (None, None, True),
    ]


@pytest.mark.parametrize("option", ["--keep", "--id-column"])
def test_a_column_that_is_not_there_is_named(option: str, batch: Batch, source: Path, tmp_path: Path) -> None:
    code, said = batch(source, tmp_path / "out.csv", option, "nope")
    assert (code, "in.csv has no column 'nope'; it has 'ticket'" in said) == (2, True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


def test_formulas_in_kept_texts_stay_texts_in_a_spreadsheet(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,note\ngood,=1+1\n")
    assert batch(tmp_path / "in.csv", tmp_path / "out.xlsx", "--keep", "note")[0] == 0
    assert rows_of(tmp_path / "out.xlsx")[0]["note"] == "=1+1"


def test_a_run_that_keeps_other_columns_is_not_resumed(
    batch: Batch, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "CHUNK", 1)
    monkeypatch.setattr(resumable_writer, "EVERY_S", 0.0)
    write, target = resumable_writer.ResumableWriter.write, tmp_path / "out.csv"

    def stop(self: resumable_writer.ResumableWriter, *arguments: Any) -> None:
        if self.mark.num_rows:
            raise KeyboardInterrupt
        write(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(resumable_writer.ResumableWriter, "write", stop)
        assert batch(source, target, "--keep", "ticket")[0] == 130
    code, said = batch(source, target)
    assert (code, "is of a run with another choice of columns to keep" in said) == (2, True)
    assert batch(source, target, "--keep", "ticket")[0] == 1
    assert [row["ticket"] for row in rows_of(target)] == ["T1", "T2", "T3"]
