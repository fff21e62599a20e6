"""What `hooper doctor` finds: versions, memory, devices, threads, keys, and whether models run and answer as published."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from app.configuration import check_tls, with_key_files
from app.core.artefact import Artefact
from app.core.errors import HooperError
from app.core.memory import available_bytes
from app.observability.metrics import Metrics
from app.runtime.providers import Machine, choose_provider, detect_machine
from app.serving.loader import LoadOptions, load
from app.serving.repository import Repository
from app.settings import Settings, check_exposure
from app.tasks.registry import installed_tasks

ENOUGH_BYTES = 600_000_000
"""What serving two shipped models took at its peak (docs/measurements/footprint.json)."""
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-openvino", "tokenizers", "fastapi", "uvicorn", "numpy")


INTEGERS = {"int8": "multiplies int8", "int7": "multiplies int8 by weights of 7 bits"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at the installation, the machine and the settings, and let the version of each model that serves answer."""
    machine = detect_machine()
    findings = [_packages(), _machine(machine), _memory(), _device(settings, machine), *_configured(settings)]
    findings += [_keys(settings), *_plugins(settings)]
    return [*findings, *_models(settings)] if all(finding.ok for finding in findings if finding.what == "tasks") else findings


def _packages() -> Finding:
    versions = {name: number for name in PACKAGES if (number := _version(name))}
    both = "onnxruntime" in versions and "onnxruntime-gpu" in versions
    python = f"{platform.python_implementation()} {platform.python_version()}"
    detail = ", ".join([python, *(f"{name} {number}" for name, number in versions.items())])
    if both:
        detail += "; onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, then install one"
    return Finding("packages", not both, detail)


def _machine(machine: Machine) -> Finding:
    bf16 = "multiplies bf16" if machine.has_bf16 else "no bf16"
    int8 = INTEGERS[machine.integers[0]] if machine.integers else "no fast int8"
    gpu = "an NVIDIA GPU answers" if machine.has_nvidia_driver else "no NVIDIA GPU"
    if machine.has_openvino_plugin and not machine.has_openvino:
        openvino = "the OpenVINO plug-in does not offer this processor"
    else:
        openvino = "OpenVINO can be used" if machine.has_openvino else "no OpenVINO plug-in"
    return Finding("machine", True, f"{machine.num_cores} cores, {bf16}, {int8}, {gpu}, {openvino}")


def _memory() -> Finding:
    free = available_bytes()
    if free is None:
        return Finding("memory", True, "this system does not say how much is free")
    enough = "" if free >= ENOUGH_BYTES else f"; two of the shipped models take up to {ENOUGH_BYTES / 1e6:.0f} MB"
    return Finding("memory", not enough, f"{free / 1e6:.0f} MB are free to this process{enough}")


def _configured(settings: Settings) -> Iterator[Finding]:
    """The file of settings, and what HTTPS needs; nothing where neither is used."""
    if settings.config:
        detail = f"{settings.config} is read; `hooper settings --values` shows each value and where it comes from"
        yield Finding("settings", True, detail)
    if settings.ssl_certfile or settings.ssl_keyfile:
        try:
            check_tls(settings)
            yield Finding("tls", True, f"HTTPS with the certificate in {settings.ssl_certfile}")
        except HooperError as error:
            yield Finding("tls", False, error.detail)


def _keys(settings: Settings) -> Finding:
    try:
        settings = with_key_files(settings)
        check_exposure(settings)
    except HooperError as error:
        return Finding("keys", False, error.detail)
    where = f"on {settings.host}, port {settings.port}"
    if settings.published_host:
        where += f", which others reach under {settings.published_host}"
    keys, admins = len(settings.api_key_hashes) or "none", len(settings.admin_key_hashes)
    return Finding("keys", True, f"API keys: {keys}; admin keys: {admins}; {where}")


def _plugins(settings: Settings) -> list[Finding]:
    """What other packages bring; nothing where there are none. With tasks that cannot be taken no model could be loaded."""
    try:
        tasks = installed_tasks(settings.tasks)
        tasks.check_defaults(settings.default_models)
    except HooperError as error:
        return [Finding("tasks", False, error.detail)]
    plugins = [f"{task} by {spec.distribution} {_version(spec.distribution)}" for task, spec in tasks.items() if spec.is_plugin]
    return [Finding("tasks", True, ", ".join(plugins))] if plugins else []


def _device(settings: Settings, machine: Machine) -> Finding:
    try:
        provider = choose_provider(settings.device, machine)
    except HooperError as error:
        return Finding("device", False, error.detail)
    return Finding("device", True, f"{provider.execution_provider} in {provider.precision} ({provider.reason})")


def _models(settings: Settings) -> list[Finding]:
    repository = Repository(settings.models, settings.state)
    try:
        names = repository.names()
    except HooperError as error:
        return [Finding("models", False, error.detail)]
    findings = [finding for name in names for finding in _versions(repository, name, settings)]
    wrong = [
        Finding("defaults", False, f"HOOPER_DEFAULT_MODELS names {name} for {task}, but there is no such model")
        for task, name in settings.default_models.items()
        if name not in names and not settings.serve
    ]
    return [*findings, *wrong] or [Finding("models", False, f"{repository.root} holds no published model")]


def _versions(repository: Repository, name: str, settings: Settings) -> Iterator[Finding]:
    served_version, numbers = None, []
    try:
        numbers = repository.versions(name)
        configured = [number for number in numbers if f"{name}/{number}" in settings.serve]
        served_version = configured[0] if configured else repository.served_version(name)
    except HooperError as error:
        yield Finding(name, False, error.detail)
    for number in numbers:
        # loading other versions as well would take long, and say little: they are not served unless somebody names them
        passed_over = "" if number == served_version else _why_not(name, served_version, numbers)
        yield _model(repository, name, number, settings, passed_over)


def _why_not(name: str, served_version: int | None, numbers: Sequence[int]) -> str:
    if served_version is None:
        return "no version serves"
    return "not the latest" if served_version == numbers[-1] else f"{name}/{served_version} serves"


def _model(repository: Repository, name: str, number: int, settings: Settings, passed_over: str) -> Finding:
    try:
        artefact = repository.open(name, number)
        ran = f"{passed_over}, not loaded" if passed_over else asyncio.run(_run(artefact, settings))
    except Exception as error:  # whatever it is: the others are looked at all the same
        detail = error.detail if isinstance(error, HooperError) else f"loading failed ({error!r})"
        return Finding(f"{name}/{number}", False, detail)
    manifest = artefact.manifest
    total = sum(entry.num_bytes for entry in manifest.files.values())
    return Finding(f"{name}/{number}", True, f"{manifest.task}, checksums match, {total / 1e6:.1f} MB, {ran}")


async def _run(artefact: Artefact, settings: Settings) -> str:
    """Load a model as the service would; what the engine itself reports that it runs on.

    Raises:
        HooperError: it does not load, or answers otherwise than when it was published.
    """
    deployment = await load(artefact, LoadOptions.from_settings(settings), Metrics())
    chain, precision = ", then ".join(deployment.execution_providers), deployment.provider.precision
    is_first = deployment.provider.device == choose_provider(settings.device).device
    reason = "" if is_first else f" ({deployment.provider.reason})"
    decoder = deployment.decoder_provider
    if decoder is not None:
        reason += f", its decoder on {', then '.join(deployment.decoder_execution_providers)} in {decoder.precision}"
    threads = deployment.num_threads
    await deployment.aclose(0)
    return f"answers as published, on {chain} in {precision} with {threads} thread{'s' if threads > 1 else ''}{reason}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
