"""What may be wrong with written texts, told without references."""

from __future__ import annotations

import pytest

from scripts.tasks.generation.checks import (
    CheckedText,
    check_written,
    copied_share,
    repeated_share,
    unsupported_names,
    unsupported_numbers,
)


def test_runs_of_four_words_are_copied_or_not() -> None:
    assert copied_share("A b, c d e", "a B c d x") == 0.5
    assert copied_share("a b c d", "a b c") is None


def test_runs_that_come_again_are_repeated() -> None:
    assert repeated_share("", "a b c d a b c d") == pytest.approx(1 / 5)
    assert repeated_share("", "a b c d e") == 0


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        ("It cost 1,250 euros.", "1.250 Euro", []),
        ("It cost 1,250 euros.", "1250 Euro", []),
        ("It cost 1,250 euros.", "1,350 euros", ["1,350"]),
        ("From 9 to 18.", "9:18", []),
        ("none", "in 2024", ["2024"]),
    ],
)
def test_numbers_that_the_source_lacks(source: str, text: str, found: list[str]) -> None:
    assert unsupported_numbers(source, text) == found


def test_names_that_the_source_lacks_but_not_the_first_word() -> None:
    assert unsupported_names("anna met bob.", "Yesterday Anna met Bob, and Carol came.") == ["Carol"]


def test_all_checks_have_figures_of_texts_and_of_references() -> None:
    rows = [
        CheckedText("a:1", "Anna paid 3 euros today", "Anna paid 4 euros today", "Anna paid 3 euros"),
        CheckedText("a:2", "It rains", "", "Rain"),
    ]
    checked = check_written(rows, has_names=True)
    figures = {figure["name"]: (figure["texts"], figure["references"]) for figure in checked["figures"]}
    assert figures["empty texts"] == (0.5, 0.0)
    assert figures["texts with numbers that the source lacks"] == (0.5, 0.0)
    assert checked["numbers"] == [{"where": "a:1", "text": "Anna paid 4 euros today", "numbers": ["4"]}]
    assert "names" not in check_written(rows, has_names=False)
