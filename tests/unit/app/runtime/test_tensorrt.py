"""TensorRT is told every shape that it will meet, and keeps its engines where nobody else can plant one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import ProviderUnavailable
from app.core.manifest import Graph, Output
from app.runtime import onnx_session as engine_module
from app.runtime import tensorrt
from app.runtime.layout import Limits
from app.runtime.providers import Provider
from app.runtime.tensorrt import cache_folder, profile, tensorrt_options
from tests.support.tiny_model import PACKED_INPUTS, PADDED_INPUTS

LIMITS = Limits(max_tokens=512, max_batch_tokens=1024, max_batch_rows=64)
TENSORRT = Provider("tensorrt", "fp32", "for a test", limits=LIMITS)


def graph(inputs: tuple[str, ...] = PACKED_INPUTS) -> Graph:
    outputs = (Output(name="logits", axis="row"),)
    layout = "packed" if inputs == PACKED_INPUTS else "padded"
    return Graph(file="model.onnx", layout=layout, inputs=inputs, outputs=outputs, storage="fp32")  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a graph")
    return path


def shapes(said: str) -> dict[str, str]:
    return dict(part.split(":") for part in said.split(","))


@pytest.mark.parametrize("inputs", [PACKED_INPUTS, PADDED_INPUTS])
def test_every_input_has_a_smallest_a_usual_and_a_largest_shape(inputs: tuple[str, ...]) -> None:
    for said in profile(graph(inputs), LIMITS).values():
        assert tuple(shapes(said)) == inputs


def test_shapes_are_those_of_the_layout_within_the_limits() -> None:
    made = {name: shapes(said) for name, said in profile(graph(), LIMITS).items()}
    assert [made[f"trt_profile_{name}_shapes"]["input_ids"] for name in ("min", "opt", "max")] == ["1x16", "8x128", "24x512"]
    assert [made[f"trt_profile_{name}_shapes"]["gather"] for name in ("min", "opt", "max")] == ["1", "64", "64"]


@pytest.mark.parametrize("max_tokens", [8, 128, 512, 8192])
@pytest.mark.parametrize("max_batch_tokens", [16, 1024, 65_536])
@pytest.mark.parametrize("max_batch_rows", [1, 64, 4096])
def test_a_usual_shape_lies_between_the_smallest_and_the_largest(
    max_tokens: int, max_batch_tokens: int, max_batch_rows: int
) -> None:
    made = profile(graph(), Limits(max_tokens, max_batch_tokens, max_batch_rows))
    least, usual, most = (shapes(made[f"trt_profile_{name}_shapes"]) for name in ("min", "opt", "max"))
    for name in PACKED_INPUTS:
        for low, middle, high in zip(*(entry[name].split("x") for entry in (least, usual, most)), strict=True):
            assert int(low) <= int(middle) <= int(high)


def test_without_limits_no_shape_is_told(file: Path) -> None:
    options = tensorrt_options(file, graph(), replace(TENSORRT, limits=None))
    assert not any("profile" in name for name in options)


@pytest.mark.parametrize(("precision", "fp16"), [("fp32", "0"), ("fp16", "1")])
def test_half_precision_is_what_the_provider_says(file: Path, precision: str, fp16: str) -> None:
    options = tensorrt_options(file, graph(), replace(TENSORRT, precision=precision))  # type: ignore[arg-type]
    assert (options["trt_fp16_enable"], options["trt_layer_norm_fp32_fallback"]) == (fp16, fp16)


def test_engines_and_timings_are_kept_together_and_every_option_is_text(file: Path) -> None:
    options = tensorrt_options(file, graph(), TENSORRT)
    folder = Path(options["trt_engine_cache_path"])
    assert options["trt_timing_cache_path"] == str(folder)
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert all(isinstance(value, str) for value in options.values())
    assert folder.is_dir()


def test_the_chain_falls_to_cuda_and_then_to_the_cpu_which_compute_in_fp32(file: Path) -> None:
    (first, options), (second, cuda), third = engine_module._chain(file, graph(), TENSORRT) or []
    assert (first, second, third) == ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == tensorrt_options(file, graph(), TENSORRT)
    assert cuda["use_tf32"] == "0"


@pytest.mark.parametrize("captures", [False, True])
def test_cuda_is_told_whether_to_capture(file: Path, captures: bool) -> None:
    (name, options), last = engine_module._chain(file, graph(), Provider("cuda", "fp32", "", captures)) or []
    assert (name, last) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["enable_cuda_graph"] == str(int(captures))


# --- where engines are kept


def test_the_folder_is_the_users_own_and_nobody_else_looks_into_it(file: Path, tmp_path: Path) -> None:
    folder = cache_folder(file)
    assert folder.parent == tmp_path / "cache" / "hooper" / "tensorrt"
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert cache_folder(file) == folder


def test_graphs_of_other_content_have_other_folders(file: Path) -> None:
    first = cache_folder(file)
    file.write_bytes(b"another graph, whose nodes may have the same names")
    assert cache_folder(file) != first


@pytest.mark.parametrize("environment", [{}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}])
def test_by_default_it_lies_at_home(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(file, environment).parent == tmp_path / ".cache" / "hooper" / "tensorrt"


@pytest.mark.parametrize("level", ["hooper", "hooper/tensorrt"])
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_not_used(file: Path, tmp_path: Path, level: str, mode: int) -> None:
    (tmp_path / "cache" / level).mkdir(parents=True)
    (tmp_path / "cache" / level).chmod(mode)
    assert not cache_folder(file).is_relative_to(tmp_path / "cache")


def test_a_folder_of_somebody_else_is_not_used(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder(file)
    monkeypatch.setattr(tensorrt, "_processes_cache", lambda: tmp_path / "process")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ProviderUnavailable, match="a folder for its engines: others may write"):
        cache_folder(file)


def test_a_folder_that_cannot_be_written_is_not_used(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder(file)
    monkeypatch.setattr(os, "access", lambda folder, _: not folder.is_relative_to(tmp_path))  # as of a disk that is read-only
    assert not cache_folder(file).is_relative_to(tmp_path)


def test_where_no_home_can_be_written_a_private_folder_goes_with_the_process(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where a folder is needed")
    folder = cache_folder(file)
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert folder.parent == tensorrt._processes_cache()
    assert cache_folder(file) == folder
    assert "not kept for the next start" in caplog.text


def test_a_user_without_a_home_gets_one_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cache_folder(file, {}).parent == tensorrt._processes_cache()
