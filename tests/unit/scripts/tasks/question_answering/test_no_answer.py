"""When a model should say that a context does not answer a question."""

from __future__ import annotations

import numpy as np
import pytest

from app.tasks.platt import PlattScaling
from app.tasks.question_answering.task import Answer, Answers, QuestionItem
from scripts.tasks.question_answering import no_answer
from scripts.tasks.question_answering.answers import Gold
from scripts.training.data import Example

GOOD = Gold("good", 8, 12)


def questions(num_answered: int, num_unanswered: int) -> tuple[list[Answers], list[Example]]:
    """A model finds the right words where there are some; that there are none it says with far too low a score."""
    random = np.random.default_rng(0)
    answers, examples = [], []
    for number in range(num_answered + num_unanswered):
        is_none = number >= num_answered
        examples.append(Example(QuestionItem("is it", "it was good"), () if is_none else (GOOD,), "data", f"data:{number}"))
        first = float(10 ** random.normal(-3 if is_none else -7, 1))
        answers.append(Answers([Answer("good", 0.3 if is_none else 0.7, 7, 11)], min(0.9, first)))
    return answers, examples


def test_it_is_said_where_it_would_not_have_been_and_measured_on_other_questions() -> None:
    found = no_answer.fit(*questions(300, 200), {})
    line = PlattScaling(found.task_options["no_answer_slope"], found.task_options["no_answer_intercept"])
    assert line(1e-3) > 0.8
    assert line(1e-7) < 0.2
    before, after = found.metrics["before"], found.metrics["after"]
    assert (found.metrics["rows"], before["f1"]) == (400, 50.0)  # as many of either kind
    assert after["f1"] > 90
    assert after["f1"] == pytest.approx((after["f1_answered"] + after["f1_unanswered"]) / 2, abs=0.01)
    assert after["expected_calibration_error"] < 0.1 < before["expected_calibration_error"]


def test_an_answer_competes_with_the_score_that_it_will_have() -> None:
    answers, examples = questions(200, 200)
    refused = [
        no_answer.fit(answers, examples, {"score_intercept": intercept}).metrics["after"]["f1_unanswered"]
        for intercept in (0.0, 9.0)
    ]
    assert refused[1] < refused[0] - 20


def test_of_few_questions_nothing_is_fitted() -> None:
    assert no_answer.fit(*questions(300, 99), {}).task_options == {}
