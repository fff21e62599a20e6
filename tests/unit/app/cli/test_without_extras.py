"""Without the extras every command works, or says in one sentence what to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement

from app.cli.commands import commands
from app.core.command_line import EXTRAS, missing_package
from tests.support.live_service import ROOT
from tests.support.tiny_model import publish_tiny

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"scikit-learn": "sklearn", "rouge-score": "rouge_score", "optimum-onnx": "optimum", "protobuf": "google.protobuf"}
"""Of packages whose module has another name."""
OFFERED = {"onnxruntime", "onnxruntime-ep-openvino", "onnxruntime-gpu"}
"""Of the extras of which one is always there."""
PROGRAM = """
import contextlib, io, json, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if any(name == hidden or name.startswith(hidden + ".") for hidden in json.loads(sys.argv[1])):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from app.cli.commands import main

for arguments in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    print(json.dumps([arguments, code, out.getvalue(), err.getvalue()]))
"""
NEEDS_TRAIN = {
    ("train", "rows.csv"),
    ("train", "rows.csv", "--folds", "2"),
    ("models add", "checkpoint", "--task", "text-classification"),
    ("models reference", "tiny/1", "--data", "rows.csv"),
    ("models measure", "tiny/1", "--max-tokens", "64"),
}
ARGUMENTS: dict[str, list[list[str]]] = {
    "serve": [["--port", "1", "--traces-endpoint", "http://127.0.0.1:1"]],
    "predict": [["--model", "tiny", "--text", "a good film"], ["--model", "tiny", "rows.parquet"]],
    "batch": [["--model", "tiny", "rows.csv", "answers.csv"], ["--model", "tiny", "--ray", "rows.csv", "more.csv"]],
    "explain": [["--model", "tiny", "--text", "a good film"]],
    "train": [["rows.csv"], ["rows.csv", "--folds", "2"]],
    "sweep": [["rows.csv"]],
    "report": [["tiny"]],
    "compare": [["tiny/1", "tiny/1", "--data", "rows.csv"]],
    "feedback": [["--feedback", "none.db"]],
    "feedback export": [["out.jsonl", "--feedback", "none.db"]],
    "feedback next": [["rows.csv", "--model", "tiny"]],
    "feedback remove": [["--feedback", "none.db"]],
    "models": [[]],
    "models list": [[]],
    "models show": [["tiny"]],
    "models add": [["checkpoint", "--task", "text-classification"]],
    "models int8": [["tiny/1", "--data", "rows.csv"]],
    "models int4": [["tiny/1", "--data", "rows.csv", "--accept-loss", "5"]],
    "models fp16": [["tiny/1", "--data", "rows.csv"]],
    "models reference": [["tiny/1", "--data", "rows.csv"]],
    "models calibrate": [["tiny/1", "--data", "rows.csv"]],
    "models measure": [["tiny/1", "--max-tokens", "64"]],
    "models promote": [["tiny/7"]],
    "models remove": [["tiny/7"]],
    "export": [["tiny", "tiny.tar.gz"]],
    "bench": [["--url", "http://127.0.0.1:1", "--model", "tiny"], ["--help"]],
    "doctor": [[]],
    "settings": [[], ["--values"]],
    "openapi": [[]],
    "completion": [["bash"]],
}
"""Arguments by which a command gets as far as it can."""


def hidden_modules() -> list[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {
        Requirement(text).name for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    optional = {Requirement(text).name for name, texts in extras.items() if name not in {"dev", "mutation"} for text in texts}
    names = {MODULES.get(name, name.replace("-", "_")) for name in optional - needed - OFFERED}
    names -= {name for name in names if name.startswith("opentelemetry")}  # FastAPI brings its API
    return sorted(names | {"opentelemetry.sdk", "opentelemetry.exporter", "rich", "onnx_ir", "pandas", "scipy"})


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """For each call of every command: its arguments, exit code (or what it raised), and what it printed."""
    folder = tmp_path_factory.mktemp("without-extras")
    publish_tiny(folder / "models")
    (folder / "rows.csv").write_text("text,label\na good film,good\na bad film,bad\n")
    (folder / "rows.parquet").write_bytes(b"PAR1")
    (folder / "checkpoint").mkdir()
    calls = [[*name.split(), *arguments] for name, variants in ARGUMENTS.items() for arguments in variants]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(hidden_modules()), json.dumps(calls)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOOPER_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[[")]


def test_every_command_is_tried(outcomes: list[Any]) -> None:
    assert ARGUMENTS.keys() == {entry.name for entry in commands()}
    assert len(outcomes) == sum(map(len, ARGUMENTS.values()))


def test_no_command_ends_in_a_traceback(outcomes: list[Any]) -> None:
    for arguments, code, _, err in outcomes:
        assert code in (0, 1, 2), (arguments, code, err)
        assert "Traceback" not in err, (arguments, err)
        assert code == 0 or err.strip(), f"{arguments} fails without a word"


def test_what_needs_the_extra_train_says_so_in_one_sentence(outcomes: list[Any]) -> None:
    for arguments, code, _, err in outcomes:
        if any(arguments == [*name.split(), *rest] for name, *rest in NEEDS_TRAIN):
            assert code == 2
            assert err.splitlines()[-1].startswith(f"hooper {arguments[0]}")
            assert err.splitlines()[-1].endswith("is not installed; run `pip install 'hooper[train]'`")


@pytest.mark.parametrize(
    ("command", "extra"), [(["serve"], "tracing"), (["predict", "--model", "tiny", "rows.parquet"], "batch")]
)
def test_what_needs_another_extra_names_that(outcomes: list[Any], command: list[str], extra: str) -> None:
    (err,) = [err for arguments, _, _, err in outcomes if arguments[: len(command)] == command]
    assert f"pip install 'hooper[{extra}]'" in err


def test_an_extra_that_a_sentence_names_is_one_that_brings_the_package() -> None:
    for package, extra in EXTRAS.items():
        assert any(text.startswith(package) for text in PROJECT["optional-dependencies"][extra])
    assert missing_package(ModuleNotFoundError(name="torch.nn")).endswith("run `pip install 'hooper[train]'`")


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="app.nowhere"), ImportError("cannot import name"), ImportError()])
def test_an_error_of_our_own_is_no_missing_package(error: ImportError) -> None:
    assert missing_package(error) == ""
