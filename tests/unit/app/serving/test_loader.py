"""The loader: what it makes alive has answered its golden requests as it did when it was published."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.batching.admission import QueueLimit
from app.core.artefact import open_artefact
from app.core.errors import HooperError, InvalidArtefact, ProviderUnavailable
from app.core.manifest import MANIFEST, Graph
from app.core.types import TaskName
from app.observability.metrics import Metrics
from app.runtime.layout import Limits
from app.runtime.onnx_session import OrtSession, SessionFactory, open_session
from app.runtime.providers import Provider
from app.serving.loader import LoadOptions, load
from app.serving.repository import Repository
from app.settings import Settings
from app.tasks.base import Result
from app.tasks.registry import Tasks, installed_tasks
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from tests.support.faulty_engine import FaultySessionFactory
from tests.support.mutated_model import change_golden, golden_of, sign_again
from tests.support.tiny_model import GOLDEN_TEXTS, KINDS, MAX_TOKENS, publish_tiny, publish_tiny_task
from tests.unit.app.serving.conftest import OPTIONS, Load

TASKS = installed_tasks()
PARITY = {"rows": 5, "agreement": 0.998, "max_abs_error": 0.01, "passed": True}


def engines() -> list[str]:
    return [entry.name for entry in threading.enumerate() if entry.name.startswith("engine-tiny")]


async def test_what_has_not_gone_wrong_yet_is_counted_from_zero(load_tiny: Load) -> None:
    metrics = Metrics()
    await load_tiny(metrics)
    page = metrics.render().decode().splitlines()
    for kind in ("engine_failed", "out_of_memory", "engine_stalled", "engine_lost"):
        assert f'hooper_engine_failures_total{{model="tiny",type="{kind}"}} 0.0' in page
    for reason in ("deadline", "client_left"):
        assert f'hooper_dropped_rows_total{{model="tiny",reason="{reason}"}} 0.0' in page
    assert 'hooper_engines_lost_total{model="tiny"} 0.0' in page


async def test_a_loaded_model_answers(load_tiny: Load) -> None:
    deployment = await load_tiny()
    prediction = await deployment.predict([ClassificationItem("good film")], ClassificationOptions())
    (result,) = prediction.results
    assert isinstance(result, Result)
    assert result.answer.labels[0].label == "good"


@pytest.mark.parametrize("num_golden", [1, 5])
@pytest.mark.parametrize("broken", [0, 1])
async def test_every_engine_must_answer_as_published(models: Path, folder: Path, num_golden: int, broken: int) -> None:
    change_golden(folder, golden_of(folder)[:num_golden])
    upside_down = FaultySessionFactory()
    upside_down.twist = lambda answered, tensors, options: [-entry for entry in answered]
    openings = iter([upside_down if number == broken else FaultySessionFactory() for number in (0, 1)])

    def session_factory(*arguments: Any) -> OrtSession:
        return next(openings)(*arguments)

    options = replace(OPTIONS, num_threads=2, num_streams=2)
    with pytest.raises(InvalidArtefact, match="differently than when it was published"):
        await load(Repository(models).open("tiny", 1), options, Metrics(), session_factory)
    assert not engines()


async def test_cuda_graphs_without_cuda_are_refused(load_tiny: Load) -> None:
    with pytest.raises(ProviderUnavailable, match="HOOPER_CUDA_GRAPHS=true needs HOOPER_DEVICE=cuda"):
        await load_tiny(cuda_graphs=True)


@pytest.mark.parametrize("share_weights", [False, True])
async def test_weights_are_shared_where_the_settings_say_so(models: Path, share_weights: bool) -> None:
    told: list[Provider] = []

    def session_factory(graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        told.append(provider)
        return open_session(graph_file, graph, provider, num_threads)

    options = replace(OPTIONS, share_weights=share_weights)
    await (await load(Repository(models).open("tiny", 1), options, Metrics(), session_factory)).aclose(0)
    assert {provider.shares_weights for provider in told} == {share_weights}


async def test_what_opens_the_graph_is_told_the_limits_of_its_batches(models: Path) -> None:
    told: list[Provider] = []

    def session_factory(graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        told.append(provider)
        return open_session(graph_file, graph, provider, num_threads)

    for wished, given in ((64, 64), (16, MAX_TOKENS)):  # a batch takes the longest row in any case
        options = replace(OPTIONS, max_batch_tokens=wished)
        await (await load(Repository(models).open("tiny", 1), options, Metrics(), session_factory)).aclose(0)
        assert told[-1].limits == Limits(MAX_TOKENS, given, OPTIONS.max_batch_rows)


async def test_the_golden_requests_have_warmed_the_engine_up(load_tiny: Load) -> None:
    metrics = Metrics()
    await load_tiny(metrics)
    assert metrics.registry.get_sample_value("hooper_batch_rows_sum", {"model": "tiny"}) == len(GOLDEN_TEXTS)
    assert metrics.registry.get_sample_value("hooper_inference_seconds_count", {"model": "tiny"}) >= 1
    assert metrics.registry.get_sample_value("hooper_padding_ratio_sum", {"model": "tiny"}) < 1


async def test_the_budget_takes_at_least_the_models_longest_row(load_tiny: Load) -> None:
    deployment = await load_tiny(max_batch_tokens=16)
    assert deployment.scheduler.budget.max_batch_tokens == MAX_TOKENS
    assert deployment.scheduler.budget.layout == "packed"


# --- golden requests


def shifted(folder: Path, by: float) -> Any:
    golden = golden_of(folder)
    golden[-1]["answer"]["labels"][0]["score"] += by
    return golden


@pytest.mark.parametrize("by", [-0.015, 0.015])
async def test_a_golden_answer_within_the_tolerance_is_the_same(folder: Path, load_tiny: Load, by: float) -> None:
    change_golden(folder, shifted(folder, by))
    await load_tiny()


@pytest.mark.parametrize("by", [-0.025, 0.025])
async def test_a_golden_answer_beyond_the_tolerance_is_refused(folder: Path, load_tiny: Load, by: float) -> None:
    change_golden(folder, shifted(folder, by))
    with pytest.raises(InvalidArtefact, match=r"tiny/1: golden request 4 .*: 'bad' scores 0\.9725, was "):
        await load_tiny()
    assert engines() == []


async def test_another_golden_label_is_refused(folder: Path, load_tiny: Load) -> None:
    golden = golden_of(folder)
    golden[0]["answer"]["labels"][0]["label"] = "awful"
    change_golden(folder, golden)
    with pytest.raises(InvalidArtefact, match=r"golden request 0 .*: its labels differ: awful, good$"):
        await load_tiny()


async def test_a_missing_golden_label_is_refused(folder: Path, load_tiny: Load) -> None:
    golden = golden_of(folder)
    del golden[0]["answer"]["labels"][1]
    change_golden(folder, golden)
    with pytest.raises(InvalidArtefact, match="golden request 0"):
        await load_tiny()


async def test_a_golden_request_that_fails_is_refused(folder: Path, load_tiny: Load) -> None:
    change_golden(folder, [{"item": {"text": " "}, "answer": {}}])
    with pytest.raises(InvalidArtefact, match="golden request 0 failed: text: must not be empty"):
        await load_tiny()


@pytest.mark.parametrize("answer", [{}, 1, {"labels": 1}, {"labels": [{"label": "bad"}]}, {"labels": [1]}], ids=str)
async def test_an_answer_that_is_none_is_refused(folder: Path, load_tiny: Load, answer: Any) -> None:
    change_golden(folder, [golden_of(folder)[0] | {"answer": answer}])
    with pytest.raises(InvalidArtefact, match="golden request 0 cannot be compared with the published answer"):
        await load_tiny()


# --- by task: what rounding may do, and what a broken model does


def flat_folder(root: Path) -> Path:
    """A model with forty labels, most of them nearly tied."""
    return publish_tiny(root, "many", labels=[f"label {number}" for number in range(40)])


async def load_from(folder: Path, session_factory: SessionFactory = open_session) -> None:
    await (await load(open_artefact(folder), OPTIONS, Metrics(), session_factory)).aclose(0)


def rounded(*arguments: Any) -> OrtSession:
    """An engine that answers a little otherwise, as int8 does."""
    faulty, noise = FaultySessionFactory(), np.random.default_rng(3)
    faulty.twist = lambda answered, tensors, options: [entry + noise.normal(0, 0.02, entry.shape) for entry in answered]
    return faulty(*arguments)


async def test_forty_nearly_tied_labels_load_in_any_order_that_rounding_makes(tmp_path: Path) -> None:
    await load_from(flat_folder(tmp_path), rounded)


@pytest.mark.parametrize("task", KINDS)
async def test_a_little_rounding_changes_no_answer(tmp_path: Path, task: TaskName) -> None:
    faulty = FaultySessionFactory()
    faulty.twist = lambda answered, tensors, options: [entry * np.float32(1.001) for entry in answered]
    await load_from(publish_tiny_task(tmp_path, task, "tiny"), faulty)


def with_other_weights(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "word_table":
            table = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(table[::-1]), tensor.name))
    onnx.save(model, folder / "model.onnx")
    sign_again(folder)


def with_permuted_outputs(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name in ("word_table", "type_table"):
            table = numpy_helper.to_array(tensor)
            permuted = np.roll(table, 1, axis=-1) if table.shape[-1] > 1 else -table  # a summarizer has one output
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(permuted), tensor.name))
    onnx.save(model, folder / "model.onnx")
    sign_again(folder)


def with_another_tokenizer(folder: Path) -> None:
    definition = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    words = [word for word in vocabulary if not word.startswith("[")]
    numbers = [vocabulary[word] for word in words]
    vocabulary.update(zip(words, numbers[3:] + numbers[:3], strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    sign_again(folder)


@pytest.mark.parametrize("breaking", [with_other_weights, with_permuted_outputs, with_another_tokenizer])
@pytest.mark.parametrize("task", ["text-classification", "forty labels", "question-answering", "summarization"])
async def test_a_broken_model_is_refused(tmp_path: Path, task: Any, breaking: Callable[[Path], None]) -> None:
    folder = flat_folder(tmp_path) if task == "forty labels" else publish_tiny_task(tmp_path, task, "tiny")
    breaking(folder)
    with pytest.raises(InvalidArtefact, match="is answered differently than when it was published"):
        await load_from(folder)


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        ([], "holds no golden request"),
        ("{", "cannot be read"),
        pytest.param("[" * 100_000, "cannot be read", id="nested without end"),
        ({"item": 1}, "cannot be read"),
        ([{"item": {"unheard_of": 1}, "answer": {}}], "cannot be read"),
        ([{"item": {"text": "good"}}], "cannot be read"),
    ],
)
async def test_broken_golden_requests_are_refused(folder: Path, load_tiny: Load, golden: Any, message: str) -> None:
    change_golden(folder, golden)
    with pytest.raises(InvalidArtefact, match=message):
        await load_tiny()
    assert engines() == []


# --- artefacts that cannot be run


async def test_a_task_of_another_version_of_hooper_is_refused(load_tiny: Load) -> None:
    with pytest.raises(InvalidArtefact, match="tiny/1 is for text-classification, which this version cannot serve"):
        await load_tiny(tasks=Tasks([]))


@pytest.mark.parametrize("options", [{}, {"labels": ["bad", "good"], "unheard_of": 1}, {"labels": 2}], ids=str)
async def test_task_options_that_the_task_does_not_take_are_refused(
    folder: Path, load_tiny: Load, options: dict[str, object]
) -> None:
    sign_again(folder, task_options=options)
    with pytest.raises(InvalidArtefact, match="tiny/1: task_options"):
        await load_tiny()


@pytest.mark.parametrize(
    ("task", "value"),
    [
        pytest.param(task, value, id=f"{task}-{value!r}", marks=() if index == 0 or value in ("x", None) else pytest.mark.slow)
        for index, task in enumerate(KINDS)
        for value in ("x", None, {}, [], -1, float("nan"), "\n\x1b[2J")
    ],
)
async def test_nonsense_anywhere_in_a_manifest_is_a_sentence_with_the_models_name(
    tmp_path: Path, task: TaskName, value: Any
) -> None:
    """Every field in turn, and every option of the task; fields that may hold anything may hold this too."""
    folder = publish_tiny_task(tmp_path, task, "tiny")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["task_options"] |= {name: value for name in inspect.signature(TASKS[task].task).parameters if name != "tokenizer"}
    loaded, refused = [], []
    for changed in [manifest, *nonsense(json.loads((folder / MANIFEST).read_text()), value)]:
        (folder / MANIFEST).write_text(json.dumps(changed))
        try:
            loaded.append(await load(Repository(tmp_path).open("tiny", 1), OPTIONS, Metrics()))
        except HooperError as error:
            refused.append(error.detail)
    for deployment in loaded:
        await deployment.aclose(0)
    assert "task_options" in refused[0]
    assert [detail for detail in refused if "tiny/1" not in detail] == []


def nonsense(manifest: dict[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """The manifest with the value in place of each of its fields, however deep."""
    for key, field in manifest.items():
        yield manifest | {key: value}
        if isinstance(field, dict) and key != "files":
            for changed in nonsense(field, value):
                yield manifest | {key: changed}


@pytest.mark.parametrize("labels", [["only"], ["bad", "so-so", "good"]], ids=str)
async def test_another_number_of_labels_than_the_graph_has_is_refused(folder: Path, load_tiny: Load, labels: list[str]) -> None:
    sign_again(folder, task_options={"labels": labels})
    with pytest.raises(InvalidArtefact):
        await load_tiny()
    assert engines() == []


@pytest.mark.parametrize("file", ["tokenizer.json", "model.onnx"])
async def test_a_file_that_is_signed_but_broken_is_refused(folder: Path, load_tiny: Load, file: str) -> None:
    (folder / file).write_text("nonsense")
    sign_again(folder)
    with pytest.raises(InvalidArtefact):
        await load_tiny()


def test_every_setting_of_the_engine_reaches_the_loader() -> None:
    chosen: dict[str, Any] = {
        "device": "cuda", "engine_threads": 3, "max_batch_tokens": 99, "max_batch_rows": 7, "max_waiting_rows": 5,
        "max_waiting_tokens": 55, "engine_run_s": 8.5, "precision": "fp32", "engine_streams": 2, "cuda_graphs": True,
        "share_weights": True,
    }  # fmt: skip
    assert LoadOptions.from_settings(Settings(**chosen)) == LoadOptions(
        "cuda", 3, 99, 7, QueueLimit(5, 55), 8.5, "fp32", 2, cuda_graphs=True, share_weights=True
    )
    assert LoadOptions.from_settings(Settings(), QueueLimit(1, 2)).queue == QueueLimit(1, 2)
