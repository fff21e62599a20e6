"""What this machine can run, and the execution provider for a choice of device. Never a silent fallback: what is not there
is an error, and where `auto` takes another engine than the first, the reason says why."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import onnxruntime

from app.core.errors import ProviderUnavailable
from app.core.manifest import Manifest, Parity
from app.core.types import Device, Precision
from app.runtime.layout import Limits

DeviceChoice = Literal["auto", "cpu", "openvino", "cuda", "tensorrt"]
PrecisionChoice = Literal["auto", "fp32", "int4"]

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
    shares_weights: bool = False
    """Whether its sessions hold equal weights once; see `app.runtime.shared_weights`. Of the device `cpu` alone."""
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


def choose_provider(choice: DeviceChoice, machine: Machine | None = None) -> Provider:
    """The provider for a choice of device on this machine.

    `auto` takes CUDA where a driver answers, else OpenVINO in bf16 where the processor multiplies bf16, else the CPU.

    Raises:
        ProviderUnavailable: the choice is a device that is not there; says what to install.
    """
    present = machine or detect_machine()
    if choice == "auto":
        return _candidates(present)[0]
    missing = _missing(choice, present)
    if missing:
        raise ProviderUnavailable(f"HOOPER_DEVICE={choice} is not available: {missing}")
    precision: Precision = "bf16" if choice == "openvino" and present.has_bf16 else "fp32"
    return Provider(choice, precision, "as asked for")


def for_model(
    provider: Provider, manifest: Manifest, integers: Sequence[Precision], choice: PrecisionChoice = "auto"
) -> Provider:
    """The provider in the fastest precision whose parity this model has shown.

    Args:
        provider: what `choose_provider` chose.
        integers: in what the processor multiplies whole numbers; see `integer_precisions`.
        choice: `fp32` takes no other.
    """
    if choice == "fp32":
        return provider if provider.precision == "fp32" else provider.in_fp32(f"{provider.reason}; in fp32, as asked for")
    if provider.device in ("cuda", "tensorrt"):
        return _in_fp16(provider, manifest)
    if provider.precision == "fp32":
        return _in_integers(provider, manifest, integers) if provider.device == "cpu" else provider
    failing = _unproven(manifest, provider.precision)
    return provider.in_fp32(f"{provider.reason}; in fp32, since this model's {failing}") if failing else provider


def for_decoder(provider: Provider, manifest: Manifest, choice: PrecisionChoice = "auto") -> Provider:
    """What runs the steps of a decoder, always on the processor: in int8 where the version has that form and it has shown its
    agreement. Its products are exact on every processor, other than those of an encoder's form for int8. In int4 only where
    somebody asks for that.

    Args:
        choice: `fp32` takes no other; `int4` takes that form where the version has it.
    """
    processor = provider if provider.device == "cpu" else Provider("cpu", "fp32", "decoders run on the processor")
    if choice == "int4" and manifest.decoder is not None and "int4" in manifest.decoder.variants:
        return _in_int4(processor, manifest.parity.get("int4"))
    if manifest.decoder is None or "int8" not in manifest.decoder.variants or choice == "fp32":
        return processor.in_fp32(processor.reason)
    failing = _unproven(manifest, "int8")
    if failing:
        return processor.in_fp32(f"{processor.reason}; in fp32, since this model's {failing}")
    return replace(processor, precision="int8", reason=f"{processor.reason}; steps of a decoder are faster in int8")


def _in_int4(provider: Provider, parity: Parity | None) -> Provider:
    if parity is None or not parity.is_usable:
        return provider.in_fp32(f"{provider.reason}; in fp32, since this model's int4 agreement is below its gate")
    loss = "" if parity.perplexity_loss is None else f"; perplexity {100 * parity.perplexity_loss:+.1f} % from fp32"
    accepted = "" if parity.passed else ", which was accepted when it was published"
    return replace(provider, precision="int4", reason=f"{provider.reason}; in int4, as asked for{loss}{accepted}")


def _in_integers(provider: Provider, manifest: Manifest, integers: Sequence[Precision]) -> Provider:
    """In the first of these precisions that the model has a variant for and has shown its parity in."""
    failing = ""
    for precision in integers:
        if precision in manifest.graph.variants:
            reason = _unproven(manifest, precision)
            if not reason:
                return replace(provider, precision=precision, reason=f"{provider.reason}; {INTEGER_REASONS[precision]}")
            failing = failing or f"; in fp32, since this model's {reason}"
    return replace(provider, reason=provider.reason + failing)


def _in_fp16(provider: Provider, manifest: Manifest) -> Provider:
    failing = _unproven(manifest, "fp16")
    if not failing and "fp16" not in manifest.graph.variants:
        failing = "form for fp16 is missing"
    if failing:
        return provider.in_fp32(f"{provider.reason}; in fp32, since this model's {failing}")
    return replace(provider, precision="fp16", reason=f"{provider.reason}; predictions agree in fp16")


def _unproven(manifest: Manifest, precision: Precision) -> str:
    """Why the model must not run in a precision, as a clause; empty if it may."""
    parity = manifest.parity.get(precision)
    if parity is not None and parity.passed:
        return ""
    return f"{precision} agreement " + ("was not measured" if parity is None else f"was {parity.agreement:.4f}, below its gate")


UNTRIED: Mapping[Precision, tuple[str, str]] = {
    "bf16": ("measure", "this processor multiplies it in hardware"),
    "fp16": ("fp16", "GPUs multiply it several times as fast as fp32"),
    "int8": ("int8", "about twice as many short texts a second"),
    "int7": ("int8", "short texts in two thirds of the time"),
}
"""Precisions of an encoder, each with the command under `hooper models` that tries it and what it would give."""


def untried(provider: Provider, manifest: Manifest, integers: Sequence[Precision], choice: PrecisionChoice = "auto") -> str:
    """Which precision would compute a model faster here but was never tried, what it would give, and the command that tries
    it, as a clause; empty: none. What was tried and failed is told by the provider's reason. Models that write are left out.

    Args:
        provider: as it was before `for_model` looked at the model.
        manifest, integers, choice: as for `for_model`.
    """
    fastest: Precision = provider.precision
    if provider.device in ("cuda", "tensorrt"):
        fastest = "fp16"
    elif provider.device == "cpu":
        possible = [precision for precision in integers if manifest.graph.storage in INTEGER_STORAGES[precision]]
        fastest = possible[0] if possible else fastest
    if choice == "fp32" or fastest not in UNTRIED or fastest in manifest.parity or manifest.decoder is not None:
        return ""
    command, gain = UNTRIED[fastest]
    version = f"{manifest.name}/{manifest.version}"
    return f"{fastest} was never tried with {version} ({gain}): hooper models {command} {version} --data FILE"


def choices_of_auto(first: Provider, manifest: Manifest, machine: Machine | None = None) -> list[Provider]:
    """The providers that `auto` tries for a model, best first; the last is the CPU.

    Left out is what did not run the model when it was published; the reasons of those after it say so.

    Args:
        first: what `choose_provider` chose.
        machine: None: this one.
    """
    there = _candidates(machine or detect_machine())
    before = next((number for number, entry in enumerate(there) if entry.device == first.device), -1)
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
    accelerators = []
    why_not_cuda = _missing("cuda", machine)
    if not why_not_cuda:
        accelerators.append(Provider("cuda", "fp32", "an NVIDIA GPU answers"))
    if machine.has_bf16 and not _missing("openvino", machine):
        accelerators.append(Provider("openvino", "bf16", "the processor multiplies bf16 in hardware"))
    if accelerators:
        reason = "the CPU runs every model"
    elif machine.has_nvidia_driver:
        reason = f"an NVIDIA driver is present, but {why_not_cuda}"
    else:
        reason = "no GPU, and no bf16 through OpenVINO"
    return [*accelerators, Provider("cpu", "fp32", reason)]


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


# --- the machine

BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
"""x86-64 that multiplies int8 exactly. Without these, ONNX Runtime adds pairs of products in 16 bits, which overflow."""
INT7_FLAG = "avx2"
"""x86-64 that multiplies int8 by weights of 7 bits exactly, and faster than fp32."""
INTEGER_STORAGES: Mapping[Precision, frozenset[str]] = {"int8": frozenset({"int8"}), "int7": frozenset({"int8", "fp16"})}
"""How weights are stored of which a variant in that precision can be made."""
INTEGER_REASONS: dict[Precision, str] = {
    "int8": "the processor multiplies int8 fast",
    "int7": "the processor multiplies int8 fast where weights have 7 bits",
}
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
    integers: tuple[Precision, ...]
    """See `integer_precisions`."""
    num_cores: int


def detect_machine() -> Machine:
    return Machine(
        execution_providers=frozenset(onnxruntime.get_available_providers()),
        has_openvino_plugin=importlib.util.find_spec(OPENVINO_PACKAGE) is not None,
        has_openvino=bool(openvino_devices()),
        has_nvidia_driver=_loads("libcuda.so.1") and _counts_gpus() > 0,
        has_tensorrt=_loads("libnvinfer.so.10"),
        has_bf16=bool(BF16_FLAGS & _cpu_flags()),
        integers=integer_precisions(),
        num_cores=available_cores(),
    )


def has_int8() -> bool:
    """Whether the processor multiplies int8 exactly, and so faster than fp32; looked for on Linux alone."""
    return bool(INT8_FLAGS & _cpu_flags())


def integer_precisions() -> tuple[Precision, ...]:
    """Variants of a graph that this processor computes exactly, and faster than fp32, the most exact first."""
    if has_int8():
        return ("int8", "int7")
    return ("int7",) if INT7_FLAG in _cpu_flags() else ()


@cache
def openvino_devices() -> list[Any]:
    """Devices for `SessionOptions.add_provider_for_devices`; registers the plug-in's library on the first call (20 ms)."""
    if importlib.util.find_spec(OPENVINO_PACKAGE) is None:
        return []
    plugin = importlib.import_module(OPENVINO_PACKAGE)
    name = plugin.get_ep_name()
    onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    processor = onnxruntime.OrtHardwareDeviceType.CPU
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == name and device.device.type == processor][:1]


def available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores() or cores))


def _cgroup_cores() -> int | None:
    """What the tightest quota comes to, in whole cores; None: there is none."""
    quotas = [_quota(f"/sys/fs/cgroup{folder}") for folder in _cgroup_folders()]
    return min((quota for quota in quotas if quota), default=None)


def _cgroup_folders() -> Iterator[str]:
    """Control groups of this process, its own and those around it, of version 2 and of version 1. In a container its own is the
    first; the quota of a unit of systemd stands in that of the unit."""
    yield from ("", "/cpu")
    for line in _text("/proc/self/cgroup").splitlines():
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        if not controllers or "cpu" in controllers.split(","):
            names = [name for name in path.split("/") if name]
            yield from (("/cpu" if controllers else "") + "/" + "/".join(names[: end + 1]) for end in range(len(names)))


def _quota(folder: str) -> int | None:
    own = _text(f"{folder}/cpu.max").split()
    quota, period = own if len(own) == 2 else (_text(f"{folder}/cpu.cfs_quota_us"), _text(f"{folder}/cpu.cfs_period_us"))
    try:
        return max(1, -(-int(quota) // int(period))) if int(quota) > 0 else None  # version 1 says -1 where there is none
    except (ValueError, ZeroDivisionError):
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_flags() -> frozenset[str]:
    if platform.system() != "Linux":
        return frozenset()
    line = next((line for line in _text("/proc/cpuinfo").splitlines() if line.startswith("flags")), "")
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
