"""The report's page: one file without scripts, that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.export.formatting import format_value, metric_name
from scripts.report import plots

FOLDER = Path(__file__).parent
MOST_CHARACTERS = 1200
"""Of a text that are shown."""
FEW_LABELS = 12
"""So many rows and columns of a matrix can be read as a table."""
LEVELS = (0.7, 0.4, 0.15)
"""A word's share of the heaviest word's weight, from which it is marked strongly, clearly, lightly."""

OPTIONAL = ("per_class", "confusion", "calibration", "thresholds", "points", "suspects")
"""Parts that only some tasks have."""


def to_html(report: Mapping[str, Any]) -> str:
    """The page of what `build` made. Every text is escaped: the template engine does it to all that is not marked as markup."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"metric_name": metric_name, "format_value": format_value, "share": _share, "marked": marked}
    environment.globals |= {"plots": plots, "few_labels": FEW_LABELS}
    full = {**dict.fromkeys(OPTIONAL), **report, "about_temperature": _about_temperature(report.get("temperature"))}
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(report=full, style=style, measure=_measure(report))


def marked(text: str, name: str, words: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The text of one field in pieces, each with the class that it is marked by: empty, `for-1` to `for-3`, `against-…`."""
    heaviest = max((abs(one["weight"]) for one in words), default=0.0) or 1.0
    shown = text[:MOST_CHARACTERS]
    place = 0
    for one in words:
        level = sum(abs(one["weight"]) / heaviest >= least for least in LEVELS)
        if one["field"] != name or not level or one["end"] > len(shown):
            continue
        yield shown[place : one["start"]], ""
        yield shown[one["start"] : one["end"]], f"{'for' if one['weight'] > 0 else 'against'}-{level}"
        place = one["end"]
    yield shown[place:], ""
    if len(text) > len(shown):
        yield f" … ({len(text) - len(shown):,} characters more)", "cut"


def _about_temperature(temperature: float | None) -> str:
    if temperature is None:
        return "The model is published without one."
    return f"The model is published with one of {temperature:g}, fitted on all held-out rows."


def _measure(report: Mapping[str, Any]) -> str:
    if "points" in report:
        return "mean absolute error"
    return {"question-answering": "F1", "summarization": "ROUGE-1"}.get(report["task"], "share that is right")


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
