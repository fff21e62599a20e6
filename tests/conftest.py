"""What holds for all tests."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
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


HANG_S = 600
"""A test that hangs in spite of its timeout, as in its clean-up, ends the run with a traceback by then."""
REARM_S = 60
"""pytest's own `faulthandler_timeout` starts and joins a thread for every test, which takes longer than most of them do."""
NEXT_ARMED = pytest.StashKey[float]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    now = time.monotonic()
    own = item.get_closest_marker("timeout")
    limit = max(HANG_S, own.args[0] + REARM_S if own is not None and own.args else 0)  # some may take longer
    if limit > HANG_S or now >= item.config.stash.get(NEXT_ARMED, 0.0):
        item.config.stash[NEXT_ARMED] = now + (0 if limit > HANG_S else REARM_S)
        file = item.config.stash[fault_handler_stderr_fd_key]  # what standard error was before pytest captured it
        faulthandler.dump_traceback_later(limit, exit=True, file=file)


def pytest_collection_finish() -> None:
    """What was imported stays: each training asks for a collection of garbage, which need not look through all of it."""
    gc.freeze()


def pytest_unconfigure() -> None:
    faulthandler.cancel_dump_traceback_later()


def pytest_configure() -> None:
    """What a test starts inherits this: under `nohup` services would not hear that their terminal has closed."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
