"""Answers as json lines for programs, and as columns and bars for a person."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.cli.formatting import MAX_WORDS, as_bars, as_columns, as_json
from app.data import Input
from app.tasks.spec import TextLine

ITEM = Input("reviews.csv", 7, {"text": "Fine."}, id="a1")
ERROR = {"error": {"type": "invalid_input", "detail": "text: must not be empty"}}


def test_a_json_line_begins_with_where_the_input_stands() -> None:
    (line,) = as_json(True, ITEM, {"labels": []})
    assert list(json.loads(line).items()) == [("file", "reviews.csv"), ("line", 7), ("id", "a1"), ("labels", [])]
    (line,) = as_json(False, Input("-", 1, {}), {"labels": []})
    assert json.loads(line) == {"line": 1, "labels": []}


def test_a_json_line_is_readable_in_any_script_and_valid_for_any_id() -> None:
    assert "Straße" in next(as_json(False, Input("-", 1, {}, id="Straße"), {}))
    line = next(as_json(False, Input("-", 1, {}, id="\ud800"), {}))
    assert line.encode("ascii")
    assert json.loads(line)["id"] == "\ud800"


def test_columns_have_the_number_of_the_line_and_the_score_once_an_answer() -> None:
    def lines(fields: Any, answer: Any, limit: int) -> list[TextLine]:
        return [TextLine(0.5, name, 6, fields["text"]) for name in answer["labels"][:limit]]

    shown = list(as_columns(lines, 2, 80, ITEM, {"labels": ["good", "bad", "mixed"]}))
    assert shown == ["    7   0.500  good    Fine.", "        0.500  bad"]


def test_what_is_wrong_stands_in_the_place_of_an_answer() -> None:
    assert list(as_columns(None, 1, 80, ITEM, ERROR)) == ["    7  error   text: must not be empty"]
    assert list(as_bars(80, ITEM, ERROR)) == ["    7  error  text: must not be empty"]


def test_a_broken_input_has_no_source_to_show() -> None:
    broken = Input("-", 1, ValueError("none"))  # type: ignore[arg-type]
    assert list(as_columns(lambda fields, answer, limit: [TextLine(None, str(dict(fields)))], 1, 80, broken, {})) == [
        "    1          {}"
    ]


def test_the_heaviest_words_come_first_with_a_bar_each_way() -> None:
    words = [{"text": "a", "weight": 0.1}, {"text": "superb", "weight": 2.0}, {"text": "not", "weight": -1.0}]
    head, *bars = as_bars(80, ITEM, {"score": 0.75, "target": "good", "tokens": words})
    assert head == "    7  0.750  good"
    assert bars == [f"         +2.00  superb  {'>' * 20}", f"         -1.00  not     {'<' * 10}", "         +0.10  a       >"]


@pytest.mark.parametrize("extra", [0, 3])
def test_more_words_than_fit_are_counted(extra: int) -> None:
    words = [{"text": "w", "weight": 0.0}] * (MAX_WORDS + extra)
    lines = list(as_bars(80, ITEM, {"score": 0.0, "target": "good", "tokens": words}))
    assert len(lines) == 1 + MAX_WORDS + (1 if extra else 0)
    assert lines[-1].strip().startswith("and 3 lighter words" if extra else "+0.00")
