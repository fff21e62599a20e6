"""The loader takes the device and the precision in which a model has shown that it answers as published."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidArtefact, ProviderUnavailable
from app.core.manifest import Graph, describe_file, read_manifest
from app.observability.metrics import Metrics
from app.runtime import providers
from app.runtime.onnx_session import OrtSession, open_session
from app.runtime.providers import Machine, Provider
from app.serving import loader
from app.serving.loader import load
from app.serving.repository import Repository
from tests.support.mutated_model import sign_again
from tests.unit.app.serving.conftest import OPTIONS, Load

PARITY = {"rows": 5, "agreement": 0.998, "max_abs_error": 0.01, "passed": True}


async def test_a_device_that_is_not_there_is_refused(load_tiny: Load) -> None:
    with pytest.raises(ProviderUnavailable, match="HOOPER_DEVICE=tensorrt"):
        await load_tiny(device="tensorrt")


@pytest.mark.parametrize(
    ("parity", "precision", "reason"),
    [
        ({"fp32": PARITY, "bf16": PARITY}, "bf16", "^the processor multiplies it$"),
        (
            {"fp32": PARITY},
            "fp32",
            "^the processor multiplies it; in fp32, since this model's bf16 agreement was not measured$",
        ),
        ({"bf16": PARITY | {"passed": False, "agreement": 0.9}}, "fp32", r"bf16 agreement was 0\.9000, below its gate$"),
    ],
)
async def test_bf16_is_used_only_where_the_model_has_shown_its_parity(
    folder: Path,
    load_tiny: Load,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    parity: dict[str, Any],
    precision: str,
    reason: str,
) -> None:
    caplog.set_level("INFO", "app.serving.loader")
    sign_again(folder, parity=parity)
    monkeypatch.setattr(loader, "choose_provider", lambda _: Provider("cpu", "bf16", "the processor multiplies it"))
    provider = (await load_tiny()).provider
    assert provider.precision == precision
    assert re.search(reason, provider.reason)
    assert ("bf16 was never tried with tiny/1" in caplog.text) == ("bf16" not in parity)


def add_fp16_form(folder: Path, passed: bool = True) -> None:
    shutil.copyfile(folder / "model.onnx", folder / "model.fp16.onnx")
    manifest = read_manifest(folder)
    graph = manifest.graph.model_copy(update={"variants": {"fp16": "model.fp16.onnx"}}).model_dump(mode="json")
    entry = describe_file(folder / "model.fp16.onnx")
    files = {name: element.model_dump() for name, element in {**manifest.files, "model.fp16.onnx": entry}.items()}
    sign_again(folder, graph=graph, parity={"fp32": PARITY, "fp16": PARITY | {"passed": passed}}, files=files)


@pytest.mark.parametrize(("passed", "file"), [(True, "model.fp16.onnx"), (False, "model.onnx")])
async def test_a_gpu_gets_the_file_that_was_made_for_it(
    models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, passed: bool, file: str
) -> None:
    add_fp16_form(folder, passed)
    monkeypatch.setattr(loader, "choose_provider", lambda _: Provider("cuda", "fp32", "a GPU"))
    opened: list[str] = []

    def session_factory(graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        opened.append(graph_file.name)
        return open_session(graph_file, graph, replace(provider, device="cpu"), num_threads)

    deployment = await load(Repository(models).open("tiny", 1), OPTIONS, Metrics(), session_factory)
    await deployment.aclose(0)
    assert opened == [file]
    assert deployment.provider.precision == ("fp16" if passed else "fp32")


class Louder:
    """An engine that answers otherwise than the one within."""

    def __init__(self, engine: OrtSession) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, *given: Any) -> Any:
        return [output + np.arange(output.shape[-1]) for output in self._engine.run(*given)]


@pytest.mark.parametrize("answers", [True, False], ids=["answers otherwise", "cannot be opened"])
async def test_what_fails_in_fp16_on_this_gpu_is_loaded_in_fp32_and_says_why(
    models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answers: bool
) -> None:
    add_fp16_form(folder)
    monkeypatch.setattr(loader, "choose_provider", lambda _: Provider("cuda", "fp32", "a GPU"))

    def session_factory(graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        if provider.precision == "fp16" and not answers:
            raise ProviderUnavailable("no kernel for it")
        engine = open_session(graph_file, graph, replace(provider, device="cpu"), num_threads)
        return Louder(engine) if provider.precision == "fp16" else engine

    deployment = await load(Repository(models).open("tiny", 1), OPTIONS, Metrics(), session_factory)
    await deployment.aclose(0)
    assert deployment.provider.precision == "fp32"
    why = "golden request 0 is answered differently" if answers else "no kernel for it"
    assert re.search(rf"^a GPU.*; in fp32, since fp16 failed here: .*{why}", deployment.provider.reason)
    assert "fails in fp16 on this device" in caplog.text


async def test_what_fails_in_fp32_too_is_refused(models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_fp16_form(folder)
    monkeypatch.setattr(loader, "choose_provider", lambda _: Provider("cuda", "fp32", "a GPU"))

    def session_factory(graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        return Louder(open_session(graph_file, graph, replace(provider, device="cpu"), num_threads))

    with pytest.raises(InvalidArtefact, match="answered differently"):
        await load(Repository(models).open("tiny", 1), OPTIONS, Metrics(), session_factory)


INTEL = Machine(
    execution_providers=frozenset({"CPUExecutionProvider"}),
    has_openvino_plugin=True,
    has_openvino=True,
    has_nvidia_driver=False,
    has_tensorrt=False,
    has_bf16=True,
    integers=(),
    num_cores=2,
)
CAUSE = "OpenVINOExecutionProvider cannot run model.onnx: CPU plug-in doesn't support If operation with dynamic rank"


class WithoutOpenVino:
    """Opens graphs on the CPU, and on OpenVINO either not at all or with an engine that answers otherwise."""

    def __init__(self, answers: bool = False) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        self.asked.append(provider.device)
        if provider.device == "cpu":
            return open_session(graph_file, graph, provider, num_threads)
        if not self.answers:
            raise ProviderUnavailable(CAUSE)
        return Louder(open_session(graph_file, graph, replace(provider, device="cpu", precision="fp32"), num_threads))


@pytest.fixture
def on_intel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "detect_machine", lambda: INTEL)


@pytest.mark.usefixtures("on_intel")
@pytest.mark.parametrize("answers", [True, False], ids=["answers otherwise", "cannot be opened"])
async def test_auto_loads_on_the_next_engine_what_the_best_does_not_run_and_says_why(
    models: Path, caplog: pytest.LogCaptureFixture, answers: bool
) -> None:
    session_factory = WithoutOpenVino(answers)
    deployment = await load(Repository(models).open("tiny", 1), replace(OPTIONS, device="auto"), Metrics(), session_factory)
    await deployment.aclose(0)
    assert (session_factory.asked[0], session_factory.asked[-1], deployment.provider.device) == ("openvino", "cpu", "cpu")
    why = "golden request 0 is answered differently" if answers else "dynamic rank"
    assert re.search(rf"^openvino left out: it failed here \(.*{why}", deployment.provider.reason)
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage() == "tiny/1 fails on openvino and is loaded on cpu"
    assert why in warning.__dict__["reason"]


@pytest.mark.usefixtures("on_intel")
async def test_auto_does_not_try_what_did_not_run_the_model_when_it_was_published(models: Path, folder: Path) -> None:
    sign_again(folder, engines={"openvino": {"runs": False, "reason": "it compiles no If"}, "cpu": {"runs": True}})
    session_factory = WithoutOpenVino()
    deployment = await load(Repository(models).open("tiny", 1), replace(OPTIONS, device="auto"), Metrics(), session_factory)
    await deployment.aclose(0)
    assert set(session_factory.asked) == {"cpu"}
    assert "openvino left out: when the model was published it did not run it (it compiles no If)" in deployment.provider.reason


@pytest.mark.usefixtures("on_intel")
async def test_a_named_engine_that_does_not_run_the_model_is_an_error_with_its_name_and_the_cause(models: Path) -> None:
    session_factory = WithoutOpenVino()
    with pytest.raises(ProviderUnavailable) as caught:
        await load(Repository(models).open("tiny", 1), replace(OPTIONS, device="openvino"), Metrics(), session_factory)
    assert caught.value.detail == f"tiny/1 cannot be served with HOOPER_DEVICE=openvino: {CAUSE}"
    assert session_factory.asked == ["openvino"]


@pytest.mark.usefixtures("on_intel")
async def test_what_no_engine_runs_is_refused_for_the_last_one_s_reason(models: Path) -> None:
    def session_factory(graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        raise InvalidArtefact(f"{graph_file.name} cannot be loaded on {provider.device}")

    with pytest.raises(InvalidArtefact, match="cannot be loaded on cpu"):
        await load(Repository(models).open("tiny", 1), replace(OPTIONS, device="auto"), Metrics(), session_factory)
