"""The card tells what a person must know before using a model, and no text it was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from app.core.manifest import Parity
from app.tasks.text_classification.task import ClassificationItem
from scripts.export.card import CardInput, describe_scores, write_card
from scripts.training.data import Broken, Dataset, Example
from scripts.training.recipe import Recipe

SECRET = "what somebody wrote in confidence"
COST = {"epochs": 2.0, "updates": 1500, "seconds": 90.0, "loss": 0.12, "precision": "bf16", "resumed_after_updates": 0}
FIGURES = {"precision": 0.5, "recall": 0.25, "f1": 0.3333, "rows": 7}


def example(index: int) -> Example:
    return Example(ClassificationItem(f"{SECRET} {index}"), "good", "films/train.csv", f"films/train.csv:{index}")


@pytest.fixture
def story() -> CardInput:
    return CardInput(
        recipe=Recipe(name="films", description="Whether a film was good.", license="MIT", data=["films/train.csv"]),
        base_model="tiny-bert",
        dataset=Dataset([example(index) for index in range(8)], [example(9)], [], 0),
        max_tokens=32,
        num_bytes=1_500_000,
        evaluation={
            "headline": {"accuracy": 0.9123, "macro_f1": 0.8, "rows": 1234},
            "by_source": {"films/train.csv": {"accuracy": 0.9123, "rows": 1234}},
            "per_class": {"good": FIGURES, "bad": FIGURES},
        },
        parity={"fp32": Parity(rows=1234, agreement=0.9992, max_abs_error=0.0123, passed=True)},
        cost=COST,
        command="hooper train --recipe films.toml",
        notes=["text from column 'text'"],
    )


def front_matter(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    read: dict[str, Any] = yaml.safe_load(head)
    return read


def test_the_front_matter_is_what_the_hub_reads(story: CardInput) -> None:
    assert front_matter(write_card(story)) == {
        "license": "mit",
        "pipeline_tag": "text-classification",
        "base_model": "tiny-bert",
        "datasets": ["films"],
        "metrics": ["accuracy", "f1"],
        "library_name": "onnx",
    }


def test_a_licence_with_conditions_is_kept_in_words(story: CardInput) -> None:
    words = 'Apache-2.0 (weights): see "limits"'
    read = front_matter(write_card(replace(story, recipe=replace(story.recipe, license=words))))
    assert (read["license"], read["license_name"]) == ("other", words)
    assert "license" not in front_matter(write_card(replace(story, recipe=replace(story.recipe, license=""))))


@pytest.mark.parametrize(
    "said",
    [
        "# films",
        "Whether a film was good.",
        "1.5 MB. Max input length: 32 tokens.",
        "| all | 0.9123 | 0.8000 | 1,234 |",
        "| films/train.csv | 0.9123 |  | 1,234 |",
        "| bad | 0.5000 | 0.2500 | 0.3333 | 7 |",
        "```sh\nhooper train --recipe films.toml\n```",
        "| films/train.csv | 8 | 1 |",
        "Text from column 'text'.",
        "No invalid rows.",
        "2 epochs, 1,500 updates of 32 rows, bf16, 1.5 minutes, mean loss 0.12",
        "| fp32 | 1,234 | 0.9992 | 0.9954 to 0.9999 | 0 | 0.012 | yes |",
        "None were stated by the maker.",
    ],
)
def test_the_card_says(said: str, story: CardInput) -> None:
    assert said in write_card(story)


def test_no_text_of_the_data_gets_into_the_card(story: CardInput) -> None:
    assert SECRET not in write_card(story)


def test_more_than_thirty_classes_are_cut_to_the_twenty_worst(story: CardInput) -> None:
    classes = {f"class-{number:02}": {**FIGURES, "f1": number / 100} for number in range(31)}
    card = write_card(replace(story, evaluation={**story.evaluation, "per_class": classes}))
    assert "The 20 worst of 31 classes by F1" in card
    assert "class-19" in card
    assert "class-20" not in card
    thirty = dict(list(classes.items())[:30])
    assert "class-29" in write_card(replace(story, evaluation={**story.evaluation, "per_class": thirty}))


def test_broken_and_leaked_rows_are_told_by_place(story: CardInput) -> None:
    broken = [Broken(f"films/train.csv:{line}", "empty text") for line in range(25)]
    card = write_card(replace(story, dataset=replace(story.dataset, broken=broken, num_leaked=3)))
    assert "25 invalid rows were left out" in card
    assert "films/train.csv:19: empty text" in card
    assert "films/train.csv:20: empty text" not in card
    assert "and 5 more" in card
    assert "3 training rows removed: also in the validation set (leakage)." in card


def test_an_interrupted_run_says_what_its_time_counts(story: CardInput) -> None:
    assert "after update 700" in write_card(replace(story, cost={**COST, "resumed_after_updates": 700}))
    assert "was not written down" in write_card(replace(story, cost={}))


def test_a_label_cannot_break_the_table(story: CardInput) -> None:
    card = write_card(replace(story, evaluation={**story.evaluation, "per_class": {"a|b\nc": FIGURES}}))
    assert "| a\\|b c | 0.5000 |" in card


def test_the_score_from_which_on_answers_may_be_trusted_is_told(story: CardInput) -> None:
    selective = {"wanted": 0.95, "score": 0.83, "accuracy": 0.9512, "share": 0.784, "rows": 2148}
    card = write_card(replace(story, evaluation={**story.evaluation, "calibration": {"selective": selective}}))
    assert "score of at least 0.83 are right in 95.1 % of the cases (95 % were wanted), and 78.4 % of all answers have" in card
    assert "at least 0.83" not in write_card(story)


CALIBRATED = {
    "expected_calibration_error_before": 0.0627,
    "expected_calibration_error": 0.0137,
    "expected_calibration_error_by_chance": 0.0066,
    "rows": 3250,
    "by_source": {"a.csv": {"expected_calibration_error": 0.01, "answers": 10}},
    "bins": [{"from": 0.9333, "rows": 4893, "score": 0.974, "right": 0.983}],
    "method": "fitted on one half",
    "selective": {"wanted": 0.95, "score": None, "rows": 6058},
}


def test_what_was_fitted_to_scores_is_told_with_its_error_before_and_after() -> None:
    line = {"score_slope": 1.5, "score_intercept": -6.0}
    section = "\n".join(describe_scores({**CALIBRATED, **line}))
    assert section.startswith("## Scores\n")
    assert "by Platt scaling: log-odds times 1.5, -6." in section
    assert "is 0.0137 (0.0627 without); scores that are exact would have 0.0066 by chance" in section
    assert "| 0.974 | 0.983 | 4,893 |" in section
    assert "There is no score from which on 95 % of the answers are right." in section
    assert "a.csv" not in section  # a single source has the figures of all rows
    limits = "\n".join(describe_scores({**CALIBRATED, **line, "score_floor": 0.4}))
    assert "log-odds times 1.5, -6, between a floor of 0.4 and a ceiling of 1." in limits
    two = {**CALIBRATED["by_source"], "b.csv": {"expected_calibration_error": 0.2, "answers": 7}}  # type: ignore[dict-item]
    assert "| b.csv | 0.2000 | 7 |" in "\n".join(describe_scores({**CALIBRATED, "by_source": two}))


def test_that_nothing_was_fitted_is_told_and_why() -> None:
    assert "60 labelled rows were held out, 100 are wanted" in "\n".join(describe_scores({"rows": 60, "rows_wanted": 100}))
    assert "nothing that was fitted helped other rows" in "\n".join(describe_scores(CALIBRATED))
    assert describe_scores({}) == []


def test_how_well_it_is_said_that_there_is_no_answer_is_told() -> None:
    before = {"f1": 74.08, "f1_answered": 74.2, "f1_unanswered": 74.0, "expected_calibration_error": 0.18}
    after = {"f1": 79.36, "f1_answered": 70.25, "f1_unanswered": 88.46, "expected_calibration_error": 0.02}
    lines = {"no_answer_slope": 0.4, "no_answer_intercept": 3.3}
    text = "\n".join(describe_scores({"no_answer": {**lines, "before": before, "after": after, "rows": 1196}}))
    assert "F1 is 79.36 on 1,196 questions of which every second has none" in text
    assert "88.46 % of the others are refused" in text
    assert "0.0200 (0.1800 without; F1 74.08)" in text
