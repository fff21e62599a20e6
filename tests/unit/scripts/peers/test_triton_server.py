"""What is bound to Triton's server gives the probabilities of the plain classifier, row by row."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scripts.peers.plain_server import PlainClassifier
from tests.unit.scripts.peers.test_plain_server import folder

__all__ = ["folder"]


class Server:
    """Stands for Triton's, which lies in an environment of its own: keeps what is bound, and does not serve."""

    bound: dict[str, Any]

    def __init__(self, config: Any) -> None:
        self.config = config

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def bind(self, **bound: Any) -> None:
        Server.bound = {**bound, "server": self.config}

    def serve(self) -> None:
        pass


def test_rows_are_answered_with_probabilities(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "decorators": SimpleNamespace(batch=lambda function: function),
        "model_config": SimpleNamespace(DynamicBatcher=dict, ModelConfig=dict, Tensor=dict),
        "triton": SimpleNamespace(Triton=Server, TritonConfig=dict),
    }
    monkeypatch.setitem(sys.modules, "pytriton", SimpleNamespace())
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"pytriton.{name}", module)
    importlib.import_module("scripts.peers.triton_server").serve(folder, 1234)
    monkeypatch.delitem(sys.modules, "scripts.peers.triton_server")
    assert (Server.bound["server"]["http_address"], Server.bound["server"]["http_port"]) == ("127.0.0.1", 1234)
    scores = Server.bound["infer_func"](np.array([[b"good good"], [b"good"]]))["scores"]
    assert scores == pytest.approx(PlainClassifier(folder).probabilities(["good good", "good"]))
