"""Encoders beside others: what is asked, that weights are the same before anything is measured, and what the page says."""

from __future__ import annotations

from argparse import Namespace
from contextlib import contextmanager
from typing import Any

import pytest

from app.core.errors import SetupError
from scripts.peers import encoders
from scripts.peers.compare import PeerResult
from scripts.peers.encoders import PEER, loads, table

TEXTS = [f"text {number}" for number in range(200)]
OPTIONS = Namespace(seconds=0.1, turns=1)


class Answering:
    """A service that gives a vector."""

    def __init__(self, vector: list[float]) -> None:
        self.vector, self.asked = vector, list[tuple[str, Any]]()
        self.address = self

    def post(self, path: str, body: Any) -> Any:
        self.asked.append((path, body))
        return {"data": [{"embedding": self.vector}]}


def test_both_are_asked_the_same_in_their_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    load = loads(TEXTS)["embed"][0]
    compared: list[Any] = []
    monkeypatch.setattr(encoders, "compare", lambda contestants, *rest: compared.append((contestants, *rest)) or [])
    ours, theirs = Answering([0.1, 0.9, 0.3]), Answering([0.2, 1.8, 0.6])  # of another length: the same direction
    started: Any = [(ours, "Hooper", "embed"), (theirs, PEER.title, "model")]
    encoders._compare(started, load, OPTIONS)
    assert ours.asked == [("/v1/embeddings", {"model": "embed", "input": "text 0"})]
    assert theirs.asked == [("/embeddings", {"model": "model", "input": "text 0"})]
    assert [contestant.path for contestant in compared[0][0]] == ["/v1/embeddings", "/embeddings"]


def test_other_weights_are_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "compare", lambda *_: pytest.fail("it was measured"))
    started: Any = [(Answering([0.1, 0.9, 0.3]), "Hooper", "embed"), (Answering([0.9, 0.1, 0.3]), PEER.title, "model")]
    with pytest.raises(SetupError, match="do not have the same weights"):
        encoders._compare(started, loads(TEXTS)["embed"][0], OPTIONS)


def test_an_answer_of_another_size_is_told() -> None:
    started: Any = [(Answering([0.1, 0.9, 0.3]), "Hooper", "embed"), (Answering([0.1, 0.9]), PEER.title, "model")]
    with pytest.raises(SetupError, match="has 2 numbers there, and 3 here"):
        encoders._compare(started, loads(TEXTS)["embed"][0], OPTIONS)


def test_lists_are_full_and_a_rankings_scores_stand_in_the_order_of_its_passages() -> None:
    found = loads(TEXTS)
    assert {len(body["input"]) for body in found["embed"][1].asked} == {32}
    (ranking,) = found["rerank"]
    assert [len(body["documents"]) for body in ranking.asked] == [100, 100]
    answer = {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}
    assert ranking.numbers(answer) == [0.1, 0.9]


def test_tags_are_measured_in_turns_and_the_engine_while_the_service_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    @contextmanager
    def context(name: str) -> Any:
        order.append(name)
        yield Namespace(address=Namespace(get=lambda _: STATE))
        order.append(f"/{name}")

    monkeypatch.setattr(encoders, "start_service", lambda settings: context("up"))
    monkeypatch.setattr(encoders, "stopped", lambda services: context("stopped"))
    monkeypatch.setattr(encoders, "read_manifest", lambda folder: None)
    monkeypatch.setattr(encoders, "provider_for", lambda *_: None)
    monkeypatch.setattr(encoders, "measure_engine", lambda *_: order.append("engine") or Namespace(texts_per_s=100.0))
    monkeypatch.setattr(
        encoders, "measure_closed_loop", lambda *_: order.append("service") or Namespace(requests_per_s=90 / 32)
    )
    found = encoders._tags(Namespace(models=encoders.ENVIRONMENTS, device="cpu", seconds=0.1, turns=2), TEXTS)
    engine = ["stopped", "engine", "/stopped"]
    assert order == ["up", *engine, "service", "service", *engine, "/up"]
    assert found == {"precision": "fp32", "engine_texts_per_s": [100.0] * 2, "texts_per_s": [90.0] * 2, "share": 0.9}


STATE = {"version": 1, "precision": "fp32", "limits": {"max_batch_tokens": 1024, "max_batch_rows": 64}}


def test_the_table_shows_ratios_load_by_load() -> None:
    standings = [
        vars_of(PeerResult(load, 32, title, rate, [rate], 5.0, 6.0, 0))
        for load, ours, theirs in (("a", 300.0, 100.0), ("b", 50.0, 25.0))
        for title, rate in (("Hooper in fp32", ours), (PEER.title, theirs))
    ]
    tags = {"precision": "fp32", "engine_texts_per_s": [100.0], "texts_per_s": [93.0], "share": 0.93}
    text = table({"standings": standings, "tags": tags})
    assert f"| a | 32 | {PEER.title} | 100.0 | 3.00 | 5.0 |" in text
    assert f"| b | 32 | {PEER.title} | 25.0 | 2.00 | 5.0 |" in text
    assert "93 texts/s over HTTP, 100 by the engine alone; the median of their ratios is 0.93" in text


def vars_of(result: PeerResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__slots__}
