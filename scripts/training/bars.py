"""Bars: who sees them move, and which kind."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.std import tqdm

_IS_QUIET: ContextVar[bool] = ContextVar("is_quiet", default=False)


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Show no progress within this block."""
    token = _IS_QUIET.set(wanted or _IS_QUIET.get())
    try:
        yield
    finally:
        _IS_QUIET.reset(token)


def is_quiet() -> bool:
    """Whether nothing is to be shown."""
    return _IS_QUIET.get()


def in_notebook() -> bool:
    """Whether a cell of a notebook is running: then a bar is seen, though standard error is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def shows_bars() -> bool:
    """Whether somebody sees a bar move."""
    return not is_quiet() and (sys.stderr.isatty() or in_notebook())


def bar_class() -> type[Any]:
    """tqdm's bar: in a notebook its own widget where ipywidgets are installed, else text that is written over."""
    if in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as widget

        return widget  # type: ignore[no-any-return]
    return tqdm  # type: ignore[no-any-return]
