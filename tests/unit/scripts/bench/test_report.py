"""What measurements have in common: how they end, what they write, and how their pictures look."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import SetupError
from scripts.bench.report import draw_bars, markdown_table, measurement_parser, run_measurement, write_json

PARSER = measurement_parser("scripts.bench.any", "What is measured.\n\nMore.", "model")


def outcome(figures: dict[str, Any] | Exception, tmp_path: Path) -> tuple[int, Any]:
    def measure(options: Any) -> dict[str, Any]:
        if isinstance(figures, Exception):
            raise figures
        return {"model": options.model, **figures}

    file = tmp_path / "folder" / "figures.json"
    code = run_measurement(PARSER, measure, ["--model", "mine", "--output", str(file)])
    return code, json.loads(file.read_text()) if file.exists() else None


def test_figures_are_kept_with_their_command_and_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = outcome({"texts_per_s": 5}, tmp_path)
    assert code == 0
    assert report["command"].startswith("python -m scripts.bench.any --model mine --output ")
    assert (report["model"], report["texts_per_s"]) == ("mine", 5)
    assert report["machine"].keys() == {"processor", "cores", "system", "python", "load_before"}
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize(("figures", "code"), [({"complaints": ["too slow"]}, 1), ({"interrupted": True}, 130)])
def test_a_complaint_and_an_interruption_have_their_own_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: dict[str, Any], code: int
) -> None:
    assert outcome(figures, tmp_path)[0] == code
    assert ("any: too slow" in capsys.readouterr().err) == ("complaints" in figures)


@pytest.mark.parametrize("error", [SetupError("no model"), OSError("no model")])
def test_what_could_not_start_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    assert outcome(error, tmp_path) == (2, None)
    assert capsys.readouterr().err == "any: no model\n"


def test_nothing_is_written_unless_a_file_is_named() -> None:
    write_json(None, {"a": 1})


def test_a_table_has_its_head_and_a_line_for_each_row() -> None:
    assert markdown_table(["a", "b"], [[1, "x"], [2, "y"]]) == ["| a | b |", "| --- | --- |", "| 1 | x |", "| 2 | y |"]


def test_a_picture_follows_the_theme_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / f"{number}.svg" for number in (1, 2)]
    for file in files:
        draw_bars(file, [("short", "hooper", 5.0), ("short", "other", 2.0), ("long", "hooper", 3.0)], "texts/s")
    text = files[0].read_text()
    assert text == files[1].read_text()
    ElementTree.fromstring(text)
    assert "#123456" not in text
    assert "prefers-color-scheme:dark" in text
    assert all(word in text for word in ("short", "long", "hooper", "other", "texts/s"))
