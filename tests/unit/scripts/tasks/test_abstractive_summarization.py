"""Abstractive summarization offline: ROUGE in the documents' language, beside the first sentences."""

from __future__ import annotations

from typing import Any

import pytest

from app.tasks.extractive_summarization.task import SummaryItem
from scripts.report.page import to_html
from scripts.tasks.abstractive_summarization import SPEC as TASK
from scripts.tasks.generation.task import written
from scripts.tasks.spec import ReportInput
from scripts.training.data import Example
from scripts.training.evaluation import Predictions

DOCUMENT = "Anna opened a library in 1903. It is in the old town. Many people came. Some of them stayed."
SUMMARY = "A library was opened in 1903."


def example(number: int) -> Example:
    return Example(SummaryItem(f"{DOCUMENT} That was number {number}."), SUMMARY, "a", f"a:{number}")


def test_rouge_is_of_rows_and_baselines_are_the_first_sentences() -> None:
    examples = [example(number) for number in range(4)]
    figures = TASK.evaluate([written(SUMMARY)] * 4, examples, {"language": "en"})
    assert figures["headline"] == {"rouge1": 100.0, "rouge2": 100.0, "rougeLsum": 100.0, "rows": 4}
    baselines = dict(TASK.baselines([], examples, {"language": "en"}))
    assert baselines["first sentence"][0].text == "Anna opened a library in 1903."
    assert baselines["lead-3"][0].text.endswith("Many people came.")


@pytest.mark.parametrize(("language", "expected"), [("en", 100.0), ("de", 0.0)])
def test_words_are_compared_by_their_stems_in_english_alone(language: str, expected: float) -> None:
    target = Example(SummaryItem("x"), "dogs", "a", "a:1")
    assert TASK.evaluate([written("dog")], [target], {"language": language})["headline"]["rouge1"] == expected


def test_a_report_shows_sources_references_and_texts_side_by_side() -> None:
    examples = [example(number) for number in range(3)]
    answers = [written("Bob and Carol <b> opened a library in 1999.")] * 3
    encoded: Any = [type("Encoded", (), {"num_tokens": 20 + number})() for number in range(3)]
    evaluated = ReportInput("s/1", TASK, {"language": "en"}, None, examples, Predictions(answers, encoded, []), None)
    sections = TASK.report_sections(evaluated)
    assert sections["written"]["numbers"][0]["numbers"] == ["1999"]
    assert sections["written"]["names"][0]["names"] == ["Carol"]
    assert {"source", "reference", "text", "where", "score"} == sections["samples"][0].keys()
    report = {
        "model": "s/1", "task": TASK.name, "about": {}, "notes": [], **TASK.evaluate(answers, examples, {}), **sections,
    }  # fmt: skip
    page = to_html(report)
    assert "Bob and Carol &lt;b&gt; opened" in page
    assert "Texts with numbers that the source lacks" in page
    assert "95 % intervals" in page
