"""What holds for all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.live_service import ROOT, LiveService, serving

if "PYTEST_XDIST_WORKER" in os.environ:
    # each worker has a core of its own; libraries that read it do so when they are imported, later than this
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# even where containers switch it off: without bytecode each process that a test starts would compile Hooper again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# the same examples on every machine: a red build is a change, not luck
settings.register_profile("hooper", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("hooper")


@pytest.fixture(scope="session")
def shipped_service() -> Iterator[LiveService]:
    """The service over the models of this repository, one for all tests that only ask it."""
    with serving(ROOT / "models", device=None, engine_threads=None) as running:
        yield running


def pytest_configure() -> None:
    """What a test starts inherits this: under `nohup` services would not hear that their terminal has closed."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
