"""What this machine can run."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from app.runtime import machine

CPU_MAX = "/sys/fs/cgroup/cpu.max"
CPUINFO = "/proc/cpuinfo"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Path to text: what stands in the kernel's files; a path that is not there cannot be read."""
    texts: dict[str, str] = {}

    def path(name: str) -> Path:
        copy = tmp_path / name.replace("/", "_")
        if name in texts:
            copy.write_text(texts[name])
        return copy

    monkeypatch.setattr(machine, "Path", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return texts


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("", 8),
        ("nonsense\n", 8),
        ("many 100000\n", 8),
    ],
)
def test_a_container_has_the_cores_of_its_quota(files: dict[str, str], text: str, cores: int) -> None:
    files[CPU_MAX] = text
    assert machine.available_cores() == cores


def test_without_a_quota_the_cores_are_those_of_the_process(files: dict[str, str]) -> None:
    assert machine.available_cores() == 8


def test_without_affinity_the_cores_are_those_of_the_machine(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert machine.available_cores() == 3


@pytest.mark.parametrize(
    ("flags", "has_bf16"),
    [("fpu avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx512f bf16", False), ("", False)],
)
def test_bf16_is_read_from_the_flags_of_the_processor(files: dict[str, str], flags: str, has_bf16: bool) -> None:
    files[CPUINFO] = f"processor\t: 0\nmodel name\t: avx512_bf16 in name only\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    assert machine.detect_machine().has_bf16 is has_bf16


@pytest.mark.parametrize(
    ("flags", "has_int8"),
    [
        ("avx512_vnni", True),
        ("avx2 avx_vnni", True),
        ("amx_int8 amx_tile", True),
        ("avx2 avx512f avx512bw", False),
        ("", False),
    ],
)
def test_int8_is_read_from_the_flags_of_the_processor(files: dict[str, str], flags: str, has_int8: bool) -> None:
    files[CPUINFO] = f"processor\t: 0\nmodel name\t: avx512_vnni in name only\nflags\t\t: {flags}\n"
    assert machine.has_int8() is has_int8
    assert machine.detect_machine().has_int8 is has_int8


def test_a_processor_that_tells_nothing_has_no_bf16(files: dict[str, str]) -> None:
    assert not machine.detect_machine().has_bf16


def test_a_processor_of_another_system_has_no_bf16(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    files[CPUINFO] = "flags\t\t: amx_bf16\n"
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert not machine.detect_machine().has_bf16


class Driver:
    """A stand-in for libcuda.so.1."""

    def __init__(self, status: int, count: int) -> None:
        self._status, self._count = status, count

    def cuInit(self, _: int) -> int:  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        count._obj.value = self._count  # type: ignore[attr-defined]
        return 0


@pytest.mark.parametrize(("driver", "answers"), [(Driver(0, 2), True), (Driver(0, 0), False), (Driver(100, 1), False)])
def test_a_driver_without_a_gpu_does_not_answer(monkeypatch: pytest.MonkeyPatch, driver: Driver, answers: bool) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert machine.detect_machine().has_nvidia_driver is answers


def test_without_their_libraries_there_is_neither_cuda_nor_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    found = machine.detect_machine()
    assert not found.has_nvidia_driver
    assert not found.has_tensorrt


def test_without_its_package_there_is_no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OPENVINO_PACKAGE", "no_such_package")
    assert machine.openvino_devices.__wrapped__() == []


def test_of_the_plug_ins_devices_only_its_processor_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(name: str, kind: object) -> SimpleNamespace:
        return SimpleNamespace(ep_name=name, device=SimpleNamespace(type=kind))

    kinds = onnxruntime.OrtHardwareDeviceType
    offered = [device("other", kinds.CPU), device("vino", kinds.GPU), device("vino", kinds.CPU), device("vino", kinds.CPU)]
    plugin = SimpleNamespace(get_ep_name=lambda: "vino", get_library_path=lambda: "vino.so")
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(machine.importlib, "import_module", lambda _: plugin)
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *_: None)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: offered)
    assert machine.openvino_devices.__wrapped__() == [offered[2]]


def test_this_machine_is_detected_with_at_least_a_cpu_and_a_core() -> None:
    found = machine.detect_machine()
    assert "CPUExecutionProvider" in found.execution_providers
    assert found.num_cores >= 1


def test_onnxruntime_is_told_to_report_nothing_before_it_is_loaded() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    program = "import os, app.runtime.machine; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"
