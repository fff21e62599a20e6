"""Packages that bring tasks, installed without pip: a folder on the path with what an installed package has there."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.tasks.registry import ENTRY_POINTS, installed_tasks
from tests.support.live_service import ROOT

EXAMPLE = ROOT / "tests" / "plugin"
"""The example of docs/how-to/write-a-task.md."""
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
POLARITY = "text-polarity"
"""The task that it brings."""


def install(site: Path, distribution: str, tasks: Mapping[str, str], modules: Mapping[str, str] | None = None) -> Path:
    """Put a package into a folder as an installer would.

    Args:
        site: the folder.
        distribution: its name.
        tasks: entry points of the group `hooper.tasks`.
        modules: names of modules to their source.

    Returns:
        The folder.
    """
    info = site / f"{distribution.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n")
    lines = [f"[{ENTRY_POINTS}]", *(f"{name} = {place}" for name, place in tasks.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for name, source in (modules or {}).items():
        (site / f"{name}.py").write_text(source)
    return site


def install_example(site: Path) -> Path:
    """The example package, as its own pyproject.toml describes it."""
    install(site, PROJECT["name"], PROJECT["entry-points"][ENTRY_POINTS])
    for package in EXAMPLE.glob("*/__init__.py"):
        shutil.copytree(package.parent, site / package.parent.name)
    return site


@contextmanager
def on_path(site: Path) -> Iterator[None]:
    """What is installed there can be imported, and is found by its entry points, until the block ends."""
    before = set(sys.modules)
    sys.path.insert(0, str(site))
    _look_again()
    try:
        yield
    finally:  # whatever the test did, the next one finds nothing of it
        sys.path.remove(str(site))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{site}{os.sep}"):
                del sys.modules[name]
        _look_again()


def environment(site: Path, **settings: object) -> dict[str, str]:
    """Variables with which another process finds what is installed there."""
    named = {f"HOOPER_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)]), **named}


def _look_again() -> None:
    importlib.invalidate_caches()
    installed_tasks.cache_clear()
