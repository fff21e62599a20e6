"""The short version of `python -m scripts.reliability.fuzz`: every operation, every kind of text and of client, a few times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import KINDS, publish_tiny_task

NUM_CASES = 600


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_and_no_client_makes_it_stumble(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (part of the extra `dev`)")
    from scripts.reliability.fuzz import fuzz

    for task in KINDS:
        publish_tiny_task(tmp_path, task, task)
    publish_tiny_decoder(tmp_path)
    report = fuzz(NUM_CASES, tmp_path, 0)
    assert report["failed"] == 0, report
    assert report["cases"] > 0.6 * NUM_CASES  # operations without parameters have fewer
