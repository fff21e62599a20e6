"""The shipped models on a GPU: the CPU's numbers, whoever shares the batch, with CUDA graphs and without. See conftest.py."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.core.errors import OutOfMemory, ProviderUnavailable
from app.core.sequences import Batch
from app.core.types import LayoutName, Row, RowOutput
from app.runtime import onnx_session as engine_module
from app.runtime.cuda_graphs import CudaGraphSession
from app.runtime.providers import EXECUTION_PROVIDERS, Provider, choose_provider, detect_machine
from tests.gpu.conftest import Device, Model, on_cpu

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.3, "int8": 0.5}
"""Between logits of the same arithmetic, in tensors of other shapes."""
AGREEING = 0.95
"""Of the decisions in less than fp32, how many must be the CPU's: among so few rows one or two are close calls."""
MEMORY = 256 * 2**20


def assert_alike(some: Sequence[RowOutput], others: Sequence[RowOutput], provider: Provider) -> None:
    for entry, other in zip(some, others, strict=True):
        for name, values in entry.items():
            np.testing.assert_allclose(values, other[name], rtol=0, atol=TOLERANCE[provider.precision])


def batches(rows: Sequence[Row], seed: int) -> Iterator[list[int]]:
    """Indices of every row, in batches of random sizes and company."""
    generator = random.Random(seed)
    order = generator.sample(range(len(rows)), len(rows))
    while order:
        size = generator.randint(1, 12)
        yield order[:size]
        order = order[size:]


def test_the_engine_really_runs_on_the_device_and_gives_the_cpus_numbers(model: Model, provider: Provider) -> None:
    session = model.open(provider)
    assert session.execution_providers[0] == EXECUTION_PROVIDERS[provider.device]
    found, expected = session.run_rows(model.rows), on_cpu(model.folder)
    if provider.precision == "fp32":
        assert_alike(found, expected, provider)
    decided = zip(model.decisions(found), model.decisions(expected), strict=True)
    assert np.mean([entry == other for entry, other in decided]) >= (1 if provider.precision == "fp32" else AGREEING)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_row_gives_the_same_alone_and_in_any_company(model: Model, provider: Provider, layout: LayoutName) -> None:
    if model.manifest.graph.layout == "padded" and layout == "packed":
        pytest.skip("this graph is not packed")
    session, alone = model.open(provider, layout), model.open(provider, "padded")
    expected = [alone.run_rows([row])[0] for row in model.rows]
    assert_alike(session.run_rows(model.rows), expected, provider)
    for seed in range(3):
        for chosen in batches(model.rows, seed):
            found = session.run_rows([model.rows[index] for index in chosen])
            assert_alike(found, [expected[index] for index in chosen], provider)


def test_cuda_graphs_change_no_number_whatever_shapes_come_and_come_again(model: Model, capturing: Provider) -> None:
    captured, plain = model.open(capturing), model.open(replace(capturing, captures=False))
    assert captured.provider.fixed_shapes
    assert captured.execution_providers[0] == EXECUTION_PROVIDERS[capturing.device]
    expected = plain.run_rows(model.rows)
    for seed in (0, 1, 0, 1, 2, 0):  # a seed that comes again brings shapes that were captured before
        for chosen in batches(model.rows, seed):
            found = captured.run_rows([model.rows[index] for index in chosen])
            assert_alike(found, [expected[index] for index in chosen], capturing)
    engine = captured._engine
    assert isinstance(engine, CudaGraphSession)
    assert engine.num_bound > 1


async def test_captured_on_the_thread_that_the_service_runs_batches_on(model: Model, capturing: Provider) -> None:
    session, some = model.open(capturing), list(model.rows[:5])
    expected = model.open(replace(capturing, captures=False)).run_rows(some)
    for _ in range(4):
        result = await session.forward(Batch.of_rows(some))
        assert_alike(result.outputs, expected, capturing)  # type: ignore[arg-type]
    await session.aclose()


@pytest.mark.parametrize("captures", [False, True])
def test_a_batch_without_memory_is_told_as_such_and_the_engine_goes_on(
    model: Model, provider: Provider, capturing: Provider, captures: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if provider.device == "cpu":
        pytest.skip("on a CPU there is no limit that this process alone would meet")
    chain = engine_module._chain

    def limited(*given: Any) -> list[Any]:
        (name, options), *others = chain(*given) or []
        return [(name, options | {"gpu_mem_limit": str(MEMORY), "arena_extend_strategy": "kSameAsRequested"}), *others]

    monkeypatch.setattr(engine_module, "_chain", limited)
    session = model.open(capturing if captures else provider)
    few, long = list(model.rows[:4]), max(model.rows, key=lambda row: row.num_tokens)
    expected = session.run_rows(few)
    for _ in range(2):
        with pytest.raises(OutOfMemory):
            session.run_rows([long] * 2048)
        assert_alike(session.run_rows(few), expected, provider)


def test_tensorrt_gives_the_cpus_numbers(model: Model, device: Device) -> None:
    if device == "cpu" or not detect_machine().has_tensorrt:
        pytest.skip("TensorRT 10 is not on this machine")
    provider = choose_provider("tensorrt")
    session = model.open(provider)
    assert session.execution_providers[0] == "TensorrtExecutionProvider"
    assert_alike(session.run_rows(model.rows[:8]), on_cpu(model.folder)[:8], replace(provider, precision="fp16"))


def test_what_is_no_cuda_is_refused_graphs(device: Device) -> None:
    with pytest.raises(ProviderUnavailable, match="HOOPER_CUDA_GRAPHS"):
        choose_provider("cpu").capturing()
