"""Baselines: each task's methods without a transformer, on the held-out rows, and what is said where the model is no better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import Classification, ClassificationItem, LabelScore
from scripts.tasks import training_task, training_tasks
from scripts.tasks.extractive_summarization import Target
from scripts.tasks.question_answering.answers import Gold
from scripts.training import baselines
from scripts.training.baselines import describe_baselines, fit_classifier, fit_regressor, measure_baselines, unbeaten
from scripts.training.data import Example

SINGLE = {"labels": ["bad", "good"], "problem_type": "single_label_classification"}
MULTI = {"labels": ["bad", "good"], "problem_type": "multi_label_classification"}


def examples(pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
    items = [(item if not isinstance(item, str) else ClassificationItem(item), target) for item, target in pairs]
    return [Example(item, target, "a.csv", f"a.csv:{number}") for number, (item, target) in enumerate(items, 2)]


def reviews(count: int) -> list[Example]:
    return examples([(f"film {n} was {('bad', 'good')[n % 2]}", ("bad", "good")[n % 2]) for n in range(count)])


def answers(*labels: str) -> list[Classification]:
    return [Classification([LabelScore(label, 1.0)]) for label in labels]


def test_a_classifier_is_compared_with_the_majority_and_with_tfidf() -> None:
    train, held_out = [*reviews(20), *examples([("a film", "good")])], reviews(8)
    result = measure_baselines(training_task("text-classification"), train, held_out, answers(*["good"] * 8), SINGLE)
    assert list(result) == ["majority class", "TF-IDF + logistic regression"]
    assert result["majority class"]["headline"]["accuracy"] == 0.5
    assert result["TF-IDF + logistic regression"]["headline"]["accuracy"] == 1.0
    assert result["majority class"]["difference"]["mean"] == 0.0
    assert result["TF-IDF + logistic regression"]["difference"]["mean"] == -0.5
    assert "rows" not in result["majority class"]["headline"]


def test_a_model_that_is_no_better_is_told_so_in_one_sentence_each() -> None:
    train, held_out = reviews(20), reviews(40)
    task = training_task("text-classification")
    worse, equal = unbeaten(measure_baselines(task, train, held_out, answers(*["bad"] * 40), SINGLE))[::-1]
    assert worse.startswith("the model is worse than TF-IDF + logistic regression (accuracy -0.5000, 95 % interval -0.6")
    assert equal.startswith("the model does not beat majority class (accuracy +0.0000")
    right = [example.target for example in held_out]
    assert len(unbeaten(measure_baselines(task, train, held_out, answers(*right), SINGLE))) == 1  # as good as TF-IDF
    few = unbeaten(measure_baselines(task, train, held_out[:3], answers(*right[:3]), SINGLE))
    assert few[0].startswith("the model beats majority class, but on so few rows that may be chance")


def test_several_labels_a_text() -> None:
    train = examples([("good film", ("good",)), ("bad film", ("bad",)), ("good bad film", ("bad", "good"))] * 5)
    result = measure_baselines(training_task("text-classification"), train, train[:3], answers("good", "bad", "bad"), MULTI)
    assert list(result) == ["majority label set", "TF-IDF + logistic regression"]
    assert result["TF-IDF + logistic regression"]["headline"]["accuracy"] == 1.0


def test_a_label_that_the_drawn_rows_lack_scores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    predict = fit_classifier(["good film", "bad film"] * 4, np.array([0, 2] * 4), 3)
    assert predict is not None
    scores = predict(["a good film"])
    assert scores.shape == (1, 3)
    assert scores[0].argmax() == 0
    assert scores[0, 1] == 0
    monkeypatch.setattr(baselines, "MAX_ROWS", 1)
    assert fit_classifier(["good film", "bad film"], np.array([0, 1]), 2) is None  # one label is left


def test_texts_without_a_word_have_no_tfidf() -> None:
    assert fit_classifier(["!!", "??"], np.array([0, 1]), 2) is None
    assert fit_regressor(["!!", "??"], np.array([0.0, 1.0])) is None


def test_a_language_without_spaces_is_read_by_characters() -> None:
    good, bad = "这部电影非常好看我很喜欢它的故事和演员", "这部电影非常糟糕我很讨厌它的故事和演员"
    predict = fit_classifier([good, bad] * 5, np.array([1, 0] * 5), 2)
    assert predict is not None
    assert predict(["那个演员很好看我喜欢", "那个故事糟糕我讨厌"]).argmax(-1).tolist() == [1, 0]


def test_a_number_is_compared_with_the_mean_and_with_ridge_regression() -> None:
    train = examples([("good film", 5.0), ("bad film", 1.0)] * 10)
    model = [Classification([LabelScore("score", value)]) for value in (4.0, 2.0)]
    options = {"labels": ["score"], "scale": 2.0, "offset": 3.0}
    result = measure_baselines(training_task("text-regression"), train, train[:2], model, options)
    assert list(result) == ["mean of the training rows", "TF-IDF + ridge regression"]
    assert result["mean of the training rows"]["headline"]["mae"] == 2.0
    assert result["mean of the training rows"]["difference"]["mean"] == 1.0  # smaller errors are better
    assert "mae smaller by" not in "".join(unbeaten(result))
    assert "MAE 2.00" in describe_baselines(result, {})[0]


def test_answers_and_summaries_have_baselines_that_learn_nothing() -> None:
    question = Example(QuestionItem("who ?", "a film"), (Gold("film", 2, 6),), "a", "a:1")
    impossible = Example(QuestionItem("who ?", "a film"), (), "a", "a:2")
    task = training_task("question-answering")
    ((name, none),) = task.baselines([], [question, impossible], {})
    assert name == "no answer"
    assert task.row_scores(none, [question, impossible]).tolist() == [0, 100]
    assert task.evaluate(none, [question, impossible], {})["headline"]["v2_f1"] == 50
    document = Example(
        SummaryItem("One is good. Two is bad. Three is very good. Four is not."), Target(("Two is bad.",)), "a", "a:1"
    )
    task = training_task("summarization")
    ((name, (lead,)),) = task.baselines([], [document], {})
    assert (name, [sentence.text for sentence in lead.sentences]) == (
        "lead-3",
        ["One is good.", "Two is bad.", "Three is very good."],
    )
    measured = measure_baselines(task, [], [document], [lead], {"language": "en"})
    assert set(measured["lead-3"]["headline"]) == {"rouge1", "rouge2", "rougeLsum"}


def test_without_training_rows_nothing_is_learnt() -> None:
    options = {"text-classification": SINGLE, "text-regression": {"labels": ["score"]}}
    for name, task in training_tasks().items():
        if name in options:
            assert list(task.baselines([], reviews(2), options[name])) == []


def test_row_scores_average_to_the_primary_metric_of_the_headline() -> None:
    task, held_out = training_task("text-classification"), reviews(6)
    model = answers("good", "good", "bad", "good", "bad", "bad")
    assert task.row_scores(model, held_out).mean() == pytest.approx(
        task.evaluate(model, held_out, SINGLE)["headline"]["accuracy"], abs=1e-4
    )
    numbers = examples([("a film", 2.0), ("films", 4.0)])
    predicted = [Classification([LabelScore("score", value)]) for value in (2.5, 3.0)]
    task = training_task("text-regression")
    assert -task.row_scores(predicted, numbers).mean() == task.evaluate(predicted, numbers, {})["headline"]["mae"]
