"""mosec's worker answers each question of a batch, in their order, as the plain classifier does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.peers.plain_server import PlainClassifier
from tests.unit.scripts.peers.test_plain_server import folder

__all__ = ["folder"]


def test_a_batch_is_answered_in_its_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mosec", SimpleNamespace(Worker=object))  # which lies in an environment of its own
    monkeypatch.setenv("HOOPER_PEER_MODEL", str(folder))
    worker = importlib.import_module("scripts.peers.mosec_server").MosecClassifier()
    monkeypatch.delitem(sys.modules, "scripts.peers.mosec_server")
    texts = ["good good", "good"]
    assert worker.forward([{"input": text} for text in texts]) == PlainClassifier(folder).classify(texts)
