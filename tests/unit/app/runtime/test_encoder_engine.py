"""EncoderEngine over tiny graphs: the right numbers for every row, in either layout, and nothing quietly different."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.batching.watchdog import Watchdog
from app.core.errors import (
    EngineFailed,
    EngineLost,
    EngineStalled,
    HooperError,
    InvalidArtefact,
    OutOfMemory,
    ProviderUnavailable,
)
from app.core.manifest import Graph, Output
from app.core.sequences import Batch
from app.core.types import Precision
from app.runtime import encoder_engine as encoder_engine_module
from app.runtime import onnx_session as engine_module
from app.runtime.encoder_engine import EncoderEngine, is_out_of_memory
from app.runtime.layout import check_shapes
from app.runtime.providers import Provider, openvino_devices
from tests.support.faulty_engine import FaultySessionFactory, Hang, raising
from tests.support.gated_engine import turn
from tests.support.tiny_model import VOCABULARY, logits_of, packed_graph, padded_graph, row

CPU = Provider("cpu", "fp32", "for a test")
ROWS = [row(2, 4, 6, 3), row(2, 11, 3), row(2, 12, 12, 12, 13, 3), row(2, 5, 3), row(2, *[6] * 20, 3)]
NOT_A_NUMBER = VOCABULARY["not"]
Write = Callable[[Path], Graph]


@pytest.fixture(params=[packed_graph, padded_graph], ids=["packed", "padded"])
def write(request: pytest.FixtureRequest) -> Write:
    made: Write = request.param
    return made


@pytest.fixture
async def session(tmp_path: Path, write: Write) -> AsyncIterator[EncoderEngine]:
    made = EncoderEngine(tmp_path / "model.onnx", write(tmp_path / "model.onnx"), CPU, 1)
    yield made
    await made.aclose()


def poison(path: Path) -> None:
    """Make one word's weights NaN."""
    model = onnx.load(path)
    (words,) = [entry for entry in model.graph.initializer if entry.name == "word_table"]
    table = numpy_helper.to_array(words).copy()
    table[NOT_A_NUMBER] = np.nan
    words.CopyFrom(numpy_helper.from_array(table, "word_table"))
    onnx.save(model, path)


def compact_graph(path: Path) -> Graph:
    """Write a padded graph whose word table is int8 with a scale per word: logits = sum over all tokens."""
    table = np.arange(-14, 14, dtype=np.int8).reshape(14, 2)
    constants = {"table": table, "scales": scales(), "zeros": np.zeros(14, np.int8), "axis": np.array([1], np.int64)}
    nodes = [
        helper.make_node("DequantizeLinear", ["table", "scales", "zeros"], ["words"], axis=0),
        helper.make_node("Gather", ["words", "input_ids"], ["tokens"], axis=0),
        helper.make_node("ReduceSum", ["tokens", "axis"], ["logits"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "S"])]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2])
    graph = helper.make_graph(
        nodes, "compact", inputs, [output], [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Graph(
        file=path.name, layout="padded", inputs=("input_ids",), outputs=(Output(name="logits", axis="row"),), storage="int8"
    )


def scales() -> np.ndarray:
    return np.linspace(0.01, 0.5, 14, dtype=np.float32)


async def test_every_row_gets_its_own_numbers(session: EncoderEngine) -> None:
    result = await session.forward(Batch.of_rows(ROWS))
    for entry, output in zip(ROWS, result.outputs, strict=True):
        np.testing.assert_allclose(output["logits"], logits_of(entry), atol=1e-5)


async def test_a_row_alone_gets_the_numbers_it_gets_in_company(session: EncoderEngine) -> None:
    together = session.run_rows(ROWS)
    for entry, output in zip(ROWS, together, strict=True):
        np.testing.assert_allclose(session.run_rows([entry])[0]["logits"], output["logits"], atol=1e-6)


async def test_long_rows_keep_their_numbers_and_do_not_widen_short_ones(session: EncoderEngine) -> None:
    words = [4, 5, 6, 11, 12, 13]
    rows = [row(2, *[words[number % 6]] * size, 3) for number, size in enumerate((3, 300, 5, 90, 4, 280, 7, 6, 3, 8))]
    result = await session.forward(Batch.of_rows(rows))
    for entry, output in zip(rows, result.outputs, strict=True):
        np.testing.assert_allclose(output["logits"], logits_of(entry), atol=1e-5)
    assert result.num_computed_tokens < 3 * 302 + 3 * 92, "short rows take tensor rows of the longest"


async def test_the_result_tells_what_was_computed(session: EncoderEngine) -> None:
    result = await session.forward(Batch.of_rows(ROWS))
    assert result.num_computed_tokens >= sum(entry.num_tokens for entry in ROWS)
    assert result.inference_s > 0


async def test_the_session_says_what_it_runs_on(session: EncoderEngine) -> None:
    assert session.execution_providers == ["CPUExecutionProvider"]
    assert session.provider is CPU
    assert session.num_threads == 1


def test_zero_threads_are_all_cores_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_engine_module, "available_cores", lambda: 3)
    graph = packed_graph(tmp_path / "model.onnx")
    assert EncoderEngine(tmp_path / "model.onnx", graph, CPU).num_threads == 3


# --- numbers that are none


async def test_a_row_without_finite_numbers_fails_alone_whoever_shares_its_batch(tmp_path: Path, write: Write) -> None:
    graph = write(tmp_path / "model.onnx")
    poison(tmp_path / "model.onnx")
    session = EncoderEngine(tmp_path / "model.onnx", graph, CPU, 1)
    rows = [row(2, 11, 3), row(2, NOT_A_NUMBER, 3), row(2, 12, 3)]
    outputs = (await session.forward(Batch.of_rows(rows))).outputs
    assert isinstance(outputs[1], EngineFailed)
    for index in (0, 2):
        output = outputs[index]
        assert not isinstance(output, HooperError)
        np.testing.assert_allclose(output["logits"], logits_of(rows[index]), atol=1e-5)
    await session.aclose()


def test_offline_a_row_without_finite_numbers_is_an_error(tmp_path: Path, write: Write) -> None:
    graph = write(tmp_path / "model.onnx")
    poison(tmp_path / "model.onnx")
    session = EncoderEngine(tmp_path / "model.onnx", graph, CPU, 1)
    with pytest.raises(EngineFailed, match="no finite numbers"):
        session.run_rows([row(2, 11, 3), row(2, NOT_A_NUMBER, 3)])


# --- an engine that answers something else, or not at all


@pytest.fixture
async def faulty(tmp_path: Path, write: Write) -> AsyncIterator[tuple[EncoderEngine, FaultySessionFactory]]:
    session_factory = FaultySessionFactory()
    made = EncoderEngine(tmp_path / "model.onnx", write(tmp_path / "model.onnx"), CPU, 1, session_factory)
    yield made, session_factory
    await made.aclose()


WRONG: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {
    "a row too few": lambda logits: [logits[1:]],
    "a row too many": lambda logits: [np.concatenate([logits, logits[:1]])],
    "no axis": lambda logits: [logits[0, 0]],
    "an axis too few": lambda logits: [logits[:, 0]],
    "an axis too many": lambda logits: [logits[..., None]],
    "no output": lambda _: [],
    "two outputs": lambda logits: [logits, logits],
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_outputs_of_another_shape_are_never_dealt_out(
    faulty: tuple[EncoderEngine, FaultySessionFactory], wrong: Callable[[np.ndarray], list[np.ndarray]]
) -> None:
    session, session_factory = faulty
    session_factory.twist = lambda answered, *_: wrong(answered[0])
    with pytest.raises(EngineFailed, match=r"output"):
        await session.forward(Batch.of_rows(ROWS))
    session_factory.twist = None
    assert len((await session.forward(Batch.of_rows(ROWS))).outputs) == len(ROWS)


@pytest.mark.parametrize("axis", [0, 1])
def test_outputs_for_tokens_must_have_every_line_and_column(axis: int) -> None:
    graph = Graph(
        file="m", layout="padded", inputs=("input_ids",), outputs=(Output(name="spans", axis="token"),), storage="fp32"
    )
    tensors = {"input_ids": np.zeros((3, 4), np.int64)}
    right = np.zeros((3, 4, 2), np.float32)
    check_shapes([right], tensors, graph)
    with pytest.raises(EngineFailed, match=r"output spans has the shape .*, \(3, 4, …\) was expected"):
        check_shapes([right.take(range(2), axis)], tensors, graph)


async def test_a_lack_of_memory_is_told_as_such(faulty: tuple[EncoderEngine, FaultySessionFactory]) -> None:
    session, session_factory = faulty
    session_factory.twist = raising(RuntimeError("Failed to allocate memory for requested buffer of size 5"))
    with pytest.raises(OutOfMemory, match="no memory for 5 rows in "):
        await session.forward(Batch.of_rows(ROWS))
    session_factory.twist = raising(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        await session.forward(Batch.of_rows(ROWS))


def endless_graph(path: Path) -> Graph:
    """Write a padded graph that adds ones, as many times as the first token says."""
    flag, number = TensorProto.BOOL, TensorProto.FLOAT
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["sum", "one"], ["more"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", flag, []), info("sum", number, ["B", 1])],
        [info("on", flag, []), info("more", number, ["B", 1])],
    )
    nodes = [
        helper.make_node("Gather", ["input_ids", "first"], ["column"], axis=1),
        helper.make_node("Cast", ["column"], ["zeros"], to=number),
        helper.make_node("ReduceMax", ["column"], ["times"], keepdims=0),
        helper.make_node("Loop", ["times", "", "zeros"], ["logits"], body=body),
    ]
    constants = {"first": np.array([0], np.int64), "one": np.ones((1, 1), np.float32)}
    graph = helper.make_graph(
        nodes, "endless", [info("input_ids", TensorProto.INT64, ["B", "S"])], [info("logits", number, ["B", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Graph(
        file=path.name, layout="padded", inputs=("input_ids",), outputs=(Output(name="logits", axis="row"),), storage="fp32"
    )


FOR_EVER = 2**62


async def test_a_real_run_without_end_stops_when_it_is_told_to_and_the_engine_goes_on(tmp_path: Path) -> None:
    session = EncoderEngine(tmp_path / "model.onnx", endless_graph(tmp_path / "model.onnx"), CPU, 1)
    with pytest.raises(EngineStalled):
        await Watchdog(session, step_s=0.05, grace_s=30).forward(Batch.of_rows([row(FOR_EVER)]))
    (output,) = (await Watchdog(session, step_s=30).forward(Batch.of_rows([row(7)]))).outputs
    assert not isinstance(output, HooperError)
    assert output["logits"] == [14.0]
    await session.aclose()


async def test_closing_stops_a_run_without_end(tmp_path: Path) -> None:
    session = EncoderEngine(tmp_path / "model.onnx", endless_graph(tmp_path / "model.onnx"), CPU, 1)
    running = asyncio.ensure_future(session.forward(Batch.of_rows([row(FOR_EVER)])))
    await turn()
    await session.aclose(patience_s=0.05)
    await session.aclose()  # on a busy machine it may take longer to stop
    with pytest.raises(Exception, match="terminate flag"):
        await running


async def test_a_run_that_never_ends_is_abandoned_and_gives_its_engine_back_when_it_does(
    faulty: tuple[EncoderEngine, FaultySessionFactory], caplog: pytest.LogCaptureFixture
) -> None:
    session, session_factory = faulty
    session_factory.twist = hang = Hang()
    running = asyncio.ensure_future(session.forward(Batch.of_rows(ROWS)))
    await asyncio.to_thread(hang.begun.wait)
    await session.aclose(patience_s=0.001)
    assert "abandoned" in caplog.text
    assert session._engine is not None
    hang.release()
    await running
    await session.aclose()
    assert session._engine is None
    assert session.execution_providers == ["CPUExecutionProvider"]


# --- int8 storage


def test_int8_weights_give_the_numbers_of_their_dequantized_selves(tmp_path: Path) -> None:
    session = EncoderEngine(tmp_path / "model.onnx", compact_graph(tmp_path / "model.onnx"), CPU, 1)
    table = np.arange(-14, 14, dtype=np.float32).reshape(14, 2) * scales()[:, None]
    (output,) = session.run_rows([row(2, 7, 13)])
    np.testing.assert_allclose(output["logits"], table[[2, 7, 13]].sum(axis=0), rtol=1e-6)


def test_int8_weights_are_folded_once_into_standard_operators_and_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    operators: list[set[str]] = []
    really_open = engine_module._open

    def watched(file: Path, *rest: object) -> object:
        opened.append(file)
        operators.append({node.op_type for node in onnx.load(file).graph.node})
        return really_open(file, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_module, "_open", watched)
    EncoderEngine(tmp_path / "model.onnx", compact_graph(tmp_path / "model.onnx"), CPU, 1)
    assert operators == [{"Gather", "ReduceSum"}]
    assert not opened[0].parent.exists()


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_form_is_loaded_from_beside_the_file_that_holds_its_weights(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    really_open = engine_module._open

    def watched(file: Path, *rest: object) -> object:
        opened.append(file)
        return really_open(file, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_module, "_open", watched)
    graph = compact_graph(tmp_path / "model.form.onnx")
    EncoderEngine(tmp_path / "model.form.onnx", graph, Provider("cpu", precision, ""), 1)
    assert opened == [tmp_path / "model.form.onnx"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_adds_up_in_fp32(tmp_path: Path, precision: Precision) -> None:
    graph = packed_graph(tmp_path / "model.onnx")
    chain = engine_module._chain(tmp_path / "model.onnx", graph, Provider("cuda", precision, "")) or []
    name, options = chain[0]
    assert name == "CUDAExecutionProvider"
    assert options == {"use_tf32": "0", "enable_skip_layer_norm_strict_mode": "1", "enable_cuda_graph": "0"}


def test_a_broken_compact_graph_is_refused_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    graph = compact_graph(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"this is no graph")
    with pytest.raises(InvalidArtefact, match=r"model.onnx cannot be loaded"):
        EncoderEngine(tmp_path / "model.onnx", graph, CPU, 1)
    assert list((tmp_path / "temporary").iterdir()) == []


# --- what is refused


@pytest.mark.parametrize("content", [b"", b"this is no graph", None], ids=["empty", "garbage", "missing"])
def test_a_broken_graph_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    graph = packed_graph(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArtefact, match=r"^model.onnx cannot be loaded: .+") as refused:
        EncoderEngine(path, graph, CPU, 1)
    assert "\n" not in refused.value.detail


def test_a_graph_with_other_inputs_than_the_manifests_is_refused(tmp_path: Path) -> None:
    graph = packed_graph(tmp_path / "model.onnx").model_copy(update={"inputs": ("input_ids", "attention_mask")})
    with pytest.raises(InvalidArtefact, match=r"takes \[.*'gather'.*\], the manifest says \['attention_mask', 'input_ids'\]"):
        EncoderEngine(tmp_path / "model.onnx", graph, CPU, 1)


def test_an_engine_that_falls_back_to_the_cpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module.onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(engine_module, "_chain", lambda *_: ["CPUExecutionProvider"])
    with pytest.raises(ProviderUnavailable, match="CUDAExecutionProvider was asked for, but the engine chose CPU"):
        EncoderEngine(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), Provider("cuda", "fp32", ""), 1)


def test_a_provider_that_fails_in_a_run_is_not_replaced_by_another(tmp_path: Path) -> None:
    graph = packed_graph(tmp_path / "model.onnx")
    opened = engine_module.open_session(tmp_path / "model.onnx", graph, CPU, 1)
    assert opened._enable_fallback is False  # type: ignore[attr-defined]


# --- its own thread, and the end


async def test_runs_wait_for_each_other(session: EncoderEngine) -> None:
    results = await asyncio.gather(*[session.forward(Batch.of_rows([entry])) for entry in ROWS])
    for entry, result in zip(ROWS, results, strict=True):
        np.testing.assert_allclose(result.outputs[0]["logits"], logits_of(entry), atol=1e-5)


async def test_closing_waits_for_the_run_in_progress_and_ends_the_thread(tmp_path: Path, write: Write) -> None:
    session = EncoderEngine(tmp_path / "model.onnx", write(tmp_path / "model.onnx"), CPU, 1)
    running = asyncio.ensure_future(session.forward(Batch.of_rows(ROWS)))
    await asyncio.sleep(0)
    await session.aclose()
    assert len((await running).outputs) == len(ROWS)
    with pytest.raises(EngineLost):
        await session.forward(Batch.of_rows(ROWS))


@pytest.mark.skipif(not openvino_devices(), reason="the OpenVINO plug-in does not offer this processor")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.2)])
async def test_openvino_gives_the_same_numbers(tmp_path: Path, precision: str, tolerance: float) -> None:
    provider = Provider("openvino", precision, "for a test")  # type: ignore[arg-type]
    session = EncoderEngine(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), provider, 1)
    assert session.execution_providers[0] == "OpenVINOExecutionProvider"
    for entry, output in zip(ROWS, session.run_rows(ROWS), strict=True):
        np.testing.assert_allclose(output["logits"], logits_of(entry), atol=tolerance)
    await session.aclose()


# --- out of memory

OUT_OF_MEMORY_ERRORS = [
    "[ONNXRuntimeError] : 1 : FAIL : Status Message: bfc_arena.cc:360 Failed to allocate memory for buffer of size 6871",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Status Message: std::bad_alloc",
    "Available memory of 1048576 is smaller than requested bytes of 8388608",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc((void**)&p, size);",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);",
    "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
    "[GPU] out of GPU resources",
    "[GPU] Exceeded max size of memory object allocation: requested 2305843008391495680 bytes",
    "[GPU] CL_OUT_OF_RESOURCES exception",
    "Failed to allocate 74784858112 bytes of memory",
]
"""The first two, shortened, are what ONNX Runtime 1.32 raised on a CPU; the others are as people's reports have them."""


@pytest.mark.parametrize("said", OUT_OF_MEMORY_ERRORS)
def test_words_for_a_lack_of_memory_are_known(said: str) -> None:
    assert is_out_of_memory(RuntimeError(said))


def test_pythons_own_lack_of_memory_is_one() -> None:
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize(
    "said",
    [
        "Non-zero status code returned while running Loop node. Exiting due to terminate flag being set to true.",
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: input_ids",
        "CUDA failure 700: an illegal memory access was encountered",
        "",
    ],
)
def test_other_failures_are_none(said: str) -> None:
    assert not is_out_of_memory(RuntimeError(said))
