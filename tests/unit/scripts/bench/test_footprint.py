"""What is said of a service's needs is what its process had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench.footprint import MIB, Process, Watched, main
from tests.support.tiny_model import publish_tiny, publish_tiny_task


def test_a_services_needs_are_measured_from_start_through_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path / "models", "tiny")
    publish_tiny_task(tmp_path / "models", "question-answering", "reader")
    options = ["--models", str(tmp_path / "models"), "--device", "cpu", "--seconds", "0.5"]
    assert main([*options, "--output", str(tmp_path / "footprint.json")]) == 0
    (found,) = json.loads((tmp_path / "footprint.json").read_text())
    assert [found] == json.loads(capsys.readouterr().out)
    assert found["models"] == ["reader/1", "tiny/1"]
    assert set(found["statuses"]) == {"200"}
    assert 30 < found["loaded_mib"] <= found["load_peak_mib"] < 1000
    assert found["start_s"] > 0


def test_a_service_that_does_not_start_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(tmp_path)]) == 2
    assert "ended with exit code 2 before it was ready" in capsys.readouterr().err


CHILD = """
for line in open(0):
    touched = b"x" * (64 * 2**20) if line == "touch\\n" else b""
    print("done", flush=True)
"""


def test_memory_that_was_touched_is_seen_and_its_peak_is_forgotten_when_asked() -> None:
    # a process of its own: this one is large by now, and the system may take pages from it meanwhile
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        peaks = []
        process = Process(child.pid)
        for told in ("begin", "touch", "let go"):
            child.stdin.write(f"{told}\n")
            assert child.stdout.readline() == "done\n"
            if told != "touch":
                process.forget_peak()
            peaks.append(process.memory_mib("VmHWM"))
        child.stdin.close()
    before, touched, after = peaks
    assert touched >= before + 60
    assert after < before + 60


def test_the_most_that_a_folder_held_is_kept(tmp_path: Path) -> None:
    with Watched(tmp_path) as files:
        (tmp_path / "unpacked").write_bytes(b"x" * MIB)
        while not files.peak_bytes:  # until it has looked; the test's own timeout ends this
            pass
        (tmp_path / "unpacked").unlink()
    assert files.peak_bytes == MIB
