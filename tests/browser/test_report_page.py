"""A report in a browser: it is quiet, readable in both schemes, and fits a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from scripts.report.command import main
from tests.browser.test_accessibility import CONTRAST
from tests.support.tiny_model import publish_tiny

LABELS = ("bad", "good", "a_label_of_which_the_name_is_longer_than_a_telephone_is_broad")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    publish_tiny(place / "models", labels=LABELS)
    rows = [f"{'very ' * (number % 9)}good film {number},{LABELS[number % 3]}" for number in range(40)]
    rows += [f"{'x' * 300},good", '"<script>document.title = 1</script> <b>not</b>",bad']
    (place / "dev.csv").write_text("\n".join(["text,label", *rows]))
    arguments = ["tiny", "--data", str(place / "dev.csv"), "--models", str(place / "models"), "--runs", str(place / "runs")]
    assert main(arguments) == 0
    return place / "runs" / "tiny" / "report-1-dev.html"


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 390),
        ("dark", 1200),
        pytest.param("light", 1200, marks=pytest.mark.slow),
        pytest.param("dark", 390, marks=pytest.mark.slow),
    ],
)
def test_it_can_be_read(page_file: Path, browser: Browser, scheme: Literal["light", "dark"], width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    amiss: list[str] = []
    page.on("console", lambda entry: amiss.append(entry.text))
    page.on("request", lambda entry: amiss.append(entry.url) if entry.url != page_file.as_uri() else None)
    page.goto(page_file.as_uri())
    assert page.title() == "tiny/1: report"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = page.evaluate(CONTRAST)
    context.close()
    assert amiss == []
    assert found["seen"] > 60
    assert found["faint"] == []
