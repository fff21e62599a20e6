"""The page: one file without scripts or addresses, in which no text can become markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from scripts.export.eval_data import read_labelled
from scripts.export.published import open_version
from scripts.report.build import build, evaluate_version
from scripts.report.page import MAX_CHARACTERS, marked, to_html
from scripts.training.recipe import Recipe
from scripts.training.records import read_records
from tests.support.tiny_model import publish_tiny_task
from tests.unit.scripts.conftest import Evaluate, write_news, write_squad

EVIL = "<script>alert('bad')</script> & <img src=x onerror=alert(1)>"
PAIRS = [("a good film", "good"), ("a bad film", "bad"), (f"very bad {EVIL}", "good"), ("the film was good .", "bad")]


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(evaluated: Any) -> Tags:
    return Tags(to_html(build(evaluated, {"made from": "none"})))


def test_no_text_becomes_markup(evaluate_tiny: Evaluate) -> None:
    page = page_of(evaluate_tiny(PAIRS))
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object"}
    assert EVIL in "".join(page.words)
    assert page.open == []


def test_a_label_becomes_no_markup_either(evaluate_tiny: Evaluate) -> None:
    page = page_of(evaluate_tiny([(text, EVIL if label == "good" else label) for text, label in PAIRS], labels=("bad", EVIL)))
    assert not any(tag in ("script", "img") for tag, _ in page.tags)


def test_the_page_asks_nobody_for_anything(evaluate_tiny: Evaluate) -> None:
    page = page_of(evaluate_tiny(PAIRS))
    for tag, attributes in page.tags:
        assert not {"src", "srcset", "data", "action"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not any("url(" in word or "@import" in word for word in page.words)


def test_every_link_of_the_page_leads_somewhere(evaluate_tiny: Evaluate) -> None:
    page = page_of(evaluate_tiny(PAIRS))
    places = {attributes.get("id") for _, attributes in page.tags}
    assert {(attributes["href"] or "")[1:] for tag, attributes in page.tags if tag == "a"} <= places


def test_a_classifier_s_page_has_every_part(evaluate_tiny: Evaluate) -> None:
    page = page_of(evaluate_tiny(PAIRS))
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert ids == ["figures", "labels", "confusion", "calibration", "length", "worst", "suspects"]
    assert {"2 labels", "tiny/1"} <= {word.strip() for word in page.words}


def test_many_labels_are_drawn_and_their_confusions_listed(evaluate_tiny: Evaluate) -> None:
    labels = [f"{number:02}" for number in range(30)]
    page = page_of(evaluate_tiny([("a good film", label) for label in labels], labels=labels))
    assert ("svg", "heat") in [(tag, attributes.get("class")) for tag, attributes in page.tags]
    assert "predicted as" in page.words


def test_several_labels_a_text_have_thresholds_and_no_confusion(evaluate_tiny: Evaluate) -> None:
    pairs = [("bad", ("bad",)), ("good", ("good",)), ("a film", ()), ("bad good", ("bad", "good"))] * 3
    report = build(evaluate_tiny(pairs, problem_type="multi_label_classification"), {})
    assert [entry["label"] for entry in report["thresholds"]["per_label"]] == ["bad", "good"]
    assert "confusion" not in report
    page = Tags(to_html(report))
    assert "Best threshold per label" in page.words
    assert page.open == []


@pytest.mark.parametrize("task", ["question-answering", "summarization"])
def test_the_other_tasks_have_their_figures_lengths_and_worst_texts(task: Any, tmp_path: Path) -> None:
    publish_tiny_task(tmp_path / "models", task, "tiny")
    version = open_version("tiny", tmp_path / "models")
    data = str(write_squad(tmp_path / "a.json") if task == "question-answering" else write_news(tmp_path / "a.jsonl"))
    recipe = Recipe(validation=[data])
    examples, _ = read_labelled(version.training, version.manifest.task_options, recipe, {data: read_records(data)})
    evaluated = evaluate_version(version, examples)
    report = build(evaluated, {})
    page = Tags(to_html(report))
    assert page.open == []
    assert len(report["worst"]) == 20
    assert sum(entry["rows"] for entry in report["by_length"]) == len(examples)
    (first,) = version.training.worst_errors(evaluated, 1)
    assert first == report["worst"][0]


def test_what_spoke_for_and_against_is_marked_by_its_weight() -> None:
    words = [
        {"field": "text", "start": 2, "end": 6, "weight": 2.0},
        {"field": "text", "start": 7, "end": 11, "weight": -1.0},
        {"field": "text", "start": 12, "end": 13, "weight": 0.1},
        {"field": "text_pair", "start": 0, "end": 1, "weight": 2.0},
    ]
    pieces = list(marked("a good film .", "text", words))
    assert pieces == [("a ", ""), ("good", "for-3"), (" ", ""), ("film", "against-2"), (" .", "")]


def test_a_long_text_is_cut_and_told_to_be() -> None:
    (start, cut) = marked("x" * (MAX_CHARACTERS + 5000), "text", [])
    assert start == ("x" * MAX_CHARACTERS, "")
    assert cut == (" … (5,000 characters more)", "cut")


def test_the_page_can_be_read_on_a_phone_and_in_the_dark(evaluate_tiny: Evaluate) -> None:
    page = to_html(build(evaluate_tiny(PAIRS), {}))
    assert 'name="viewport"' in page
    assert re.search(r"@media \(prefers-color-scheme: dark\)", page)
