"""Both kinds of tensors are really run, and the report says which was which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.runtime.providers import Provider
from scripts.bench.fitting import UsualWidth, main
from tests.support.tiny_model import publish_tiny


def test_the_two_differ_in_their_tensors_alone() -> None:
    usual, fitted = UsualWidth("cpu", "int8", "why"), Provider("cpu", "int8", "why")
    assert (usual.exact_shapes, fitted.exact_shapes) == (False, True)
    assert (usual.fixed_shapes, usual.execution_provider) == (fitted.fixed_shapes, fitted.execution_provider)


def test_both_are_run_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path, "tiny")
    output = tmp_path / "out" / "fitting.json"
    given = ["--models", str(tmp_path), "--model", "tiny/1", "--precision", "fp32", "--profile", "short", "--rows", "4", "9"]
    assert main([*given, "--batches", "2", "--turns", "1", "--output", str(output)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    for one, num_rows in zip(json.loads(output.read_text())["compared"], (4, 9), strict=True):
        assert one["num_rows"] == num_rows
        assert min(one["usual_ms"], one["fitted_ms"], one["ratio"]) > 0
        assert one["usual_filled"] < one["fitted_filled"] <= 1
