"""What every measurement has in common: its options, how it ends, the report it writes, and how its pictures look."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP
from app.runtime.providers import available_cores
from scripts.bench.texts import PROFILES

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
"""Around what a measurement writes into a page."""
INK = "#123456"
"""Stands for the colour of text and axes until the file is written: only a style sheet can follow the reader's theme."""
STYLE = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
BLUE, ORANGE, GREEN, GREY = "#2f81f7", "#d9822b", "#2da44e", "#8b949e"
PICTURE_SETTINGS: Any = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "svg.hashsalt": "hooper",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
}  # fmt: skip
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "models": {"type": Path, "default": Path("models"), "metavar": "FOLDER", "help": "model repository (models)"},
    "model": {"default": "sentiment", "metavar": "NAME", "help": "a model that classifies texts (sentiment)"},
    "device": {"default": "auto", "metavar": "DEVICE", "help": "as HOOPER_DEVICE (auto)"},
    "threads": {"type": int, "default": 0, "metavar": "N", "help": "threads of the engine; 0: all cores (0)"},
    "profile": {"choices": PROFILES, "default": "short", "help": "which texts (short)"},
    "output": {"type": Path, "metavar": "FILE.json", "help": "keep the figures here"},
    "image": {"type": Path, "metavar": "FILE.svg", "help": "keep the picture here"},
}
"""Options that many measurements have."""


def measurement_parser(module: str, doc: str | None, *names: str) -> argparse.ArgumentParser:
    """A parser for `python -m …` with those of `OPTIONS`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=str(doc).splitlines()[0], allow_abbrev=False)
    for name in (*names, "output"):
        parser.add_argument(f"--{name}", **OPTIONS[name])
    return parser


def run_measurement(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], dict[str, Any]],
                    arguments: Sequence[str] | None) -> int:  # fmt: skip
    """Measure, print the figures as JSON, and keep them where `--output` says.

    Args:
        measure: from the options to the figures; what is not as promised stands in their `complaints`.
        arguments: of the command line; None: this process's.

    Returns:
        0; 1 if there are complaints; 2 if it could not start; 130 if it was interrupted.
    """
    name, load = parser.prog.rpartition(".")[2], os.getloadavg()
    options = parser.parse_args(arguments)
    try:
        report = {"command": command_line(parser, arguments), **report_head(load), **measure(options)}
    except (HooperError, OSError) as error:
        print(f"{name}: {error.detail if isinstance(error, HooperError) else error}", file=sys.stderr)
        return EXIT_SETUP
    print(json.dumps(report, indent=2))
    write_json(options.output, report)
    for complaint in report.get("complaints", ()):
        print(f"{name}: {complaint}", file=sys.stderr)
    if report.get("interrupted"):
        return EXIT_INTERRUPTED
    return EXIT_FAILED if report.get("complaints") else 0


def command_line(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> str:
    return " ".join([parser.prog, *(sys.argv[1:] if arguments is None else arguments)])


def report_head(load: Sequence[float]) -> dict[str, Any]:
    """When it was measured, the machine, and its load averages before (`os.getloadavg`): what else it had to do then."""
    machine = describe_machine() | {"load_before": [round(average, 1) for average in load]}
    return {"taken": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine}


def describe_machine() -> dict[str, Any]:
    """Processor, cores, system and Python."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_json(file: Path | None, report: Mapping[str, Any]) -> None:
    """Write it where a file was asked for, in a folder that need not exist yet."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]


def write_between_marks(page: Path, text: str) -> None:
    """Put what was measured between the marks of a page; of a page that is not there, it is all."""
    old = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def draw(file: Path, size: tuple[float, float], paint: Callable[[Any, list[Any]], None], columns: int = 1) -> None:
    """Write an SVG that is legible on a light page and on a dark one, and the same for the same picture.

    Args:
        size: in inches.
        paint: fills the figure and its axes.
        columns: how many axes there are, next to each other.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(PICTURE_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, list(figure.subplots(1, columns, squeeze=False)[0]))
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    head, tag, rest = text.getvalue().replace(INK, "currentColor").partition("<defs>")
    file.write_text(head + STYLE + tag + rest, encoding="utf-8")


def draw_bars(file: Path, bars: Sequence[tuple[str, str, float]], unit: str) -> None:
    """Horizontal bars, given as (group, series, value): each series has its colour and one bar in each group."""
    series = list(dict.fromkeys(title for _, title, _ in bars))
    groups = list(dict.fromkeys(group for group, _, _ in bars))
    values = {(group, title): value for group, title, value in bars}
    height = 0.8 / len(series)

    def paint(figure: Any, all_axes: list[Any]) -> None:
        (axes,) = all_axes
        for number, title in enumerate(series):
            places = [index + (number - (len(series) - 1) / 2) * height for index in range(len(groups))]
            lengths = [values.get((group, title), 0.0) for group in groups]
            colour = (BLUE, GREEN, ORANGE, GREY)[number % 4]
            axes.bar_label(axes.barh(places, lengths, height=height, color=colour, label=title), fmt="%.0f", padding=3)
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.set(xlabel=unit)
        axes.margins(x=0.1)
        if len(series) > 1:
            figure.legend(loc="outside upper center", ncols=2)

    draw(file, (8, 0.6 + 0.24 * len(groups) * (len(series) + 0.5)), paint)
