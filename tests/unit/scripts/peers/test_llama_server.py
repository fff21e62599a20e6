"""llama.cpp's server gets as many slots as there are callers, each with room for a whole text."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from scripts.peers import llama_server


def test_every_slot_has_the_tokens_of_a_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    params = SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())
    given: list[object] = []

    def serve(params: object) -> SimpleNamespace:
        given.append(params)
        return SimpleNamespace(listening_address="http://127.0.0.1:81")

    module = SimpleNamespace(CommonParams=lambda: params, Server=serve)
    monkeypatch.setitem(sys.modules, "xllamacpp", module)
    monkeypatch.setattr(llama_server.threading, "Event", lambda: SimpleNamespace(wait=lambda: None))
    llama_server.main("a.gguf", "81", "2", "16", "2048")
    assert given == [params]
    assert (params.model.path, params.port, params.n_parallel, params.n_ctx) == ("a.gguf", 81, 16, 16 * 2048)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads, params.cont_batching) == (2, 2, True)
    assert capsys.readouterr().out == "http://127.0.0.1:81\n"
