"""What a process holds: memory, open files and threads, as the kernel tells them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MB = 1e6


@dataclass(frozen=True, slots=True)
class Footprint:
    """One look at a process."""

    requests: int
    """How many it had been sent by then."""
    rss_mb: float
    pss_mb: float
    """With pages that it shares counted by its part of them: it moves when another process maps the same libraries."""
    private_mb: float
    """Its own (anonymous) pages: what would leak."""
    open_files: int
    threads: int

    @classmethod
    def of(cls, pid: int, requests: int) -> Footprint:
        folder = Path(f"/proc/{pid}")
        memory = _fields(folder / "smaps_rollup")
        return cls(
            requests,
            round(memory["Rss"] / MB, 1),
            round(memory["Pss"] / MB, 1),
            round(memory["Anonymous"] / MB, 1),
            sum(1 for _ in (folder / "fd").iterdir()),
            sum(1 for _ in (folder / "task").iterdir()),
        )

    def told(self) -> dict[str, Any]:
        return asdict(self)


def _fields(file: Path) -> dict[str, int]:
    """The lines `Name:  123 kB`, in bytes."""
    lines = (line.split() for line in file.read_text().splitlines()[1:])
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines}
