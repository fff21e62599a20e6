"""The command that sends bodies: small runs of it, what it sends, and that it would notice what it promises to notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.reliability.bodies import BODIES, CLIENT_KINDS, NUM_BYTES, large_request, main, memory_complaints
from tests.support.live_service import ROOT
from tests.support.tiny_model import publish_tiny

BUDGET_BYTES = 2_097_152


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clients_without_a_key_take_nothing_and_those_with_one_no_more_than_the_budget(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "models", name="sentiment")
    command = [
        sys.executable,
        "-m",
        "scripts.reliability.bodies",
        "memory",
        "--models",
        tmp_path / "models",
        "--connections",
        "8",
    ]
    output = tmp_path / "bodies.json"
    ran = subprocess.run(
        [*command, "--connections", "8", "--budget-bytes", str(BUDGET_BYTES), "--output", output],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    cases = json.loads(output.read_text())["cases"]
    assert [case["statuses"] for case in cases[:2]] == [{"401": 8}, {"401": 8}], ran.stderr
    for case in cases[2:]:  # one body of two million bytes has room, where there is room for 2 MiB
        assert case["statuses"] == {"422": 1, "429": 7}
    assert all(case["is_alive"] for case in cases)


@pytest.mark.parametrize("kind", CLIENT_KINDS)
def test_every_client_sends_as_much(kind: Any) -> None:
    assert NUM_BYTES <= len(large_request(kind)) < NUM_BYTES + 300


FINE = {"case": "x", "sent": 100, "statuses": {"401": 100}, "more_mb": 49.0, "expected": ["401"], "is_alive": True}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, []),
        ({"more_mb": 51.0}, ["x: 51.0 MB more were taken; 50 are allowed"]),
        ({"more_mb": 51.0, "expected": ["401", "429"]}, []),
        ({"is_alive": False}, ["x: the service did not answer afterwards"]),
        ({"statuses": {"401": 99, "reset": 1}}, ["x: {'reset': 1}; expected were 401"]),
    ],
)
def test_it_complains_of_what_clients_were_told_and_of_memory(change: dict[str, Any], complaint: list[str]) -> None:
    assert memory_complaints(FINE | change, 10_000_000) == complaint


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_json_of_the_size_that_a_service_takes(name: str) -> None:
    body = BODIES[name]
    assert 30_000 < len(body) <= NUM_BYTES + 100
    if name not in ("nested", "digits"):  # which Python does not read either
        assert json.loads(body)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_body_of_a_short_run_is_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path / "models")
    output = tmp_path / "costly.json"
    asked = [
        "lateness",
        "--models",
        str(tmp_path / "models"),
        "--paths",
        "/v1/classify",
        "/models/tiny",
        "--bodies",
        "numbers",
        "nested",
    ]
    assert main([*asked, "--times", "2", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    for run, statuses in (("no key asked for", [422]), ("a key asked for, none sent", [401])):
        rows = report[run]["requests"]
        assert [(row["path"], row["body"]) for row in rows] == [
            (path, body) for path in ("/v1/classify", "/models/tiny") for body in ("numbers", "nested")
        ]
        assert all(row["statuses"] == statuses for row in rows)
        assert report[run]["quiet"]["asked"] > 0
    assert json.loads(capsys.readouterr().out) == report
