"""Plots of a report: each is one SVG that is well-formed, named for who cannot see it, and drawn within its frame."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from scripts.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curve, heat_map, lengths, reliability, scatter

BINS = [{"score": 0.1, "right": 0.0, "rows": 4}, {"score": 0.9, "right": 1.0, "rows": 16}]
GROUPS: list[dict[str, Any]] = [
    {"tokens": (1, 8), "mean": 0.5, "low": 0.25, "high": 0.75, "rows": 1200},
    {"tokens": (9, 9), "mean": 1.0, "low": 0.5, "high": 1.5, "rows": 3},
]


def elements(svg: str, kind: str, css_class: str = "") -> list[ElementTree.Element]:
    """The elements of this name, and of this class where one is given."""
    found = ElementTree.fromstring(svg).iter(kind)
    return [element for element in found if not css_class or element.get("class") == css_class]


@pytest.mark.parametrize(
    ("plot", "name"),
    [
        (reliability({"before": {"bins": BINS}, "after": {"bins": BINS}}), "temperature scaling"),
        (lengths(GROUPS, "accuracy"), "accuracy by length"),
        (scatter([(1.0, 2.0), (3.0, 2.5)]), "Predicted values against true values"),
        (heat_map(["a", "b"], [[3, 1], [0, 4]]), "Confusion matrix"),
    ],
    ids=["reliability", "lengths", "scatter", "heat map"],
)
def test_a_plot_is_an_image_with_a_name(plot: str, name: str) -> None:
    root = ElementTree.fromstring(plot)
    assert (root.tag, root.get("role")) == ("svg", "img")
    assert name in str(root.get("aria-label"))


def test_the_diagonal_is_drawn_and_a_point_of_more_rows_is_larger() -> None:
    plot = reliability({"before": {"bins": BINS}, "after": {"bins": BINS[:1]}})
    (ideal,) = elements(plot, "polyline", "ideal")
    assert ideal.get("points") == f"{LEFT:.1f},{HEIGHT - BOTTOM:.1f} {WIDTH - RIGHT:.1f},{TOP:.1f}"
    few, many = (float(point.get("r", 0)) for point in elements(plot, "circle", "before"))
    assert few < many
    assert len(elements(plot, "circle", "after")) == 1


def test_a_bar_says_its_interval_and_stays_within_the_frame() -> None:
    plot = lengths(GROUPS, "accuracy")
    assert [title.text for title in elements(plot, "title")] == [
        "1–8 tokens: 0.500 (0.250 to 0.750), 1,200 rows",
        "9 tokens: 1.000 (0.500 to 1.500), 3 rows",
    ]
    half, whole = (float(bar.get("height", 0)) for bar in elements(plot, "rect", "bar"))
    assert whole == pytest.approx(2 * half, abs=0.2)
    assert whole <= HEIGHT - BOTTOM - TOP


def test_what_is_no_share_has_an_axis_up_to_a_round_number_above_it() -> None:
    plot = lengths([{**GROUPS[0], "mean": 30.0, "low": 20.0, "high": 41.0}], "error", is_share=False)
    assert "45" in [tick.text for tick in elements(plot, "text", "tick")]


@pytest.mark.parametrize("points", [[(0.0, 0.0)], [(-5.0, 1e6), (2.0, -3.0)]])
def test_points_lie_within_the_frame_whatever_their_scale(points: list[tuple[float, float]]) -> None:
    circles = elements(scatter(points), "circle", "point")
    assert len(circles) == len(points)
    for circle in circles:
        assert LEFT <= float(circle.get("cx", -1)) <= WIDTH - RIGHT
        assert TOP <= float(circle.get("cy", -1)) <= HEIGHT - BOTTOM


def test_a_cell_of_the_matrix_is_darker_the_more_of_its_row_it_holds_and_an_empty_one_is_not_drawn() -> None:
    plot = heat_map(["a", "<b>"], [[3, 1], [0, 4]])
    (miss,) = elements(plot, "rect", "miss")
    assert [title.text for title in elements(plot, "title")] == ["a → a: 3 of 4", "a → <b>: 1 of 4", "<b> → <b>: 4 of 4"]
    shades = [float(hit.get("opacity", 0)) for hit in elements(plot, "rect", "hit")]
    assert float(miss.get("opacity", 0)) < shades[0] < shades[1] == 1


def test_the_steps_of_a_curve_are_whole_updates() -> None:
    plot = curve({"training_loss": [(1, 0.5), (18, 0.1)]}, "loss")
    ticks = [tick.text for tick in elements(plot, "text", "tick")]
    assert ticks[1::2] == ["0", "4", "8", "12", "16", "20"]
