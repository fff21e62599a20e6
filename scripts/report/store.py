"""Reports on disk: `report-<version>.html` and `.json` in a run's folder, never beside the model, since they hold texts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.core.errors import InvalidSettings, SetupError
from app.core.files import write_atomically
from scripts.report.page import to_html

FILE = re.compile(r"report-([1-9][0-9]*)\.html")


def write(report: Mapping[str, Any], page: Path) -> Path:
    """Write the page and, beside it, the same as json; each is there as a whole or not at all.

    Returns:
        The page.

    Raises:
        SetupError: they cannot be written.
    """
    page = page.with_suffix(".html")
    texts = {
        page.with_suffix(".json"): json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        page: to_html(report),
    }
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            write_atomically(path, text)
    except OSError as error:
        raise SetupError(f"the report cannot be written to {page}: {error.strerror or error}") from error
    return page


def page_of(run: Path, version: int) -> Path:
    return run / f"report-{version}.html"


def find(wish: str, runs: Path) -> Path:
    """The page of `name/version`, the newest of a name, of a run's folder, or, without a wish, of all; a page's path is itself.

    Raises:
        InvalidSettings: there is none.
    """
    path = Path(wish).expanduser()
    if wish and path.is_file():
        return path.with_suffix(".html")
    name, _, version = wish.rpartition("/")
    if version.isdecimal() and page_of(runs / name, int(version)).is_file():
        return page_of(runs / name, int(version))
    folders = [path, runs / wish] if wish else sorted(runs.glob("*/"))
    found = [one for folder in folders if folder.is_dir() for one in folder.iterdir() if FILE.fullmatch(one.name)]
    if not found or version.isdecimal():
        raise InvalidSettings(
            f"there is no report {f'on {wish} ' if wish else ''}in {runs}; `hooper train` writes one,"
            f" and `hooper report {wish or 'NAME'} --data FILE` makes one of a published model and labelled texts"
        )
    return max(found, key=lambda one: (one.stat().st_mtime_ns, one.name))
