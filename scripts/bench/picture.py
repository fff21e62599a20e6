"""The picture of a benchmark: each server's requests a second under each load, or the service's share of its engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.bench.drawing import BLUE, GREEN, GREY, ORANGE, SETTINGS, save
from scripts.bench.report import Line, Report
from scripts.bench.versus import Standing

COLOURS = (BLUE, GREEN, ORANGE, GREY)


def draw_bench(report: Report, file: Path) -> None:
    """Bars for everybody who was asked; where nobody else was, for the texts a second of the service alone."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    bars = _standings(report.standings) if report.standings else _lines(report.lines)
    titles = list(dict.fromkeys(title for _, title, _ in bars))
    groups = list(dict.fromkeys(group for group, _, _ in bars))
    values = {(group, title): value for group, title, value in bars}
    height = 0.8 / len(titles)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(8, 0.6 + 0.24 * len(groups) * (len(titles) + 0.5)), layout="constrained")
        axes = figure.subplots()
        for number, title in enumerate(titles):
            places = [index + (number - (len(titles) - 1) / 2) * height for index in range(len(groups))]
            drawn = axes.barh(
                places,
                [values.get((group, title), 0.0) for group in groups],
                height=height,
                color=COLOURS[number % len(COLOURS)],
                label=title,
            )
            axes.bar_label(drawn, fmt="%.0f", padding=3)
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.set(xlabel="requests/s" if report.standings else "texts/s")
        axes.margins(x=0.1)
        if len(titles) > 1:
            figure.legend(loc="outside upper center", ncols=2)
        save(figure, file)


Bar = tuple[str, str, float]
"""Which load, whose bar, and how long."""


def _standings(standings: Sequence[Standing]) -> list[Bar]:
    return [(f"{one.profile} texts,\n{_callers(one.connections)}", one.title, one.requests_per_s) for one in standings]


def _lines(lines: Sequence[Line]) -> list[Bar]:
    return [(f"{one.profile}, {one.load},\n{one.items} a request", "Hooper", one.texts_per_s) for one in lines]


def _callers(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"
