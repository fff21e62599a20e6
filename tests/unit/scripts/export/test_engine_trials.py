"""What runs a graph is tried and recorded; what fails, lies, or ends its process is recorded as not running it, and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from app.core.errors import ProviderUnavailable
from app.core.manifest import EngineTrial
from app.core.types import Precision, Row, RowOutput
from scripts.export import engine_trials as engines
from scripts.export.engine_trials import describe_engines, is_installed, judge, try_engines
from scripts.export.export import export_model
from scripts.training.evaluation import RowRunner
from tests.support.tiny_model import VOCABULARY


class Shifted:
    """Answers as a runner does, but by so much more."""

    def __init__(self, runner: RowRunner, by: float) -> None:
        self.runner, self.by = runner, by

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        return [{name: part + np.float32(self.by) for name, part in output.items()} for output in self.runner.run_rows(rows)]


@pytest.fixture
def runner(export: Any) -> RowRunner:
    session: RowRunner = export("Bert").session()
    return session


@pytest.mark.parametrize(("by", "runs"), [(0.0, True), (0.009, True), (0.02, False)])
def test_an_engine_that_answers_as_the_cpu_does_runs_the_model(
    runner: RowRunner, rows: list[Row], by: float, runs: bool
) -> None:
    trial = judge(lambda _: Shifted(runner, by), ["fp32"], rows, runner.run_rows(rows))
    assert trial.runs is runs
    assert trial.max_abs_error["fp32"] == pytest.approx(by, abs=1e-4)
    assert trial.reason == ("" if runs else "its logits differ from the CPU's by up to 0.02")


def test_an_engine_whose_numbers_are_not_finite_does_not_run_the_model(runner: RowRunner, rows: list[Row]) -> None:
    trial = judge(lambda _: Shifted(runner, float("nan")), ["fp32"], rows, runner.run_rows(rows))
    assert (trial.runs, trial.reason) == (False, "in fp32 it gives numbers that are not finite")


class LastRowBroken:
    """Answers as another does, but for the last row, which gets no numbers."""

    def __init__(self, runner: RowRunner) -> None:
        self._runner = runner

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        *outputs, last = self._runner.run_rows(rows)
        return [*outputs, {name: np.full_like(values, np.nan) for name, values in last.items()}]


def test_a_number_that_is_not_finite_counts_in_whichever_row_it_stands(runner: RowRunner, rows: list[Row]) -> None:
    trial = judge(lambda _: LastRowBroken(runner), ["fp32"], rows, runner.run_rows(rows))
    assert (trial.runs, trial.reason) == (False, "in fp32 it gives numbers that are not finite")


def test_an_engine_that_cannot_be_opened_does_not_run_the_model(runner: RowRunner, rows: list[Row]) -> None:
    def opening(precision: Precision) -> RowRunner:
        raise ProviderUnavailable("Exception from src/a.cpp:1:\nno kernel for If")

    trial = judge(opening, ["fp32", "bf16"], rows, runner.run_rows(rows))
    assert (trial.runs, trial.reason, trial.max_abs_error) == (False, "in fp32: no kernel for If", {})


def test_fp32_decides_and_what_others_cost_is_noted(runner: RowRunner, rows: list[Row]) -> None:
    shifts = {"fp32": 0.0, "bf16": 0.5}
    trial = judge(lambda precision: Shifted(runner, shifts[precision]), ["fp32", "bf16"], rows, runner.run_rows(rows))
    assert trial.runs
    assert trial.max_abs_error["bf16"] == pytest.approx(0.5, abs=1e-4)


def test_a_process_that_a_signal_ends_is_an_engine_that_does_not_run_the_model(
    export: Any, rows: list[Row], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(engines, "other_engines", lambda: ["openvino"])
    monkeypatch.setattr(sys, "executable", str(crashing))
    exported = export("Bert")
    trial = try_engines(exported.file, exported.graph, rows)["openvino"]
    assert (trial.runs, trial.reason) == (False, "its process ended with signal 11")


def test_of_an_engine_that_could_not_be_tried_nothing_is_recorded(
    export: Any, rows: list[Row], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines, "other_engines", lambda: ["tensorrt"])  # nothing of it is here
    exported = export("Bert")
    assert set(try_engines(exported.file, exported.graph, rows)) == {"cpu"}
    assert "tensorrt was not tried: " in caplog.text
    assert "HOOPER_DEVICE=tensorrt is not available" in caplog.text


def test_an_engine_that_takes_too_long_does_not_run_the_model(
    export: Any, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "other_engines", lambda: ["openvino"])
    exported = export("Bert")
    assert try_engines(exported.file, exported.graph, rows, timeout_s=0.01) == {
        "cpu": EngineTrial(runs=True),
        "openvino": EngineTrial(runs=False, reason="it takes longer than 0.01 s"),
    }


def test_the_process_reads_rows_of_every_length_and_answers(
    export: Any, marked_rows: list[Row], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "scripts").mkdir()  # as many a project has one
    (tmp_path / "scripts" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engines, "other_engines", lambda: ["cpu"])  # the one that every machine has
    exported = export("Bert", "TokenClassification", "position")
    many = [replace(row, input_ids=list(row.input_ids)) for row in marked_rows * 30]
    assert try_engines(exported.file, exported.graph, many)["cpu"].max_abs_error["fp32"] < 1e-5


def test_what_was_found_is_told() -> None:
    trials = {
        "cpu": EngineTrial(runs=True),
        "openvino": EngineTrial(runs=True, max_abs_error={"fp32": 1e-6, "bf16": 0.02}),
        "cuda": EngineTrial(runs=False, reason="no kernel"),
    }
    assert list(describe_engines(trials)) == [  # type: ignore[arg-type]
        "openvino runs it, logits differ from the CPU's by up to 1e-06 in fp32, 0.02 in bf16",
        "cuda does not run it and will not be used: no kernel",
    ]


SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.skipif(not is_installed(), reason="the package openvino is not installed")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("family", ["Deberta", "DebertaV2", "Bert"])
def test_openvino_runs_what_is_published(family: str, tmp_path: Path, rows: list[Row]) -> None:
    torch.manual_seed(1)
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]} if family != "Bert" else {}
    config = getattr(transformers, f"{family}Config")(vocab_size=len(VOCABULARY), **SIZE, **relative, num_labels=3)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    exported = export_model(model, "row", rows, tmp_path)
    trial = try_engines(exported.file, exported.graph, rows)["openvino"]
    assert trial.runs, trial.reason
    assert trial.max_abs_error["fp32"] < 1e-4
