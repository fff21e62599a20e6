"""What the playground shows of a model comes from the model; files come back with answers; two versions stand side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from app.tasks.registry import installed_tasks
from tests.browser.conftest import Open
from tests.browser.test_playground import choose, press
from tests.support.live_service import LiveService, serving
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import publish_tiny, publish_tiny_spec

LABELS = ("bad", "fine", "good")


@pytest.fixture(scope="module")
def own_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service over a model of each kind of labels and of items, and two of one kind."""
    models = tmp_path_factory.mktemp("models")
    publish_tiny(models, "first")
    publish_tiny(models, "second", labels=("good", "bad"))
    publish_tiny(models, "topics", labels=LABELS, problem_type="multi_label_classification", thresholds={"bad": 0, "good": 1})
    sign_again(
        publish_tiny(models, "pairs"), data_format={"columns": {"text": "sentence1", "text_pair": "sentence2", "label": "gold"}}
    )
    publish_tiny(models, "nli", labels=("entailment", "contradiction"))
    publish_tiny_spec(models, installed_tasks()["feature-extraction"])
    publish_tiny(models, "stars", labels=["score"], problem_type="regression", scale=2.0, offset=3.0, value_range=[1, 5])
    with serving(models) as running:
        yield running


def upload(page: Page, content: bytes, name: str = "texts.csv") -> None:
    page.get_by_text("Answer a csv file").click()
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content})


def download(page: Page) -> str:
    with page.expect_download() as event:
        page.get_by_role("button", name="Download").click()
    return Path(event.value.path()).read_bytes().decode()


def test_labels_are_selected_by_the_models_thresholds_until_the_slider_is_moved(
    open_page: Open, own_models: LiveService
) -> None:
    with open_page(url=own_models.url) as page:
        choose(page, "topics")
        press(page, "Classify")
        selected = page.locator(".labels li:not(.below)")
        expect(page.get_by_text("labels selected, by the model's own thresholds.")).to_be_visible()
        before = selected.count()
        page.get_by_role("slider", name="Threshold for all labels").fill("0")
        expect(page.get_by_text("3 of 3 labels selected, by your threshold.")).to_be_visible()
        page.get_by_role("button", name="The model's own thresholds").click()
        expect(selected).to_have_count(before)
        choose(page, "first")
        press(page, "Classify")
        expect(page.get_by_role("slider")).to_have_count(0)
        expect(page.get_by_label("Second text")).to_have_count(0)


@pytest.mark.slow
def test_labels_of_ones_own_are_chosen_among_by_models_of_inference_and_of_vectors(
    open_page: Open, own_models: LiveService
) -> None:
    with open_page(url=own_models.url) as page:
        choose(page, "nli")
        page.get_by_label("Labels of your own").fill("good, bad , film")
        press(page, "Classify")
        expect(page.locator(".labels li")).to_have_count(3)
        expect(page.get_by_role("button", name="Why?")).to_have_count(0)
        choose(page, "feature-extraction")
        page.get_by_label("Texts, one a line").fill("good film\nbad")
        page.get_by_label("Labels of your own").fill("good,bad")
        press(page, "Compare")
        expect(page.locator(".labels li")).to_have_count(2)
        page.get_by_label("Labels of your own").fill("")
        press(page, "Compare")
        expect(page.locator(".heatmap")).to_be_visible()
        choose(page, "first")
        expect(page.get_by_label("Labels of your own")).to_have_count(0)


def test_a_number_is_shown_as_a_number_with_its_range(open_page: Open, own_models: LiveService) -> None:
    with open_page(url=own_models.url) as page:
        choose(page, "stars")
        press(page, "Predict")
        score = page.request.post(
            f"{own_models.url}/v1/classify", data={"inputs": "The film was good.", "model": "stars"}
        ).json()
        assert float(page.locator(".best").inner_text()) == pytest.approx(score["results"][0]["labels"][0]["score"], rel=1e-3)
        expect(page.get_by_text("Range of the training data: 1 to 5.")).to_be_visible()
        page.get_by_role("button", name="Why?").click()
        expect(page.locator(".legend")).to_be_visible()
        assert "%" not in page.locator("#desk").inner_text()


def test_examples_and_figures_are_the_models_own(open_page: Open, own_models: LiveService) -> None:
    with open_page(url=own_models.url) as page:
        choose(page, "first")
        chips = page.locator(".chip").all_inner_texts()
        assert chips == [
            "The film was good.",
            "A bad film.",
            "Not good, not bad.",
            "very very good films",
            "Too long for the model",
        ]
        expect(page.get_by_label("Text", exact=True)).to_have_value("The film was good.")
        expect(page.get_by_text("Evaluation: accuracy 1, macro F1 1 on 5 held-out rows.")).to_be_visible()
        page.locator(".chip").nth(1).click()
        expect(page.locator(".answer .facts")).to_be_visible()


@pytest.mark.slow
def test_only_a_model_for_pairs_asks_for_a_second_text(open_page: Open, own_models: LiveService) -> None:
    with open_page(url=own_models.url) as page:
        choose(page, "pairs")
        page.get_by_label("Second text").fill("bad")
        press(page, "Classify")
        upload(page, b"sentence1,sentence2\ngood,bad\n")
        expect(page.get_by_label("Column for text pair")).to_have_value("1")


def test_two_models_answer_side_by_side(open_page: Open, own_models: LiveService) -> None:
    with open_page(url=own_models.url) as page:
        choose(page, "first")
        expect(page.get_by_label("Compare with")).to_have_value("")
        page.get_by_label("Compare with").select_option("second/1")
        press(page, "Classify")
        expect(page.locator(".version h3")).to_have_text(["first/1", "second/1"])
        expect(page.get_by_text("The answers differ.")).to_be_visible()
        expect(page.locator(".changes li")).to_have_count(2)
        page.get_by_label("Compare with").select_option("")
        press(page, "Classify")
        expect(page.locator(".version")).to_have_count(0)


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [
        ("utf-8", ","),
        pytest.param("utf-8-sig", "\t", marks=pytest.mark.slow),
        pytest.param("cp1252", ";", marks=pytest.mark.slow),
        pytest.param("utf-16", ";", marks=pytest.mark.slow),
    ],
)
def test_a_file_comes_back_with_answers(open_page: Open, own_models: LiveService, encoding: str, delimiter: str) -> None:
    rows = [
        ["Nr", "Beschreibung", "label"],
        ["1", "good \u00fcber\nzwei", "=1+1"],
        ["2", "", "-5"],
        ["3", 'a "bad" film, ; \t', "x"],
    ]
    source = io.StringIO()
    csv.writer(source, delimiter=delimiter).writerows(rows)
    with open_page(url=own_models.url) as page:
        choose(page, "first")
        upload(page, source.getvalue().encode(encoding))
        expect(page.get_by_label("Column for text")).to_have_value("1")
        page.get_by_role("button", name="Answer 3 rows").click()
        expect(page.get_by_text("3 of 3 rows, 1 with an error.")).to_be_visible()
        content = download(page)
    assert content.startswith("\ufeff")
    header, *answers = csv.reader(io.StringIO(content[1:]), delimiter=delimiter)
    assert header == [*rows[0], "predicted label", "score", "num_tokens", "truncated", "error"]
    assert [row[:2] for row in answers] == [[*row[:2]] for row in rows[1:]]
    assert [row[2] for row in answers] == ["'=1+1", "-5", "x"]  # a formula is disarmed, a number is none
    assert answers[0][3] == "good"
    assert answers[1][3:] == ["", "", "", "", "text: must not be empty"]
    assert ("," in answers[0][4]) == (delimiter == ";")


@pytest.mark.slow
def test_a_busy_service_is_waited_for_and_a_stop_keeps_what_is_there(open_page: Open, own_models: LiveService) -> None:
    asked = []

    def busy_once_then_slow(route: Route) -> None:
        asked.append(route.request.post_data_json)
        if len(asked) == 2:
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"type": "overloaded", "detail": "too many rows"})
        elif len(asked) == 4:
            page.get_by_role("button", name="Stop").evaluate("button => button.click()")
        else:
            route.continue_()

    with open_page(url=own_models.url, expected=("429",)) as page:
        choose(page, "first")
        page.route("**/v1/classify", busy_once_then_slow)
        upload(page, ("text\n" + "good\n" * 200).encode())
        page.get_by_role("button", name="Answer 200 rows").click()
        expect(page.get_by_role("button", name="Continue")).to_be_visible()
        assert asked[1] == asked[2]
        expect(page.get_by_text("128 of 200 rows.")).to_be_visible()
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("200 of 200 rows.")).to_be_visible()
        assert download(page).count("\r\n") == 201


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04rest", "This is a workbook or an archive, not csv."),
        pytest.param(b"", "texts.csv is empty.", marks=pytest.mark.slow),
        pytest.param(b"text,label\n", "texts.csv has a header and no rows.", marks=pytest.mark.slow),
        pytest.param(
            b"text\n" + b"good\n" * 10_001,
            "texts.csv has 10,001 rows; at most 10,000 are answered here.",
            marks=pytest.mark.slow,
        ),
        pytest.param(b"a\0b", "This is no text file", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_cannot_be_answered_says_why(
    open_page: Open, own_models: LiveService, content: bytes, sentence: str
) -> None:
    with open_page(url=own_models.url) as page:
        choose(page, "first")
        upload(page, content)
        expect(page.get_by_role("alert")).to_contain_text(sentence)


@pytest.mark.slow  # test_it_is_readable_on_a_phone shows the same of the shipped models
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_on_a_phone(open_page: Open, own_models: LiveService, scheme: str) -> None:
    with open_page(url=own_models.url, viewport={"width": 360, "height": 800}, color_scheme=scheme) as page:
        for model, verb in (("topics", "Classify"), ("stars", "Predict"), ("first", "Classify")):
            choose(page, model)
            if page.get_by_label("Compare with").is_visible():
                page.get_by_label("Compare with").select_option(index=1)
            press(page, verb)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
