"""Memory for training: how the C library is kept from giving every large tensor back to the system at once."""

from __future__ import annotations

import ctypes
import platform
import resource

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 2**31 - 1
PAD_BYTES = 2**28


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory instead of mapping it anew: page faults cost a quarter of a CPU training step.

    Returns:
        Whether the allocator took the settings; it is left alone on other systems.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    options = ((M_MMAP_THRESHOLD, KEPT_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, PAD_BYTES))
    taken = [set_option(option, value) == 1 for option, value in options]  # each of them, whatever became of the others
    return all(taken)


def peak_memory_bytes() -> int:
    """The most memory that training held until now: of the GPU where it runs on one, else of the whole process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
