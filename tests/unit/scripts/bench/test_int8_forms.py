"""The forms of a product are measured by turns, and compute about the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.bench.int8_forms import FORMS, main, open_on_one_thread, write_products


def test_each_form_is_told_beside_fp32(tmp_path: Path) -> None:
    sizes = {"rows": 2, "width": 256, "inner": 256, "layers": 1, "words": 256, "turns": 1}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    assert main([*words, "--output", str(tmp_path / "forms.json")]) == 0
    told = json.loads((tmp_path / "forms.json").read_text())["rows"]["2"]
    assert list(told) == ["fp32", *FORMS]
    assert told["fp32"]["times_as_fast_as_fp32"] == 1.0
    assert all(form["ms"] > 0 for form in told.values())


def test_small_matrices_have_no_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--width", "8", "--inner", "8", "--layers", "1", "--words", "8"]) == 2
    assert "stay in fp32" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMS)
def test_a_form_computes_nearly_what_fp32_does(tmp_path: Path, form: str) -> None:
    write_products(tmp_path / "decoder.onnx", 256, 256, 1, 256)
    assert FORMS[form](tmp_path / "decoder.onnx", tmp_path / "form.onnx")
    x = np.random.default_rng(1).normal(size=(3, 256)).astype(np.float32)
    exact, got = (open_on_one_thread(tmp_path / name).run(None, {"x": x})[0] for name in ("decoder.onnx", "form.onnx"))
    assert 0 < np.abs(exact - got).max() < 0.1
