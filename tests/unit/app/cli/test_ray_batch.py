"""One engine of `hooper batch --ray`, without a cluster: what it answers, and that what stops it is an answer, too."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from app.cli.local_model import ModelChoice
from app.cli.pipeline import chunks, rows_after
from app.cli.row_writers import JsonLines, WrittenRows
from app.core.errors import InvalidArtefact, InvalidInput
from app.data.sources import open_source
from app.settings import Settings

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'hooper[ray]')")

from app.cli.ray_batch import Job, RayEngine  # noqa: E402


@pytest.fixture
def job(models: Path, tmp_path: Path) -> Job:
    source = tmp_path / "in.txt"
    source.write_text("good film\nbad\n")
    settings = Settings(models=models, device="cpu", engine_threads=1)
    return Job(str(source), ModelChoice("tiny").request("bulk", {}, settings), JsonLines(), 0, (256, 1000))


def answer(engine: RayEngine, content: Any) -> Any:
    return pickle.loads(engine({"chunk": [pickle.dumps((content, 0.5))]})["chunk"][0])


def inputs_of(job: Job) -> Any:
    with open_source(job.source) as stream:
        return next(chunks(rows_after(stream, job.source, job.request.schema, 0), *job.chunk_limits))


def test_an_engine_gives_a_group_as_the_file_holds_it(job: Job) -> None:
    found = answer(RayEngine(pickle.loads(pickle.dumps(job))), inputs_of(job))
    assert isinstance(found, WrittenRows)
    assert (found.num_rows, found.num_failed, found.share) == (2, 0, 0.5)
    rows = [json.loads(line) for line in found.rows.splitlines()]
    assert [(row["line"], row["labels"][0]["label"]) for row in rows] == [(1, "good"), (2, "bad")]


def test_a_node_whose_model_differs_answers_with_the_file_that_does(job: Job) -> None:
    (job.request.artefact.folder / "model.onnx").write_bytes(b"another")
    found = answer(RayEngine(job), inputs_of(job))
    assert isinstance(found, InvalidArtefact)
    assert "model.onnx differs from the checksum" in found.detail


def test_what_stopped_the_reading_passes_through_an_engine(job: Job) -> None:
    assert answer(RayEngine(job), InvalidInput("broken", "text")).detail == "text: broken"
