"""Free memory, as the machine and the container say it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from app.core import memory


@pytest.mark.parametrize(
    ("machine", "limit", "used", "free"),
    [
        ("MemAvailable:  2000 kB\n", "max", "5", 2_048_000),
        ("MemAvailable: 2000 kB\n", "900000", "400000", 500_000),
        ("", "", "", None),
    ],
)
def test_free_memory_is_the_machines_or_what_the_container_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, limit: str, used: str, free: int | None
) -> None:
    for name, text in (("meminfo", machine), ("memory.max", limit), ("memory.current", used)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.available_bytes() == free


class OtherLibrary:
    """A C library without `malloc_trim`, as musl."""

    def __init__(self, name: str | None) -> None:
        pass


def test_what_was_freed_is_given_back_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.give_back_freed() == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr(memory.ctypes, "CDLL", OtherLibrary)
    assert not memory.give_back_freed()
