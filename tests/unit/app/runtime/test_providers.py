"""Device choice to execution provider: never a silent fallback."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import onnxruntime
import pytest

from app.core.errors import ProviderUnavailable
from app.core.manifest import EngineTrial, FileEntry, Graph, Manifest, Output, Parity
from app.core.types import Precision
from app.runtime import providers
from app.runtime.providers import DeviceChoice, Machine, Provider, choices_of_auto, choose_provider, for_model, untried

BARE = Machine(
    execution_providers=frozenset({"CPUExecutionProvider"}),
    has_openvino_plugin=False,
    has_openvino=False,
    has_nvidia_driver=False,
    has_tensorrt=False,
    has_bf16=False,
    integers=(),
    num_cores=2,
)
INTEL = replace(BARE, has_openvino_plugin=True, has_openvino=True, has_bf16=True)
OLD_INTEL = replace(INTEL, has_bf16=False)
AMD = replace(INTEL, has_openvino=False)
CUDA_PROVIDERS = frozenset({"CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"})
GPU = replace(INTEL, execution_providers=CUDA_PROVIDERS, has_nvidia_driver=True)
GPU_WITHOUT_CUDA = replace(INTEL, has_nvidia_driver=True)
GPU_PACKAGE_ALONE = replace(INTEL, execution_providers=CUDA_PROVIDERS)
TENSORRT = replace(GPU, has_tensorrt=True)

EVERY_MACHINE = [
    Machine(providers, *facts, num_cores=2)
    for providers in (BARE.execution_providers, CUDA_PROVIDERS)
    for facts in itertools.product([False, True], repeat=6)
]


@pytest.mark.parametrize(
    ("machine", "device", "precision"),
    [
        (BARE, "cpu", "fp32"),
        (INTEL, "openvino", "bf16"),
        (OLD_INTEL, "cpu", "fp32"),
        (AMD, "cpu", "fp32"),
        (GPU, "cuda", "fp32"),
        (TENSORRT, "cuda", "fp32"),
        (GPU_WITHOUT_CUDA, "openvino", "bf16"),
        (GPU_PACKAGE_ALONE, "openvino", "bf16"),
        (replace(AMD, has_nvidia_driver=True), "cpu", "fp32"),
    ],
)
def test_auto_takes_the_best_that_is_there(machine: Machine, device: str, precision: str) -> None:
    chosen = choose_provider("auto", machine)
    assert (chosen.device, chosen.precision) == (device, precision)


@pytest.mark.parametrize("choice", get_args(DeviceChoice))
def test_a_choice_of_device_is_followed_to_the_letter_or_refused_on_every_machine(choice: DeviceChoice) -> None:
    for machine in EVERY_MACHINE:
        match _outcome(choice, machine):
            case Provider(device=device, reason=reason):
                assert choice in ("auto", device)
                assert reason
            case str(refusal):
                assert choice not in ("auto", "cpu")
                assert refusal.startswith(f"HOOPER_DEVICE={choice} is not available: ")
                assert "install" in refusal or "HOOPER_DEVICE=cpu" in refusal
                assert "\n" not in refusal


def _outcome(choice: DeviceChoice, machine: Machine) -> Provider | str:
    try:
        return choose_provider(choice, machine)
    except ProviderUnavailable as error:
        return error.detail


@pytest.mark.parametrize(
    ("choice", "machine", "what_to_do"),
    [
        ("openvino", BARE, "pip install onnxruntime-ep-openvino"),
        ("openvino", AMD, "HOOPER_DEVICE=cpu"),
        ("cuda", BARE, r"pip install 'hooper\[gpu\]'"),
        ("cuda", GPU_WITHOUT_CUDA, r"pip install 'hooper\[gpu\]'"),
        ("cuda", GPU_PACKAGE_ALONE, "install the driver"),
        ("tensorrt", BARE, r"pip install 'hooper\[gpu\]'"),
        ("tensorrt", GPU_PACKAGE_ALONE, "install the driver"),
        ("tensorrt", GPU, "install TensorRT 10"),
    ],
)
def test_a_refusal_says_what_to_do(choice: DeviceChoice, machine: Machine, what_to_do: str) -> None:
    with pytest.raises(ProviderUnavailable, match=what_to_do):
        choose_provider(choice, machine)


@pytest.mark.parametrize(
    ("choice", "machine", "precision"),
    [("cpu", INTEL, "fp32"), ("openvino", INTEL, "bf16"), ("openvino", OLD_INTEL, "fp32"), ("tensorrt", TENSORRT, "fp32")],
)
def test_bf16_is_for_processors_that_multiply_it(choice: DeviceChoice, machine: Machine, precision: str) -> None:
    assert choose_provider(choice, machine).precision == precision


def test_auto_on_a_machine_with_an_unused_gpu_says_why() -> None:
    reason = choose_provider("auto", replace(AMD, has_nvidia_driver=True)).reason
    assert "NVIDIA driver is present" in reason
    assert "hooper[gpu]" in reason


@pytest.mark.parametrize(("device", "fixed"), [("cpu", False), ("cuda", False), ("openvino", True), ("tensorrt", True)])
def test_engines_that_compile_per_shape_get_few_of_them(device: str, fixed: bool) -> None:
    assert Provider(device, "fp32", "").fixed_shapes is fixed  # type: ignore[arg-type]


def test_cuda_graphs_are_for_cuda_alone_and_want_few_shapes() -> None:
    cuda = choose_provider("cuda", GPU)
    assert not cuda.captures
    capturing = cuda.capturing()
    assert (capturing.captures, capturing.fixed_shapes, capturing.device) == (True, True, "cuda")
    assert for_model(replace(capturing, precision="fp16"), model(fp32=ALIKE), ()).captures
    for choice in ("cpu", "openvino", "tensorrt"):
        with pytest.raises(
            ProviderUnavailable, match=f"^HOOPER_CUDA_GRAPHS=true needs HOOPER_DEVICE=cuda; here it is {choice}"
        ):
            choose_provider(choice, TENSORRT).capturing()


def test_going_back_to_fp32_keeps_the_device_and_tells_why() -> None:
    changed = choose_provider("auto", INTEL).in_fp32("parity")
    assert changed == Provider("openvino", "fp32", "parity")
    assert changed.execution_provider == "OpenVINOExecutionProvider"


VNNI: tuple[Precision, ...] = ("int8", "int7")
AVX2: tuple[Precision, ...] = ("int7",)
ALIKE = Parity(rows=100, agreement=0.999, max_abs_error=0.1, passed=True)
OTHERWISE = Parity(rows=100, agreement=0.9, max_abs_error=3.0, passed=False)
CPU = Provider("cpu", "fp32", "no GPU")
OPENVINO = Provider("openvino", "bf16", "bf16 in hardware")
CUDA = Provider("cuda", "fp32", "a GPU")
TRT = Provider("tensorrt", "fp32", "a GPU")


def model(precisions: Sequence[Precision] = ("int8",), has_fp16_form: bool = True, **parity: Parity) -> Manifest:
    variants: dict[Precision, str] = {precision: f"model.{precision}.onnx" for precision in precisions}
    variants |= {"fp16": "model.fp16.onnx"} if has_fp16_form else {}
    outputs = (Output(name="y", axis="row"),)
    graph = Graph(file="model.onnx", layout="packed", inputs=(), outputs=outputs, storage="int8", variants=variants)
    return Manifest(
        name="m", version=1, task="text-classification", created="", base_model="b", max_tokens=8, graph=graph, parity=parity,
        files={"model.onnx": FileEntry(sha256="0" * 64, num_bytes=1)},
    )  # fmt: skip


def test_a_cpu_multiplies_int8_where_it_does_so_exactly_and_the_model_has_shown_its_parity() -> None:
    chosen = for_model(CPU, model(fp32=ALIKE, int8=ALIKE), VNNI)
    assert (chosen.device, chosen.precision) == ("cpu", "int8")
    assert chosen.reason == "no GPU; the processor multiplies int8 fast"


@pytest.mark.parametrize(
    ("manifest", "integers"),
    [
        (model(fp32=ALIKE, int8=ALIKE), ()),
        (model(fp32=ALIKE, int8=ALIKE), AVX2),
        (model(precisions=(), fp32=ALIKE, int8=ALIKE), VNNI),
        (model(fp32=ALIKE), VNNI),
        (model(fp32=ALIKE, int8=OTHERWISE), VNNI),
        (model(precisions=("int7",), fp32=ALIKE, int7=ALIKE), ()),
        (model(precisions=("int7",), fp32=ALIKE, int8=ALIKE, int7=OTHERWISE), AVX2),
    ],
    ids=["no AVX2", "no VNNI", "no such form", "not measured", "failed", "int7 without AVX2", "int7 failed"],
)
def test_otherwise_it_computes_in_fp32(manifest: Manifest, integers: Sequence[Precision]) -> None:
    assert for_model(CPU, manifest, integers).precision == "fp32"


@pytest.mark.parametrize(
    ("integers", "parity", "precision"),
    [
        (AVX2, {"int8": ALIKE, "int7": ALIKE}, "int7"),
        (VNNI, {"int8": ALIKE, "int7": ALIKE}, "int8"),
        (VNNI, {"int8": OTHERWISE, "int7": ALIKE}, "int7"),
    ],
)
def test_weights_of_seven_bits_are_taken_where_those_of_eight_cannot_be(
    integers: Sequence[Precision], parity: dict[str, Parity], precision: Precision
) -> None:
    chosen = for_model(CPU, model(precisions=("int8", "int7"), **parity), integers)
    assert chosen.precision == precision
    assert ("weights have 7 bits" in chosen.reason) == (precision == "int7")


def test_a_failed_parity_is_told() -> None:
    assert for_model(CPU, model(int8=OTHERWISE), VNNI).reason.endswith("int8 agreement was 0.9000, below its gate")


@pytest.mark.parametrize("provider", [OPENVINO, CUDA, TRT])
def test_the_int8_form_is_for_the_cpu_alone(provider: Provider) -> None:
    assert for_model(provider, model(fp32=ALIKE, int8=ALIKE, bf16=ALIKE), VNNI).precision == provider.precision


@pytest.mark.parametrize("provider", [CUDA, TRT])
def test_a_gpu_computes_in_fp16_where_the_model_has_shown_its_parity(provider: Provider) -> None:
    chosen = for_model(provider, model(fp32=ALIKE, int8=ALIKE, fp16=ALIKE), VNNI)
    assert (chosen.device, chosen.precision) == (provider.device, "fp16")
    assert chosen.reason == "a GPU; predictions agree in fp16"


@pytest.mark.parametrize("provider", [CUDA, TRT])
@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (model(fp32=ALIKE, int8=ALIKE), "fp16 agreement was not measured"),
        (model(fp32=ALIKE, fp16=OTHERWISE), "fp16 agreement was 0.9000, below its gate"),
        (model(has_fp16_form=False, fp32=ALIKE, fp16=ALIKE), "form for fp16 is missing"),
    ],
    ids=["not measured", "failed", "no such form"],
)
def test_otherwise_a_gpu_computes_in_fp32_and_says_why(provider: Provider, manifest: Manifest, why: str) -> None:
    chosen = for_model(provider, manifest, ())
    assert chosen == replace(provider, reason=f"a GPU; in fp32, since this model's {why}")


@pytest.mark.parametrize("provider", [CPU, OPENVINO])
def test_the_fp16_form_is_for_gpus_alone(provider: Provider) -> None:
    chosen = for_model(provider, model(precisions=(), fp32=ALIKE, bf16=ALIKE, fp16=ALIKE), VNNI)
    assert chosen == provider


@pytest.mark.parametrize("provider", [CPU, OPENVINO, CUDA, TRT])
def test_who_wants_fp32_gets_fp32(provider: Provider) -> None:
    manifest = model(fp32=ALIKE, int8=ALIKE, bf16=ALIKE, fp16=ALIKE)
    chosen = for_model(provider, manifest, VNNI, choice="fp32")
    assert (chosen.device, chosen.precision) == (provider.device, "fp32")


@pytest.mark.parametrize(
    ("provider", "integers", "precision", "command"),
    [
        (OPENVINO, VNNI, "bf16", "measure"),
        (CUDA, VNNI, "fp16", "fp16"),
        (TRT, (), "fp16", "fp16"),
        (CPU, VNNI, "int8", "int8"),
        (CPU, AVX2, "int7", "int8"),
    ],
)
def test_a_precision_that_was_never_tried_is_told_with_the_command_that_tries_it(
    provider: Provider, integers: Sequence[Precision], precision: str, command: str
) -> None:
    told = untried(provider, model(precisions=(), has_fp16_form=False, fp32=ALIKE), integers)
    assert told.startswith(f"{precision} was never tried with m/1 (")
    assert told.endswith(f": hooper models {command} m/1 --data FILE")
    for parity in (ALIKE, OTHERWISE):
        assert untried(provider, model(fp32=ALIKE, **{precision: parity}), integers) == ""
    assert untried(provider, model(fp32=ALIKE), integers, choice="fp32") == ""


def test_nothing_is_told_of_what_this_machine_does_not_compute_faster_or_the_model_cannot_have() -> None:
    assert untried(CPU, model(fp32=ALIKE), ()) == ""
    stored = model(fp32=ALIKE)
    larger = stored.model_copy(update={"graph": stored.graph.model_copy(update={"storage": "fp32"})})
    assert untried(CPU, larger, VNNI) == ""


def devices_tried(machine: Machine, **trials: EngineTrial) -> list[Provider]:
    tried = model().model_copy(update={"engines": trials})
    return choices_of_auto(choose_provider("auto", machine), tried, machine)


@pytest.mark.parametrize(
    ("machine", "devices"),
    [(BARE, ["cpu"]), (INTEL, ["openvino", "cpu"]), (GPU, ["cuda", "openvino", "cpu"]), (AMD, ["cpu"])],
)
def test_auto_knows_what_to_try_after_the_best(machine: Machine, devices: list[str]) -> None:
    assert [entry.device for entry in devices_tried(machine)] == devices


def test_auto_leaves_out_what_did_not_run_the_model_when_it_was_published_and_says_so() -> None:
    fails = EngineTrial(runs=False, reason="it compiles no If of unknown rank")
    (chosen,) = devices_tried(INTEL, openvino=fails)
    assert chosen.device == "cpu"
    assert "openvino left out: when the model was published it did not run it (it compiles no If" in chosen.reason
    first, *later = devices_tried(GPU, openvino=fails)
    assert (first.device, [entry.device for entry in later]) == ("cuda", ["cpu"])
    assert "left out" not in first.reason


def test_auto_takes_what_ran_the_model_and_says_so() -> None:
    chosen = devices_tried(INTEL, openvino=EngineTrial(runs=True), cpu=EngineTrial(runs=True))[0]
    assert chosen.device == "openvino"
    assert chosen.reason.endswith("; it ran the model when that was published")


def test_the_cpu_is_never_left_out() -> None:
    assert [entry.device for entry in devices_tried(BARE, cpu=EngineTrial(runs=False, reason="a fluke"))] == ["cpu"]


# --- the machine

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

    monkeypatch.setattr(providers, "Path", path)
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
    assert providers.available_cores() == cores


@pytest.mark.parametrize(
    ("texts", "cores"),
    [
        ({"/proc/self/cgroup": "0::/s/h.service\n", "/sys/fs/cgroup/s/h.service/cpu.max": "300000 100000\n"}, 3),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "200 100", "/sys/fs/cgroup/a/b/cpu.max": "400 100"}, 2),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        (
            {
                "/proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/docker/x\nnonsense\n",
                "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "100000",
                "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "50000",
            },
            2,
        ),
    ],
)  # fmt: skip
def test_the_tightest_quota_counts_of_all_groups_that_the_process_is_in(
    files: dict[str, str], texts: dict[str, str], cores: int
) -> None:
    files |= texts
    assert providers.available_cores() == cores


def test_without_a_quota_the_cores_are_those_of_the_process(files: dict[str, str]) -> None:
    assert providers.available_cores() == 8


def test_without_affinity_the_cores_are_those_of_the_machine(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert providers.available_cores() == 3


@pytest.mark.parametrize(
    ("flags", "has_bf16"),
    [("fpu avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx512f bf16", False), ("", False)],
)
def test_bf16_is_read_from_the_flags_of_the_processor(files: dict[str, str], flags: str, has_bf16: bool) -> None:
    files[CPUINFO] = f"processor\t: 0\nmodel name\t: avx512_bf16 in name only\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    assert providers.detect_machine().has_bf16 is has_bf16


@pytest.mark.parametrize(
    ("flags", "integers"),
    [
        ("avx512_vnni", VNNI),
        ("avx2 avx_vnni", VNNI),
        ("amx_int8 amx_tile", VNNI),
        ("avx2 avx512f avx512bw", AVX2),
        ("sse4_2 avx", ()),
        ("", ()),
    ],
)
def test_int8_is_read_from_the_flags_of_the_processor(files: dict[str, str], flags: str, integers: Sequence[Precision]) -> None:
    files[CPUINFO] = f"processor\t: 0\nmodel name\t: avx512_vnni in name only\nflags\t\t: {flags}\n"
    assert providers.integer_precisions() == providers.detect_machine().integers == integers


def test_a_processor_that_tells_nothing_has_no_bf16(files: dict[str, str]) -> None:
    assert not providers.detect_machine().has_bf16


def test_a_processor_of_another_system_has_no_bf16(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    files[CPUINFO] = "flags\t\t: amx_bf16\n"
    monkeypatch.setattr(providers.platform, "system", lambda: "Darwin")
    assert not providers.detect_machine().has_bf16


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
    assert providers.detect_machine().has_nvidia_driver is answers


def test_without_their_libraries_there_is_neither_cuda_nor_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    found = providers.detect_machine()
    assert not found.has_nvidia_driver
    assert not found.has_tensorrt


def test_without_its_package_there_is_no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "OPENVINO_PACKAGE", "no_such_package")
    assert providers.openvino_devices.__wrapped__() == []


def test_of_the_plug_ins_devices_only_its_processor_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(name: str, kind: object) -> SimpleNamespace:
        return SimpleNamespace(ep_name=name, device=SimpleNamespace(type=kind))

    kinds = onnxruntime.OrtHardwareDeviceType
    offered = [device("other", kinds.CPU), device("vino", kinds.GPU), device("vino", kinds.CPU), device("vino", kinds.CPU)]
    plugin = SimpleNamespace(get_ep_name=lambda: "vino", get_library_path=lambda: "vino.so")
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(providers.importlib, "import_module", lambda _: plugin)
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *_: None)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: offered)
    assert providers.openvino_devices.__wrapped__() == [offered[2]]


def test_this_machine_is_detected_with_at_least_a_cpu_and_a_core() -> None:
    found = providers.detect_machine()
    assert "CPUExecutionProvider" in found.execution_providers
    assert found.num_cores >= 1


def test_onnxruntime_is_told_to_report_nothing_before_it_is_loaded() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    program = "import os, app.runtime.providers; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"
