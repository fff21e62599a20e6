"""The playground shows a text while it is written, on a desk and on a phone, and stops it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Request, expect

from tests.browser.conftest import Open
from tests.integration.test_broken_streams import Paced, paced
from tests.support.tiny_continuer import publish_tiny_continuer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paced]:
    folder = tmp_path_factory.mktemp("paced")
    publish_tiny_continuer(folder / "models")
    with paced(folder) as service:
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


@pytest.mark.parametrize("width", [1280, 390])
def test_a_conversation_stays_in_the_page_and_can_be_stopped(open_page: Open, writing: Paced, width: int) -> None:
    with open_page(url=writing.service.url, viewport={"width": width, "height": 900}, expected=("400",)) as page:
        asked: list[list[str]] = []
        page.on("request", lambda entry: asked.append(contents(entry)) if entry.url.endswith("/chat/completions") else None)
        page.get_by_text("story", exact=True).click()
        message, turns = page.get_by_label("Message", exact=True), page.locator(".turn .written")
        message.fill("w5 w6")
        writing.pace("hss")
        message.press("Enter")
        expect(turns).to_have_text(["w5 w6", "w14 w20"])
        expect(page.locator(".turn.assistant")).to_contain_text("2 tokens")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".turn.assistant")).to_contain_text("stopped")
        writing.pace("g")
        page.get_by_text("Options").click()
        page.get_by_label("Tokens to write at most").fill("1")
        message.fill("w7")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".turn.assistant").last).to_contain_text("cut off at its longest")
        assert asked == [["w5 w6"], ["w5 w6", "w14 w20", "w7"]]
        page.get_by_label("System message").fill("Be brief.")
        message.fill("w8")
        message.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("System role not supported")
        expect(message).to_have_value("w8")  # it was not said, and can be sent again
        expect(turns).to_have_count(4)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("button", name="New conversation").click()
        expect(turns).to_have_count(0)
        page.get_by_label("Text to continue").check()
        expect(page.get_by_role("button", name="Continue", exact=True)).to_be_visible()


def contents(request: Request) -> list[str]:
    return [message["content"].strip() for message in request.post_data_json["messages"]]
