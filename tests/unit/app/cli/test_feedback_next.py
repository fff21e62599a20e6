"""What a model is least sure of, and which texts say the same."""

from __future__ import annotations

import pytest

from app.cli.feedback_next import MEASURES, Candidate, Measure, uncertainty, varied


def labels(*scores: float) -> dict[str, object]:
    return {"labels": [{"label": str(number), "score": score} for number, score in enumerate(scores)]}


def answers(no_answer_score: float, *scores: float) -> dict[str, object]:
    return {"answers": [{"answer": "x", "score": score} for score in scores], "no_answer_score": no_answer_score}


@pytest.mark.parametrize("measure", MEASURES)
def test_certainty_is_nothing_and_an_even_guess_is_one(measure: Measure) -> None:
    assert uncertainty(labels(1.0, 0.0, 0.0), measure) == pytest.approx(0.0)
    assert uncertainty(labels(*[1 / 3] * 3), measure) == pytest.approx(1.0)
    assert 0 < uncertainty(labels(0.6, 0.3, 0.1), measure) < 1


def test_the_measures_differ_in_what_they_look_at() -> None:
    two_left, all_left = labels(0.5, 0.49, 0.01), labels(0.4, 0.3, 0.3)
    assert uncertainty(two_left, "margin") > uncertainty(all_left, "margin")
    assert uncertainty(two_left, "entropy") < uncertainty(all_left, "entropy")
    assert uncertainty(two_left, "least-confidence") < uncertainty(all_left, "least-confidence")


def test_of_many_labels_that_may_hold_the_least_sure_decides() -> None:
    sure, unsure = labels(0.99, 0.98, 0.01), labels(0.99, 0.55, 0.01)
    assert uncertainty(unsure, "margin", is_multi=True) == pytest.approx(0.9)
    assert uncertainty(sure, "margin", is_multi=True) == pytest.approx(0.04)


def test_an_answer_competes_with_the_next_one_and_with_none() -> None:
    assert uncertainty(answers(0.0, 0.9, 0.05), "margin") == pytest.approx(0.15)
    assert uncertainty(answers(0.45, 0.5, 0.05), "margin") == pytest.approx(0.95)
    assert uncertainty(answers(1.0), "margin") == pytest.approx(0.0)


def made(*texts: str) -> Candidate:
    return Candidate({"text": texts[0]}, texts, 0.5)


def test_of_texts_that_say_the_same_only_the_first_is_listed() -> None:
    ones = [made("Where is my card?"), made("where is MY card"), made("When does it close?"), made("Where is the key?")]
    assert [row.texts[0] for row in varied(ones, 9)] == ["Where is my card?", "When does it close?", "Where is the key?"]
    assert len(list(varied(ones, 2))) == 2


def test_two_questions_about_one_text_are_not_alike_nor_one_question_about_two() -> None:
    ones = [made("Who won?", "a b c"), made("When?", "a b c"), made("Who won?", "d e f"), made("Who won", "a b c")]
    assert len(list(varied(ones, 9))) == 3


def test_texts_without_a_word_are_alike() -> None:
    assert len(list(varied([made("!"), made("?")], 9))) == 1
