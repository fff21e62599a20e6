"""The signals that end a service in order: what it has accepted is answered first."""

from __future__ import annotations

import signal
from collections.abc import Callable


def ending_signals() -> list[signal.Signals]:
    """An interrupt, a request to terminate, and a terminal that closes.

    The last is left out where it is ignored already: `nohup` does that for a service that is to outlive its terminal.
    """
    found = [signal.SIGINT, signal.SIGTERM]
    hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)  # not everywhere
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        found.append(hang_up)
    return found


def on_ending_signals(end: Callable[[], None]) -> None:
    """Call this at each of them, however often it comes."""
    for number in ending_signals():
        signal.signal(number, lambda *_: end())
