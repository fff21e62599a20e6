"""What is said of a service's needs is what its process had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench.footprint import MIB, main, peak_bytes_of
from tests.support.tiny_model import publish_tiny, publish_tiny_task


@pytest.mark.slow
def test_a_services_needs_are_measured_from_start_through_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path / "models", "tiny")
    publish_tiny_task(tmp_path / "models", "question-answering", "reader")
    options = ["--models", str(tmp_path / "models"), "--device", "cpu", "--seconds", "0.5"]
    assert main([*options, "--output", str(tmp_path / "footprint.json")]) == 0
    report = json.loads((tmp_path / "footprint.json").read_text())
    assert report == json.loads(capsys.readouterr().out)
    (found,) = report["runs"]
    assert found["models"] == ["reader/1", "tiny/1"]
    assert set(found["statuses"]) == {"200"}
    assert 30 < found["loaded_mib"] <= found["load_peak_mib"] < 1000
    assert found["start_s"] > 0


@pytest.mark.slow
def test_a_service_that_does_not_start_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(tmp_path)]) == 2
    assert "ended with exit code 2 before it was ready" in capsys.readouterr().err


def test_the_most_that_a_folder_held_is_kept(tmp_path: Path) -> None:
    with peak_bytes_of(tmp_path) as peak:
        (tmp_path / "unpacked").write_bytes(b"x" * MIB)
        while not peak[0]:  # until it has looked; the test's own timeout ends this
            pass
        (tmp_path / "unpacked").unlink()
    assert peak == [MIB]
