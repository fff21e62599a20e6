"""What everybody can read and reach: names of controls, the order of headings, contrast in both schemes."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Open
from tests.browser.test_playground import EXPLAINED, QUICK_TASKS, TASKS, choose, cut_long_texts, press

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


def everything_shown(page: Page, model: str, verb: str) -> None:
    """One task with all that its answer can show: an explanation, a copied request, the options."""

    def explain(route: Route) -> None:
        answered = {"model": {"name": model, "version": 1}, "usage": {"num_tokens": 14}}
        route.fulfill(json=answered | {"results": [EXPLAINED]})

    page.route("**/v1/explain", explain)
    choose(page, model)
    press(page, verb)
    page.get_by_role("button", name="Copy as Python").click()
    page.get_by_role("button", name="Why?").click()
    page.get_by_text("Options").click()
    expect(page.locator(".legend")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("model", "verb"), QUICK_TASKS)
def test_every_text_has_enough_contrast_and_every_control_a_name(
    open_page: Open, model: str, verb: str, scheme: Literal["light", "dark"]
) -> None:
    with open_page(color_scheme=scheme, reduced_motion="reduce") as page:
        everything_shown(page, model, verb)
        found = page.evaluate(CONTRAST)
        assert found["seen"] > 60
        assert found["faint"] == []
        check_names(page)


def check_names(page: Page) -> None:
    tree: list[dict[str, Any]] = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "radio", "checkbox", "slider", "textbox", "combobox", "img", "DisclosureTriangle"}
    controls = [entry for entry in tree if entry.get("role", {}).get("value") in roles and not entry.get("ignored")]
    assert len(controls) >= 15
    assert [entry["role"]["value"] for entry in controls if not entry.get("name", {}).get("value", "").strip()] == []


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_an_error_and_a_note_have_enough_contrast(open_page: Open, scheme: Literal["light", "dark"]) -> None:
    with open_page(color_scheme=scheme, reduced_motion="reduce", expected=("422",)) as page:
        cut_long_texts(page)
        page.get_by_role("button", name="Too long for the model").click()
        expect(page.locator(".note.cut")).to_be_visible()
        assert page.evaluate(CONTRAST)["faint"] == []
        page.get_by_label("Text", exact=True).fill(" ")
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.evaluate(CONTRAST)["faint"] == []


@pytest.mark.slow
def test_the_measure_of_contrast_finds_what_is_too_faint(open_page: Open) -> None:
    with open_page() as page:
        expect(page.get_by_role("radio", name="sentiment")).to_be_visible()
        page.evaluate("document.querySelector('h1').style.color = '#b0b0b0'")
        assert [entry for entry in page.evaluate(CONTRAST)["faint"] if entry.startswith("Ask a model")]


@pytest.mark.slow
def test_headings_descend_one_level_at_a_time(open_page: Open) -> None:
    with open_page() as page:
        everything_shown(page, "sentiment", "Classify")
        levels = [
            int(entry.evaluate("one => one.tagName[1]")) for entry in page.locator("h1, h2, h3, h4").all() if entry.is_visible()
        ]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(below <= above + 1 for above, below in pairwise(levels))


@pytest.mark.slow
def test_every_name_in_the_page_is_given_once(open_page: Open) -> None:
    with open_page() as page:
        for model, verb in TASKS:
            choose(page, model)
            press(page, verb)
        names = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
        assert len(names) == len(set(names))
        assert page.evaluate("document.documentElement.lang") == "en"


def test_what_changes_is_told_to_a_screen_reader(open_page: Open) -> None:
    with open_page() as page:
        press(page, "Classify")
        expect(page.get_by_role("status")).to_have_text(re.compile(r"^Answer: positive, 9\d\.\d %$"))
        assert page.get_by_role("status").get_attribute("aria-live") == "polite"
