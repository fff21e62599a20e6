"""The docs page in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.test_accessibility import CONTRAST
from tests.support.live_service import LiveService


@pytest.fixture(scope="module")
def page(open_page: Open) -> Iterator[Page]:
    """The page in the dark, for tests that may find operations opened: to draw it takes seconds."""
    with open_page("/docs", color_scheme="dark", reduced_motion="reduce") as page:
        yield page


def operation(page: Page) -> Locator:
    """One of a task, opened, which takes seconds the first time."""
    block = page.locator(".opblock", has=page.locator(".opblock-summary-path", has_text=re.compile(r"^\W*/v1/answer\W*$")))
    expect(block).to_be_visible()
    if "is-open" not in (block.get_attribute("class") or ""):
        block.locator(".opblock-summary").click()
    return block


def execute(block: Locator) -> Locator:
    """The response to its example, which is asked for as it stands."""
    block.get_by_role("button", name="Execute").click()
    response = block.locator(".live-responses-table .response").first
    expect(response).to_be_visible()
    return response


def test_an_example_is_executed_where_it_stands(page: Page) -> None:
    block = operation(page)
    block.locator(".examples-select-element").first.select_option(label="a list, with allow_no_answer and top_k")
    response = execute(block)
    expect(response.locator(".response-col_status")).to_contain_text("200")
    expect(response).to_contain_text("Anna Schmidt")


@pytest.mark.slow
def test_tags_come_in_the_order_a_newcomer_needs(page: Page) -> None:
    expect(page.locator(".opblock-tag").first).to_be_visible()
    tags = [entry.get_attribute("data-tag") for entry in page.locator(".opblock-tag").all()]
    assert tags[0] == "Predict"
    assert tags.index("Models") < tags.index("Health")


def test_every_error_is_shown_with_its_own_example(page: Page) -> None:
    block = operation(page)
    for status in (401, 404, 413, 415, 422, 429, 503, 504):
        row = block.locator(f".responses-table .response[data-code='{status}']")
        expect(row).to_contain_text(f'"status": {status}')


def check_scheme(page: Page, is_dark: bool) -> None:
    expect(page.locator(".opblock").first).to_be_visible()
    assert page.evaluate("document.documentElement.classList.contains('dark-mode')") is is_dark


def check_contrast(page: Page) -> None:
    expect(execute(operation(page))).to_contain_text('"answers"')
    found = page.evaluate(CONTRAST)
    assert found["seen"] > 200
    assert found["faint"] == []


def test_it_follows_the_scheme_of_the_system_and_every_text_has_enough_contrast(page: Page) -> None:
    check_scheme(page, is_dark=True)
    check_contrast(page)


@pytest.mark.slow
def test_so_it_does_in_the_light(open_page: Open) -> None:
    with open_page("/docs", color_scheme="light", reduced_motion="reduce") as page:
        check_scheme(page, is_dark=False)
        check_contrast(page)


@pytest.mark.slow
def test_it_works_behind_a_prefix(open_page: Open, prefixed_service: LiveService) -> None:
    with open_page("/hooper/docs", url=prefixed_service.url) as page:
        page.locator(".opblock-summary-path", has_text="/v1/classify").click()
        page.get_by_role("button", name="Execute").click()
        response = page.locator(".live-responses-table .response").first
        expect(response).to_contain_text("positive")
        expect(page.locator(".live-responses-table")).to_contain_text("sentiment")


@pytest.mark.slow
def test_an_operation_can_be_read_and_run_on_a_phone(open_page: Open) -> None:
    with open_page("/docs", viewport={"width": 360, "height": 800}) as page:
        page.locator(".opblock-summary").first.click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table .response").first).to_be_visible()
        too_wide = page.locator("#swagger-ui *").evaluate_all(
            "all => all.filter(node => node.getBoundingClientRect().right > 361).map(node => node.className)"
        )
        assert too_wide == []
