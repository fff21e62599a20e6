"""The picture of a learning-rate curve."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from app.core.errors import InvalidSettings, SetupError
from scripts.training.learning_rate import Curve

SUFFIXES = (".svg", ".png", ".pdf")
BLUE, GREY, RED = "#1f5fa8", "#9aa5b1", "#b3392f"


def check_plot(file: Path) -> None:
    """
    Raises:
        InvalidSettings: no picture can be written under this name, or matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InvalidSettings("the plot needs the package matplotlib: run `make train-env`")
    if file.suffix.lower() not in SUFFIXES:
        raise InvalidSettings(f"the plot {file} must end in one of {', '.join(SUFFIXES)}")


def plot(curve: Curve, file: Path) -> Path:
    """Write the losses over the rates, with the suggestion.

    Raises:
        InvalidSettings: no picture can be written under this name, or matplotlib is not installed.
        SetupError: the file cannot be written.
    """
    check_plot(file)
    from matplotlib.figure import Figure  # takes a second to import, and nothing else needs it

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color=GREY, linewidth=0.8, label="loss of each update")
    axes.plot(curve.rates, curve.smoothed, color=BLUE, linewidth=1.8, label="smoothed")
    axes.axvline(curve.suggestion, color=RED, label=f"suggestion {curve.suggestion:g}")
    axes.axvline(curve.steepest, color=RED, linestyle=":", label=f"steepest descent {curve.steepest:.1e}")
    axes.axvline(curve.minimum, color=RED, linestyle="--", label=f"minimum {curve.minimum:.1e}")
    axes.set_xscale("log")
    low, high = min(curve.smoothed), max(curve.smoothed[0], min(curve.smoothed) * 1.2)
    axes.set_ylim(max(0.0, low - 0.2 * (high - low)), high + 0.5 * (high - low))  # the diverged end would flatten the rest
    axes.set_xlim(curve.rates[0], curve.rates[-1])
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise SetupError(f"the plot {file} cannot be written: {error.strerror or error}") from error
    return file
