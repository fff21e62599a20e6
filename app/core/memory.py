"""How much memory is free, of the machine and of the container that this process is in; and memory that it gives back."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available_bytes() -> int | None:
    """Memory that is free to take, None where the system does not say."""
    machine = _meminfo(_read(MEMINFO)).get("MemAvailable")
    limit, used_bytes = _number(_read(CGROUP / "memory.max")), _number(_read(CGROUP / "memory.current"))
    free_bytes = None if limit is None or used_bytes is None else max(0, limit - used_bytes)
    return min((free for free in (machine, free_bytes) if free is not None), default=None)


def give_back_freed() -> bool:
    """Let the C library return to the system what was freed and is kept in between: some 40 MB for each model that was opened.

    Returns:
        Whether it can; glibc's alone does.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another library, another system
        return False
    return True


def _meminfo(text: str) -> Mapping[str, int]:
    """Name to bytes."""
    return {name: 1024 * int(kilobytes) for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def _number(text: str) -> int | None:
    """None for `max`, which is no limit, and for nothing."""
    return int(text) if text.strip().isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
