"""One of several processes that train together, as `accelerate launch` starts them; alone, all of this does nothing."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")


def is_main_process() -> bool:
    """Whether this is the one that speaks, saves and publishes."""
    return os.environ.get("RANK", "0") == "0"


def num_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    if num_processes() > 1:
        import torch  # takes seconds, and `hooper train --help` comes by here

        torch.distributed.barrier()


def agreed(value: T) -> T:
    """What the main process found: what decides how long all of them train must be one and the same."""
    if num_processes() == 1:
        return value
    import torch  # as above

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
