"""A part of a benchmark in a process of its own: torch's settings, its threads and its memory are a process's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from app.core.errors import SetupError


def told_by(words: Sequence[str], name: str, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The object that `python -m …` prints as JSON in its last line.

    Args:
        words: module and options.
        name: of what is run, for its failure.
        settings: environment variables besides this process's.

    Raises:
        SetupError: it failed; with the last line of what it said.
    """
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(settings or {})})
    if done.returncode:
        raise SetupError(f"{name} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
