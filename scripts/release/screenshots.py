"""`python -m scripts.release.screenshots` photographs the playground and the docs page over the shipped models, for the docs;
with `--report PAGE`, a page that `hooper train` wrote.

Needs playwright (the extra `dev`) and a Chromium on the PATH (on Debian: apt install chromium).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from scripts.bench.service import start_service

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "images"
MAX_BYTES = 200_000
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--process-per-site",
)  # fmt: skip
TRAFFIC = """async () => {
  for (let round = 1; round <= 24; round++) {
    const body = JSON.stringify({inputs: `Film number ${round} was good.`});
    const requests = Array.from({length: 3 + round % 8 * 4}, () => fetch("v1/classify", {
      method: "POST", headers: {"Content-Type": "application/json"}, body}));
    await Promise.all([...requests, new Promise((done) => setTimeout(done, 700))]);
  }
}"""


@dataclass(frozen=True)
class Shot:
    """One picture: what is done on which page, and how it is looked at."""

    name: str
    take: Callable[[Page], None]
    width: int = 1200
    height: int = 900
    scheme: Literal["light", "dark"] = "light"
    page: str = ""


def ask(model: str, example: int) -> Callable[[Page], None]:
    """Choose a model, take one of its examples by its place, and wait for the answer."""

    def take(page: Page) -> None:
        page.get_by_role("radio", name=model).check()
        page.locator(".chip").nth(example).click()
        page.locator(".facts").wait_for()

    return take


def under_load(page: Page) -> None:
    page.evaluate(TRAFFIC)
    page.locator("#live").scroll_into_view_if_needed()


def open_first_operation(page: Page) -> None:
    page.locator(".opblock-summary").first.click()
    page.get_by_role("button", name="Execute").wait_for()
    page.evaluate("scrollTo(0, 0)")


SHOTS = (
    Shot("playground-classify", ask("sentiment", 2)),
    Shot("playground-answer", ask("qa", 1), height=1150),
    Shot("playground-summarize-dark", ask("summary", 0), height=1050, scheme="dark"),
    Shot("playground-phone", ask("sentiment", 0), width=390, height=1180),
    Shot("playground-live", under_load, height=420),
    Shot("docs-page", open_first_operation, height=1000, page="docs"),
)


REPORT = Shot("report", lambda page: None, width=1000, height=1330)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser that talks to nobody on its own.

    Raises:
        FileNotFoundError: there is no `chromium` on the PATH.
    """
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("there is no chromium on the PATH; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def photograph(browser: Browser, url: str, shot: Shot, out: Path) -> Path:
    """Take one picture.

    Raises:
        ValueError: the file is too large to be kept in the repository.
    """
    size = {"width": shot.width, "height": shot.height}
    context = browser.new_context(color_scheme=shot.scheme, viewport=size, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url + shot.page)
    page.locator(".opblock" if shot.page else "#figures, #models label").first.wait_for()
    shot.take(page)
    path = out / f"{shot.name}.png"
    page.screenshot(path=path)
    context.close()
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes; at most {MAX_BYTES} are kept")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.release.screenshots", description="Photograph the pages of the service."
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the pictures (docs/images)")
    parser.add_argument("--only", metavar="NAME", choices=[shot.name for shot in SHOTS], help="take this picture alone")
    parser.add_argument("--report", metavar="PAGE", type=Path, help="photograph this report alone")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.report:
        with chromium() as browser:
            print(photograph(browser, options.report.resolve().as_uri(), REPORT, options.out))
        return 0
    with start_service({"HOOPER_MODELS": str(ROOT / "models")}, folder=ROOT) as service, chromium() as browser:
        for shot in SHOTS:
            if options.only in (None, shot.name):
                print(photograph(browser, f"{service.address.url}/", shot, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
