"""Two processes that train together make the model that one makes, and one of them publishes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.scripts.conftest import make_base, write_reviews

ONE = [sys.executable, "-m", "scripts.train_and_export"]
TWO = [
    # without a GPU each process takes the processor, and they speak through gloo
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"),
    *("-m", "scripts.train_and_export"),
]


def trained(command: list[str], name: str, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The evaluation of the published version, and what was printed."""
    words = ["reviews.csv", "--base-model", "tiny-bert", "--name", name, "--batch-size", "8", "--micro-batch", "4"]
    done = subprocess.run(
        [*command, *words, "--precision", "fp32", "--learning-rate", "0.005", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (folder / "models" / name).iterdir()) == ["1", "serving.json"]
    found = json.loads((folder / "models" / name / "1" / "evaluation.json").read_text(encoding="utf-8"))
    return found, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [["--epochs", "3"], ["--epochs", "3", "--autofit"]])
def test_two_processes_make_the_model_of_one(options: list[str], tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv")
    make_base(tmp_path / "tiny-bert")
    alone, _ = trained(ONE, "alone", tmp_path, *options)
    together, said = trained(TWO, "together", tmp_path, *options)
    assert (alone["training"]["processes"], together["training"]["processes"]) == (1, 2)
    assert together["training"]["updates"] == alone["training"]["updates"]
    # the last update of an epoch is filled up with rows of its beginning where two processes do not share it evenly
    assert together["training"]["loss"] == pytest.approx(
        alone["training"]["loss"], abs=2e-2 if "--autofit" in options else 2e-3
    )
    if "--autofit" not in options:
        assert together["headline"] == alone["headline"]
    assert said.count("publish ") == said.count("fine-tune ") == 1
