"""The service with engines that fail on purpose, configured by its environment: `… FAULT POISON` with a fault's name."""

from __future__ import annotations

import sys
from functools import partial

from app.configuration import read_settings
from app.main import create_app
from app.server import serve
from scripts.reliability.decoders import FaultyDecoders
from scripts.reliability.engines import FAULTS, WRITER_FAULTS, FaultyEngines


def main(name: str, poison: int) -> int:
    """Serve until a signal.

    Args:
        poison: the token that makes a row guilty.

    Returns:
        As `app.server.serve`.
    """
    fault = next(fault for fault in (*FAULTS, *WRITER_FAULTS) if fault.name == name)
    engines, decoders = FaultyEngines(fault.behaviour, poison), FaultyDecoders(fault.step)
    return serve(read_settings(), partial(create_app, session_factory=engines, decoder_factory=decoders))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
