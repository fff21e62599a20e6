"""The pictures of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.bench.drawing import BLUE, GREEN, GREY, ORANGE, SETTINGS, save


def draw_overload(report: dict[str, Any], file: Path) -> None:
    """Goodput and latency of what was accepted, over the load that was offered."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    steps = sorted(report["steps"], key=lambda one: float(one["offered_per_s"]))
    offered = [one["offered_per_s"] for one in steps]
    with rc_context(SETTINGS):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(offered, offered, "--", color=GREY, label="offered")
        left.plot(offered, [one["goodput_per_s"] for one in steps], "o-", color=BLUE, label="goodput")
        left.axvline(report["capacity_per_s"], color=GREY, linewidth=0.8)
        left.text(report["capacity_per_s"], 0, " capacity", color=GREY)
        left.set(xlabel="offered, requests/s", ylabel="requests/s", ylim=(0, 2 * report["capacity_per_s"]), xlim=(0, None))
        for name, colour in (("p50", GREEN), ("p95", BLUE), ("p99", ORANGE)):
            right.plot(offered, [one[f"{name}_ms"] for one in steps], "o-", color=colour, label=name)
        right.plot(offered, [one["bound_ms"] for one in steps], "--", color=GREY, label="bound")
        right.set(xlabel="offered, requests/s", ylabel="latency of accepted, ms", ylim=(0, None), xlim=(0, None))
        for axes in (left, right):
            axes.legend()
        save(figure, file)


def draw_soak(report: dict[str, Any], file: Path) -> None:
    """Memory over the requests that were sent."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    looks = report["looks"]
    sent = [one["requests"] for one in looks]
    highest = max(one["rss_mb"] for one in looks)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(8, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(sent, [one["rss_mb"] for one in looks], color=BLUE, label="resident")
        axes.plot(sent, [one["private_mb"] for one in looks], color=GREEN, label="private")
        axes.axvspan(0, report["warm_up"], color=GREY, alpha=0.2, linewidth=0, label="warm-up")
        axes.set(xlabel="requests", ylabel="memory, MB", ylim=(0, 1.25 * highest), xlim=(0, None))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(ncols=3, loc="lower right")
        save(figure, file)
