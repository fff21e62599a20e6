"""The command that sends many large bodies: a small run of it, and that it would notice what it promises to notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.reliability.bodies import BODY_BYTES, CASES, complaints, request
from tests.support.live_service import ROOT
from tests.support.tiny_model import publish_tiny

BUDGET_BYTES = 2_097_152


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clients_without_a_key_take_nothing_and_those_with_one_no_more_than_the_budget(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "models", name="sentiment")
    command = [sys.executable, "-m", "scripts.reliability.bodies", "--models", tmp_path / "models", "--connections", "8"]
    output = tmp_path / "bodies.json"
    ran = subprocess.run(
        [*command, "--budget-bytes", str(BUDGET_BYTES), "--output", output],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    cases = json.loads(output.read_text())["cases"]
    assert [one["statuses"] for one in cases[:2]] == [{"401": 8}, {"401": 8}], ran.stderr
    for case in cases[2:]:  # one body of two million bytes has room, where there is room for 2 MiB
        assert case["statuses"] == {"422": 1, "429": 7}
    assert all(one["is_alive"] for one in cases)


@pytest.mark.parametrize("case", CASES)
def test_every_client_sends_as_much(case: Any) -> None:
    assert BODY_BYTES <= len(request(case)) < BODY_BYTES + 300


FINE = {"case": "x", "sent": 100, "statuses": {"401": 100}, "more_mb": 49.0, "expected": ["401"]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, []),
        ({"more_mb": 51.0}, ["x: 51.0 MB more were taken; 50 are allowed"]),
        ({"more_mb": 51.0, "expected": ["401", "429"]}, []),
        ({"statuses": {"401": 99, "reset": 1}}, ["x: {'reset': 1}; expected were 401"]),
    ],
)
def test_it_complains_of_what_clients_were_told_and_of_memory(change: dict[str, Any], complaint: list[str]) -> None:
    assert complaints(FINE | change, 10_000_000) == complaint
