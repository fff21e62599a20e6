"""A headless Chromium, the service over the shipped models, and pages that must stay quiet and at home."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from scripts.release.screenshots import chromium
from tests.support.live_service import ROOT, LiveService, serving

Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(autouse=True, scope="session")
def needs_chromium() -> None:
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium on the PATH; on Debian: apt install chromium")


# of this folder, not of the session: while it is open, no asyncio test could run in this thread
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)  # milliseconds: a bound, not a wait; the machine may be busy with other things
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def prefixed_service() -> Iterator[LiveService]:
    """One that stands behind a proxy, below a path."""
    with serving(ROOT / "models", serve="sentiment", root_path="/hooper") as running:
        yield running


@pytest.fixture(scope="package")
def open_page(browser: Browser, shipped_service: LiveService) -> Open:
    """Opens a page of a service, the shared one unless another is given; when it is left, nothing may have been amiss.

    `expected`: words of console errors that belong to the test, such as a refused request. Pages of one service with equal
    options are tabs of one context and one process, which is a third cheaper; nothing that these pages keep outlives its tab.
    """
    contexts: dict[str, BrowserContext] = {}

    def context_for(origin: str, options: dict[str, Any]) -> BrowserContext:
        key = repr((origin, sorted(options.items())))
        if key not in contexts:
            contexts[key] = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
            contexts[key].new_page().goto(f"{origin}/static/favicon.svg")  # the process ends with its last tab: this one
        return contexts[key]

    @contextmanager
    def opened(path: str = "/", url: str = "", expected: tuple[str, ...] = (), **options: Any) -> Iterator[Page]:
        origin = url or shipped_service.url
        page = context_for(origin, options).new_page()
        amiss: list[str] = []
        strangers: list[str] = []
        page.on("console", lambda entry: amiss.append(entry.text) if entry.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: amiss.append(str(error)))
        page.on("request", lambda entry: strangers.append(entry.url) if is_stranger(entry.url, origin) else None)
        page.goto(origin + path)
        try:
            yield page
        finally:
            page.context.set_offline(False)
            page.close()
        assert [entry for entry in amiss if not any(words in entry for words in expected)] == []
        assert strangers == []

    return opened


def is_stranger(url: str, origin: str) -> bool:
    return not url.startswith("data:") and urlsplit(url)[:2] != urlsplit(origin)[:2]
