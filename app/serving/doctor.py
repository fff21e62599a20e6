"""What `hooper doctor` finds: versions, devices, threads, and whether every model is what its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from app.core.errors import HooperError
from app.runtime.machine import Machine, detect_machine
from app.runtime.providers import choose_provider
from app.serving.repository import Repository
from app.settings import Settings

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-openvino", "tokenizers", "fastapi", "uvicorn", "numpy")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at the installation, the machine and the models, without starting anything."""
    machine = detect_machine()
    return [_packages(), _machine(machine), _device(settings, machine), *_models(settings)]


def _packages() -> Finding:
    found = {name: one for name in PACKAGES if (one := _version(name))}
    both = "onnxruntime" in found and "onnxruntime-gpu" in found
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    if both:
        detail += "; onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, then install one"
    return Finding("packages", not both, detail)


def _machine(machine: Machine) -> Finding:
    bf16 = "multiplies bf16" if machine.has_bf16 else "no bf16"
    gpu = "an NVIDIA GPU answers" if machine.has_nvidia_driver else "no NVIDIA GPU"
    if machine.has_openvino_plugin and not machine.has_openvino:
        openvino = "the OpenVINO plug-in does not offer this processor"
    else:
        openvino = "OpenVINO can be used" if machine.has_openvino else "no OpenVINO plug-in"
    return Finding("machine", True, f"{machine.num_cores} cores, {bf16}, {gpu}, {openvino}")


def _device(settings: Settings, machine: Machine) -> Finding:
    try:
        provider = choose_provider(settings.device, machine)
    except HooperError as error:
        return Finding("device", False, error.detail)
    return Finding("device", True, f"{provider.execution_provider} in {provider.precision} ({provider.reason})")


def _models(settings: Settings) -> list[Finding]:
    repository = Repository(settings.models)
    try:
        names = repository.names()
    except HooperError as error:
        return [Finding("models", False, error.detail)]
    findings = [_model(repository, name, number) for name in names for number in repository.versions(name)]
    return findings or [Finding("models", False, f"{repository.root} holds no published model")]


def _model(repository: Repository, name: str, number: int) -> Finding:
    try:
        manifest = repository.open(name, number).manifest
    except HooperError as error:
        return Finding(f"{name}/{number}", False, error.detail)
    total = sum(entry.num_bytes for entry in manifest.files.values())
    return Finding(f"{name}/{number}", True, f"{manifest.task}, checksums match, {total / 1e6:.1f} MB")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
