"""What this machine can run: looked at once, handed on as a value."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.util
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime

BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
"""x86-64 that multiplies int8 exactly. Without these, ONNX Runtime adds pairs of products in 16 bits, which overflow."""
OPENVINO_PACKAGE = "onnxruntime_ep_openvino"


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that decide which execution provider can be used."""

    execution_providers: frozenset[str]
    has_openvino_plugin: bool
    has_openvino: bool
    """Whether the plug-in is installed and offers this processor: it leaves out those of other makers than Intel."""
    has_nvidia_driver: bool
    has_tensorrt: bool
    has_bf16: bool
    has_int8: bool
    """Whether the processor multiplies int8 faster than fp32."""
    num_cores: int


def detect_machine() -> Machine:
    return Machine(
        execution_providers=frozenset(onnxruntime.get_available_providers()),
        has_openvino_plugin=importlib.util.find_spec(OPENVINO_PACKAGE) is not None,
        has_openvino=bool(openvino_devices()),
        has_nvidia_driver=_loads("libcuda.so.1") and _counts_gpus() > 0,
        has_tensorrt=_loads("libnvinfer.so.10"),
        has_bf16=bool(BF16_FLAGS & _cpu_flags()),
        has_int8=has_int8(),
        num_cores=available_cores(),
    )


def has_int8() -> bool:
    """Whether the processor multiplies int8 exactly, and so faster than fp32; looked for on Linux alone."""
    return bool(INT8_FLAGS & _cpu_flags())


@cache
def openvino_devices() -> list[Any]:
    """Devices for `SessionOptions.add_provider_for_devices`; registers the plug-in's library on the first call (20 ms)."""
    if importlib.util.find_spec(OPENVINO_PACKAGE) is None:
        return []
    plugin = importlib.import_module(OPENVINO_PACKAGE)
    name = plugin.get_ep_name()
    onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    processor = onnxruntime.OrtHardwareDeviceType.CPU
    return [one for one in onnxruntime.get_ep_devices() if one.ep_name == name and one.device.type == processor][:1]


def available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores() or cores))


def _cgroup_cores() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


def _cpu_flags() -> frozenset[str]:
    if platform.system() != "Linux":
        return frozenset()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _counts_gpus() -> int:
    """GPUs the driver reports: a driver library can lie in a container that was given no GPU."""
    driver = ctypes.CDLL("libcuda.so.1")
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
