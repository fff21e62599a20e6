"""What the tests for a GPU share. They run with `make gpu-test`, and skip where no NVIDIA driver answers.

`GPU_TEST_DEVICE=cpu make gpu-test` runs them with the CPU in place of the GPU, which shows that the tests themselves work and
says nothing of CUDA. It is no `HOOPER_…` variable, since the service refuses those that it does not know.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from app.core.manifest import Manifest, read_manifest
from app.core.types import LayoutName, Row, RowOutput, TaskName
from app.runtime.cuda_graphs import CudaGraphSession
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.onnx_session import OrtSession, open_session
from app.runtime.providers import PrecisionChoice, Provider, choose_provider, for_model, integer_precisions
from app.tasks.base import Encoded
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.question_answering.task import QuestionItem
from app.tasks.registry import installed_tasks
from app.tasks.text_classification.task import ClassificationItem
from app.tasks.tokenizer import Tokenizer
from scripts.bench.texts import profile_texts
from tests.support.live_service import ROOT

TASKS = installed_tasks()
MODELS = ROOT / "models"
FOLDERS = [max(path.iterdir(), key=lambda version: int(version.name)) for path in sorted(MODELS.iterdir())]
NUM_ROWS = 48
CPU = Provider("cpu", "fp32", "to compare with")
ITEMS: dict[TaskName, Callable[[str], Any]] = {
    "text-classification": ClassificationItem,
    "question-answering": lambda text: QuestionItem("What is it that they say?", text),
    "summarization": SummaryItem,
}

Device = Literal["cuda", "cpu"]


def num_gpus() -> int:
    """GPUs that the driver reports; asked here once more, so that a mistake in Hooper's own look skips no test."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


@pytest.fixture(scope="session", autouse=True)
def device() -> Device:
    """Where there is a driver but no CUDA in onnxruntime, tests fail: that is a broken installation."""
    if os.environ.get("GPU_TEST_DEVICE") == "cpu":
        return "cpu"
    if not num_gpus():
        pytest.skip("no NVIDIA driver answers on this machine (GPU_TEST_DEVICE=cpu runs these tests on the CPU)")
    return "cuda"


@dataclass(frozen=True)
class Model:
    """A shipped model, and rows of real texts for it."""

    folder: Path
    manifest: Manifest
    rows: Sequence[Row]

    def open(self, provider: Provider, layout: LayoutName | None = None) -> EncoderEngine:
        """A session; with `layout="padded"` a packed graph gets one row for each tensor row."""
        graph = self.manifest.graph
        file = self.folder / graph.file_for(provider.precision)
        return EncoderEngine(file, graph.model_copy(update={"layout": layout or graph.layout}), provider, 0, session_factory)

    def decisions(self, outputs: Sequence[RowOutput]) -> list[list[int]]:
        """For each row its best label, or for each kind of score its best token."""
        axes = {output.name: -1 if output.axis == "row" else 0 for output in self.manifest.graph.outputs}
        return [[*np.ravel([output[name].argmax(axis) for name, axis in axes.items()])] for output in outputs]


def session_factory(file: Path, graph: Any, provider: Provider, num_threads: int) -> OrtSession:
    """As the service opens graphs; on a CPU, what captures on a GPU runs over buffers all the same."""
    if provider.device == "cuda" or not provider.captures:
        return open_session(file, graph, provider, num_threads)
    return CudaGraphSession(open_session(file, graph, replace(provider, captures=False), num_threads), "cpu")


@cache
def model_in(folder: Path) -> Model:
    manifest = read_manifest(folder)
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    kind = TASKS[manifest.task]
    items = [ITEMS[manifest.task](text) for text in profile_texts("mixed")[:NUM_ROWS]]
    encoded = kind.build(tokenizer, manifest.task_options).encode(items, kind.options())
    return Model(
        folder, manifest, [row for encoding in encoded if isinstance(encoding, Encoded) for row in encoding.rows][:NUM_ROWS]
    )


@pytest.fixture(params=FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def model(request: pytest.FixtureRequest) -> Model:
    return model_in(request.param)


@cache
def on_cpu(folder: Path) -> Sequence[RowOutput]:
    """What the rows of a model give on the CPU in fp32."""
    one = model_in(folder)
    return one.open(CPU).run_rows(one.rows)


@pytest.fixture(params=["fp32", "auto"])
def provider(request: pytest.FixtureRequest, device: Device, model: Model) -> Provider:
    """The device in fp32 and, where the manifest allows another, in that."""
    choice: PrecisionChoice = request.param
    chosen = for_model(choose_provider(device), model.manifest, integer_precisions(), choice)
    if choice == "auto" and chosen.precision == "fp32":
        pytest.skip(f"the manifest allows no other precision than fp32 on {device}")
    return chosen


@pytest.fixture
def capturing(provider: Provider) -> Provider:
    """The same with CUDA graphs."""
    return provider.capturing() if provider.device == "cuda" else replace(provider, captures=True)
