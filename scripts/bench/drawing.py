"""How pictures of measurements look: SVG that is legible on a light page and on a dark one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

INK = "#123456"
"""Stands for the colour of text and axes until the file is written: only a style sheet can follow the reader's theme."""
STYLE = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
BLUE, ORANGE, GREEN, GREY = "#2f81f7", "#d9822b", "#2da44e", "#8b949e"
SETTINGS: Any = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "svg.hashsalt": "hooper",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
}  # fmt: skip


def save(figure: Any, file: Path) -> None:
    """Write a figure as SVG that is the same for the same figure."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    head, tag, rest = drawn.getvalue().replace(INK, "currentColor").partition("<defs>")
    file.write_text(head + STYLE + tag + rest, encoding="utf-8")
