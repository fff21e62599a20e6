"""What fill-mask prints on a terminal and writes into a table."""

from __future__ import annotations

from app.tasks.fill_mask.spec import SPEC

MASK = {"start": 0, "end": 6, "fills": [{"token": "film", "score": 0.5}, {"token": "good", "score": 0.25}]}


def test_each_token_is_a_line_with_the_number_of_its_mask_where_there_are_several() -> None:
    lines = SPEC.lines({"text": "[MASK] was"}, {"masks": [MASK]}, 1)
    assert [(line.score, line.answer, line.source) for line in lines] == [(0.5, "film", "[MASK] was")]
    lines = SPEC.lines({"text": "[MASK] [MASK]"}, {"masks": [MASK, MASK]}, 2)
    assert [line.answer for line in lines] == ["1: film", "1: good", "2: film", "2: good"]
    assert [line.source for line in lines] == ["[MASK] [MASK]", "", "", ""]


def test_a_table_has_the_best_token_of_each_mask() -> None:
    columns = SPEC.table.joined({})
    assert {name: column({"masks": [MASK, MASK]}) for name, column in columns.items()} == {
        "token": "film|film",
        "score": "0.5|0.5",
    }
