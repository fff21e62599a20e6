"""Plots as SVG: drawn here, since they must follow the page's light and dark, and matplotlib's do not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

FEW_POINTS = 60
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 430, 260, 62, 40, 12, 10
"""Units of the picture, and the room around what is plotted."""


def reliability(calibration: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Reliability diagram: accuracy in each tenth of the scores; on the diagonal scores are probabilities."""
    parts = [*_axes("score", "accuracy"), _line([(0, 0), (1, 1)], "ideal")]
    for name in ("before", "after"):
        bins = calibration[name]["bins"]
        points = [(entry["score"], entry["right"]) for entry in bins]
        parts.append(_line(points, name))
        max_rows = max(entry["rows"] for entry in bins)
        for entry, (x, y) in zip(bins, points, strict=True):
            title = f"{name}: score {entry['score']:.2f}, accuracy {entry['right']:.2f}, {entry['rows']:,} rows"
            radius = 2.5 + 5 * (entry["rows"] / max_rows) ** 0.5
            parts.append(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
                name, _x(x), _y(y), radius, title
            ))  # fmt: skip
    return _svg(parts, "Accuracy by score, before and after temperature scaling")


def lengths(groups: Sequence[Mapping[str, Any]], what: str, is_share: bool = True) -> Markup:
    """A bar for each group of lengths, with its 95 % interval; shares are drawn from 0 to 1."""
    top = 1.0 if is_share else _round(max(group["high"] for group in groups) or 1.0)
    parts = list(_axes("input length in tokens", what, with_x=False, up_to=top))
    step = 1 / len(groups)
    for number, group in enumerate(groups):
        left, right = _x(number * step + 0.12 * step), _x((number + 1) * step - 0.12 * step)
        middle, (first, last) = (left + right) / 2, group["tokens"]
        name = f"{first}" if first == last else f"{first}–{last}"
        low, high = (min(1.0, max(0.0, group[key] / top)) for key in ("low", "high"))
        mean = min(1.0, max(0.0, group["mean"] / top))
        parts.append(
            Markup(
                '<g><title>{}</title><rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                '<path class="whisker" d="M{:.1f} {:.1f}V{:.1f}"/>'
                '<text class="tick" text-anchor="middle" x="{:.1f}" y="{}">{}</text></g>'
            ).format(
                f"{name} tokens: {group['mean']:.3f} ({group['low']:.3f} to {group['high']:.3f}), {group['rows']:,} rows",
                left, _y(mean), right - left, _y(0) - _y(mean), middle, _y(low), _y(high), middle, HEIGHT - BOTTOM + 14, name,
            )
        )  # fmt: skip
    return _svg(parts, f"{what} by length")


def scatter(points: Sequence[Sequence[float]]) -> Markup:
    """True values across, predicted values up, on one scale."""
    low, high = min(map(min, points)), max(map(max, points))
    span = (high - low) or 1.0
    parts = [*_axes("true value", "predicted value", True, low, high), _line([(0, 0), (1, 1)], "ideal")]
    for true, predicted in points:
        parts.append(
            Markup('<circle class="point" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>').format(
                _x((true - low) / span), _y((predicted - low) / span), f"true {true:g}, predicted {predicted:g}"
            )
        )
    return _svg(parts, "Predicted values against true values")


def heat_map(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> Markup:
    """The confusion matrix of many labels: a row is what is right, and the darker a cell, the larger its share of the row."""
    size = 640 / len(labels)
    cells = []
    for line, row in enumerate(matrix):
        total = sum(row)
        for column, count in enumerate(row):
            if count:
                title = f"{labels[line]} → {labels[column]}: {count:,} of {total:,}"
                cells.append(
                    Markup(
                        '<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" opacity="{:.2f}">'
                        "<title>{}</title></rect>"
                    ).format(
                        "hit" if line == column else "miss", column * size, line * size, size, size,
                        0.35 + 0.65 * count / total, title,
                    )
                )  # fmt: skip
    return Markup(
        '<svg class="heat" viewBox="-1 -1 642 642" role="img" aria-label="Confusion matrix">'
        '<rect class="frame" x="-.5" y="-.5" width="641" height="641"/>{}</svg>'
    ).format(Markup("").join(cells))


def curve(lines: Mapping[str, Sequence[tuple[float, float]]], up: str) -> Markup:
    """Values over updates, a line for each kind, and points where there are few.

    Args:
        lines: by kind, which is also the line's class: updates and values; at least one of them is not empty.
    """
    points = [point for line in lines.values() for point in line]
    last = 5 * math.ceil(max(update for update, _ in points) / 5)  # so that each of the five steps is a whole update
    highest = max(value for _, value in points)
    top = _round(highest) if highest > 0 else 1.0
    parts = list(_axes("update", up, up_to=top, across_to=float(last)))
    for kind, line in lines.items():
        scaled = [(update / last, value / top) for update, value in line]
        parts.append(_line(scaled, kind))
        if len(line) <= FEW_POINTS:
            for (update, value), (x, y) in zip(line, scaled, strict=True):
                parts.append(
                    Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.5"><title>{}</title></circle>').format(
                        kind, _x(x), _y(y), f"{kind}: {value:.4g} at update {update:,}"
                    )
                )
    return _svg(parts, f"{up} by update")


def _axes(
    across: str,
    up: str,
    with_x: bool = True,
    up_from: float = 0.0,
    up_to: float = 1.0,
    across_to: float | None = None,
) -> Iterator[Markup]:
    """Five steps up, and the same across where there are numbers, or steps to `across_to`."""
    for number in range(6):
        place, y = number / 5, _y(number / 5)
        tick = f"{up_from + place * (up_to - up_from):.3g}"
        yield Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT)
        yield Markup('<text class="tick" text-anchor="end" x="{}" y="{:.1f}">{}</text>').format(LEFT - 6, y + 4, tick)
        if with_x:
            if across_to is not None:
                tick = f"{place * across_to:.3g}" if across_to < 1000 else f"{place * across_to:,.0f}"
            yield Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{}">{}</text>').format(
                _x(place), HEIGHT - BOTTOM + 14, tick
            )
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield Markup('<text class="axis" text-anchor="middle" x="{}" y="{}">{}</text>').format(middle, HEIGHT - 6, across)
    yield Markup('<text class="axis" text-anchor="middle" transform="translate(11 {}) rotate(-90)">{}</text>').format(
        (TOP + HEIGHT - BOTTOM) / 2, up
    )


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    coordinates = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(kind, coordinates)


def _round(highest: float) -> float:
    """The next larger number of which a fifth has one digit."""
    unit: float = 10 ** math.floor(math.log10(highest / 5))
    return 5 * unit * math.ceil(highest / 5 / unit)


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - BOTTOM - TOP)


def _svg(parts: Sequence[Markup], title: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, escape(title), Markup("").join(parts)
    )
