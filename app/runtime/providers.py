"""Device wish to execution provider. Pure, and never a silent fallback: what is not there is an error, and where `auto` takes
another engine than the first, the reason says why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from app.core.errors import ProviderUnavailable
from app.core.manifest import Manifest
from app.core.types import Device, Precision
from app.runtime.layout import Limits
from app.runtime.machine import Machine, detect_machine

DeviceWish = Literal["auto", "cpu", "openvino", "cuda", "tensorrt"]
PrecisionWish = Literal["auto", "fp32"]

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
    captures: bool = False
    """Whether runs are captured as CUDA graphs."""
    limits: Limits | None = None
    """What its batches never exceed, for engines that are built for a range of shapes; none: nothing is known."""

    @property
    def execution_provider(self) -> str:
        return EXECUTION_PROVIDERS[self.device]

    @property
    def fixed_shapes(self) -> bool:
        """Whether the engine compiles, or captures, per tensor shape and wants few of them."""
        return self.captures or self.device in ("openvino", "tensorrt")

    @property
    def exact_shapes(self) -> bool:
        """Whether a tensor takes as long as its tokens say, whatever its shape, so that it pays to cut it to its rows."""
        return self.device == "cpu"

    def in_fp32(self, reason: str) -> Provider:
        return replace(self, precision="fp32", reason=reason)

    def capturing(self) -> Provider:
        """The same with CUDA graphs.

        Raises:
            ProviderUnavailable: it is another device than CUDA.
        """
        if self.device != "cuda":
            here = f"here it is {self.device} ({self.reason})"
            raise ProviderUnavailable(f"HOOPER_CUDA_GRAPHS=true needs HOOPER_DEVICE=cuda; {here}")
        return replace(self, captures=True)


def choose_provider(wish: DeviceWish, machine: Machine | None = None) -> Provider:
    """The provider for a wish on this machine.

    `auto` takes CUDA where a driver answers, else OpenVINO in bf16 where the processor multiplies bf16, else the CPU.

    Raises:
        ProviderUnavailable: the wish names a device that is not there; says what to install.
    """
    there = machine or detect_machine()
    if wish == "auto":
        return _candidates(there)[0]
    missing = _missing(wish, there)
    if missing:
        raise ProviderUnavailable(f"HOOPER_DEVICE={wish} cannot be had: {missing}")
    precision: Precision = "bf16" if wish == "openvino" and there.has_bf16 else "fp32"
    return Provider(wish, precision, "as asked for")


def for_model(provider: Provider, manifest: Manifest, has_int8: bool, wish: PrecisionWish = "auto") -> Provider:
    """The provider in the fastest precision whose parity this model has shown.

    Args:
        provider: what `choose_provider` chose.
        manifest: the model's.
        has_int8: whether the processor multiplies int8 exactly; see `app.runtime.machine.has_int8`.
        wish: `fp32` takes no other.
    """
    if wish == "fp32":
        return provider if provider.precision == "fp32" else provider.in_fp32(f"{provider.reason}; in fp32, as asked for")
    if provider.device in ("cuda", "tensorrt"):
        return _in_fp16(provider, manifest)
    if provider.precision == "fp32":
        return _in_int8(provider, manifest) if provider.device == "cpu" and has_int8 else provider
    failing = _unproven(manifest, provider.precision)
    return provider.in_fp32(f"{provider.reason}; in fp32, since this model's {failing}") if failing else provider


def _in_int8(provider: Provider, manifest: Manifest) -> Provider:
    if "int8" not in manifest.graph.variants:
        return provider
    failing = _unproven(manifest, "int8")
    if failing:
        return replace(provider, reason=f"{provider.reason}; in fp32, since this model's {failing}")
    return replace(provider, precision="int8", reason=f"{provider.reason}; the processor multiplies int8 fast")


def _in_fp16(provider: Provider, manifest: Manifest) -> Provider:
    failing = _unproven(manifest, "fp16")
    if not failing and "fp16" not in manifest.graph.variants:
        failing = "form for fp16 is missing"
    if failing:
        return provider.in_fp32(f"{provider.reason}; in fp32, since this model's {failing}")
    return replace(provider, precision="fp16", reason=f"{provider.reason}; the model decides alike in fp16")


def _unproven(manifest: Manifest, precision: Precision) -> str:
    """Why the model must not run in a precision, as a clause; empty if it may."""
    parity = manifest.parity.get(precision)
    if parity is not None and parity.passed:
        return ""
    return f"{precision} agreement " + ("was not measured" if parity is None else f"was {parity.agreement:.4f}, below its gate")


def choices_of_auto(first: Provider, manifest: Manifest, machine: Machine | None = None) -> list[Provider]:
    """The providers that `auto` tries for a model, best first; the last is the CPU.

    Left out is what did not run the model when it was published; the reasons of those after it say so.

    Args:
        first: what `choose_provider` chose.
        manifest: the model's.
        machine: None: this one.
    """
    there = _candidates(machine or detect_machine())
    before = next((number for number, one in enumerate(there) if one.device == first.device), -1)
    choices, left_out = list[Provider](), list[str]()
    for provider in (first, *there[before + 1 :]):
        trial = manifest.engines.get(provider.device)
        if trial is not None and not trial.runs and provider.device != "cpu":
            left_out.append(f"{provider.device} left out: when the model was published it did not run it ({trial.reason})")
            continue
        ran = "; it ran the model when that was published" if trial is not None and provider.device != "cpu" else ""
        choices.append(replace(provider, reason="; ".join([*left_out, provider.reason]) + ran))
    return choices


def _candidates(machine: Machine) -> list[Provider]:
    """What a model can be tried on, best first; the last is the CPU."""
    found = []
    why_not_cuda = _missing("cuda", machine)
    if not why_not_cuda:
        found.append(Provider("cuda", "fp32", "an NVIDIA GPU answers"))
    if machine.has_bf16 and not _missing("openvino", machine):
        found.append(Provider("openvino", "bf16", "the processor multiplies bf16 in hardware"))
    if found:
        reason = "the CPU runs every model"
    elif machine.has_nvidia_driver:
        reason = f"an NVIDIA driver is present, but {why_not_cuda}"
    else:
        reason = "no GPU, and no bf16 through OpenVINO"
    return [*found, Provider("cpu", "fp32", reason)]


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
