"""A training that is killed at any moment and resumed ends as if it had not been."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kill_training import ATTEMPTS
from tests.unit.scripts.conftest import make_base, write_reviews


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [[], ["autofit=true", "epochs=4"], ["lora_rank=2", 'schedule="one-cycle"']])
def test_a_killed_training_is_resumed_to_the_same_weights(options: list[str], tmp_path: Path) -> None:
    reviews, base = write_reviews(tmp_path / "reviews.csv"), make_base(tmp_path / "tiny-bert")
    command = [sys.executable, "-m", "tests.support.kill_training", str(tmp_path / "runs"), str(reviews), str(base), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    whole, *attempts = [json.loads(line) for line in done.stdout.splitlines()]
    assert whole["moments"] > 40
    assert len(attempts) == ATTEMPTS
    assert all(attempt["killed"] for attempt in attempts)
    assert {attempt["outcome"] for attempt in attempts} == {whole["outcome"]}
