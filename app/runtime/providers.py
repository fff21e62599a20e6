"""Device wish to execution provider. Pure, and never a silent fallback: what is not there is an error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from app.core.errors import ProviderUnavailable
from app.core.types import Device, Precision
from app.runtime.machine import Machine, detect_machine

DeviceWish = Literal["auto", "cpu", "openvino", "cuda", "tensorrt"]

EXECUTION_PROVIDERS: dict[Device, str] = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True, slots=True)
class Provider:
    """One way of running a graph."""

    device: Device
    precision: Precision
    reason: str
    """Why this one: for the log, `/v1/models` and `hooper doctor`."""

    @property
    def execution_provider(self) -> str:
        return EXECUTION_PROVIDERS[self.device]

    @property
    def fixed_shapes(self) -> bool:
        """Whether the engine compiles per tensor shape and wants few of them."""
        return self.device in ("openvino", "tensorrt")

    def in_fp32(self, reason: str) -> Provider:
        return replace(self, precision="fp32", reason=reason)


def choose_provider(wish: DeviceWish, machine: Machine | None = None) -> Provider:
    """The provider for a wish on this machine.

    `auto` takes CUDA where a driver answers, else OpenVINO in bf16 where the processor multiplies bf16, else the CPU.

    Raises:
        ProviderUnavailable: the wish names a device that is not there; says what to install.
    """
    there = machine or detect_machine()
    if wish == "auto":
        return _automatic(there)
    missing = _missing(wish, there)
    if missing:
        raise ProviderUnavailable(f"HOOPER_DEVICE={wish} cannot be had: {missing}")
    precision: Precision = "bf16" if wish == "openvino" and there.has_bf16 else "fp32"
    return Provider(wish, precision, "as asked for")


def _automatic(machine: Machine) -> Provider:
    why_not_cuda = _missing("cuda", machine)
    if not why_not_cuda:
        return Provider("cuda", "fp32", "an NVIDIA GPU answers")
    if machine.has_bf16 and not _missing("openvino", machine):
        return Provider("openvino", "bf16", "the processor multiplies bf16 in hardware")
    if machine.has_nvidia_driver:
        return Provider("cpu", "fp32", f"an NVIDIA driver is present, but {why_not_cuda}")
    return Provider("cpu", "fp32", "no GPU, and no bf16 through OpenVINO")


def _missing(device: Device, machine: Machine) -> str:
    """What keeps the device from being used, as a clause that says what to install; empty if nothing does."""
    if device == "openvino" and not machine.has_openvino_plugin:
        return "the plug-in is not installed; run `pip install onnxruntime-ep-openvino` (part of the extra `cpu`, x86-64 only)"
    if device == "openvino" and not machine.has_openvino:
        return "the plug-in is installed but does not offer this processor (it takes Intel's only); set HOOPER_DEVICE=cpu"
    if device in ("cuda", "tensorrt"):
        if EXECUTION_PROVIDERS["cuda"] not in machine.execution_providers:
            return "this onnxruntime has no CUDA; install the extra `gpu` in place of `cpu` (`pip install 'hooper[gpu]'`)"
        if not machine.has_nvidia_driver:
            return "no NVIDIA driver answers on this machine; install the driver, or set HOOPER_DEVICE=cpu"
    if device == "tensorrt" and not machine.has_tensorrt:
        return "libnvinfer.so.10 is not found; install TensorRT 10, or set HOOPER_DEVICE=cuda"
    return ""
