"""What is said of shared weights is what sessions had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench import shared_weights
from scripts.bench.shared_weights import memory_by_number, open_engine, time_ratio
from tests.support.tiny_model import publish_tiny, row


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_weights, "BATCH", [row(2, 5, 3)] * 2)  # the tiny model has ten words
    publish_tiny(tmp_path, "tiny")
    return tmp_path / "tiny" / "1"


def test_memory_is_told_after_each_engine(folder: Path) -> None:
    assert len(memory_by_number(folder, True, 3)) == 3


def test_batches_of_both_ways_are_timed_side_by_side(folder: Path) -> None:
    ratio = time_ratio(folder, 6)
    assert 0 < ratio["lower_quartile"] <= ratio["median"] <= ratio["upper_quartile"]


def test_an_engine_shares_as_it_is_told(folder: Path) -> None:
    for shares in (False, True):
        with open_engine(folder, shares) as engine:
            assert engine.provider.shares_weights is shares


def test_the_figures_in_the_documents_are_those_that_were_measured() -> None:
    report = json.loads(Path("docs/measurements/shared_weights.json").read_text(encoding="utf-8"))
    own, shared = (report["grown_mib"][way] for way in ("own", "shared"))
    text = " ".join(
        Path("docs/adr/0068-equal-weights-are-held-once-where-that-is-wished.md").read_text(encoding="utf-8").split()
    )
    assert f"took {own[-1]:,.0f} MiB with weights of their own and {shared[-1]:,.0f} MiB with shared ones" in text
    assert f"took {report['batch_time_ratio']['median']:.2f} times the processor time" in text
