"""The cases with boundaries drawn by hand, and how splitters are held against them."""

from __future__ import annotations

import pytest

from scripts.peers.sentence_boundaries import BOUNDARY, SETS, BoundaryCase, cases, hooper, is_right, main, splitters


@pytest.mark.parametrize("name", SETS)
def test_the_sentences_of_a_case_are_its_text(name: str) -> None:
    for case in cases(name):
        assert BOUNDARY not in case.text
        position = 0
        for sentence in case.sentences:
            position = case.text.index(sentence, position) + len(sentence)
        assert not case.text[position:].strip()


def test_spaces_do_not_count_and_boundaries_do() -> None:
    case = BoundaryCase("en", "plain", "A. B.", ["A.", "B."])
    assert is_right(lambda text, language: ["A. ", "", " B."], case)
    assert not is_right(lambda text, language: [text], case)


def test_hooper_is_among_the_splitters_and_right_on_most_cases_it_was_tuned_on() -> None:
    assert dict(splitters())["hooper"] is hooper
    tuned = cases("tuned")
    assert sum(is_right(hooper, case) for case in tuned) > 0.9 * len(tuned)


def test_the_table_has_a_line_for_each_splitter(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sentence_boundaries"])
    assert main() == 0
    table = capsys.readouterr().out
    for name, _ in splitters():
        assert table.count(f"| {name} |") == len(SETS)
