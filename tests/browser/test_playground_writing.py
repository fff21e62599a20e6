"""The playground shows a text while it is written, on a desk and on a phone, and stops it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.integration.test_broken_streams import Paced, paced

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paced]:
    with paced(tmp_path_factory.mktemp("paced")) as service:
        yield service


@pytest.mark.parametrize("width", [1280, 390])
def test_a_text_appears_as_it_is_written_and_can_be_stopped(open_page: Open, writing: Paced, width: int) -> None:
    with open_page(url=writing.service.url, viewport={"width": width, "height": 900}) as page:
        page.get_by_text("writer", exact=True).click()
        page.get_by_label("Text", exact=True).fill("w5 w6")
        writing.pace("hss")
        page.get_by_role("button", name="Write", exact=True).click()
        answer = page.locator(".answer")
        expect(answer.locator(".written")).to_have_text("w4 w13")
        expect(answer.locator(".written")).to_be_in_viewport()
        expect(answer).to_contain_text("2 tokens, after")
        expect(answer).to_have_css("opacity", "1")  # nothing looks as if it could not be used
        writing.pace("ss")
        expect(answer.locator(".written")).to_have_text("w4 w13 w13")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        expect(answer.locator(".written")).to_have_text("w4 w13 w13")
        writing.pace("g")
        page.get_by_role("button", name="Write", exact=True).click()
        expect(answer).to_contain_text("tokens/s")
        expect(answer).to_contain_text("It was cut off at its longest")
