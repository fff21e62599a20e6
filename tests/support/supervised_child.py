"""Children for a supervisor, as small as they can be: `python -m tests.support.supervised_child`.

The settings' `root_path` says which.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from app.processes.child import heartbeat, on_stop_request, receive_config, report_failure


async def main() -> int:
    config = receive_config()
    kind = config.read_settings().root_path
    over = asyncio.Event()
    on_stop_request(over.set)
    beating = asyncio.create_task(heartbeat())
    if kind == "/fails":
        report_failure("this machine has no such device")
        return 2
    if kind == "/dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "/stands-still":
        beating.cancel()
        await asyncio.Event().wait()
    if kind == "/stays":
        await asyncio.Event().wait()
    await over.wait()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
