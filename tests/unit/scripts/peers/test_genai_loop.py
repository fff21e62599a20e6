"""onnxruntime-genai's loop writes as many tokens as are asked for, and tells when the first ones came."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scripts.peers.genai_loop import GenaiWriter


class Generator:
    made: list[Generator]

    def __init__(self, model: object, params: Any) -> None:
        self.params, self.read, self.count = params, np.zeros((0, 0)), 0
        Generator.made.append(self)

    def append_tokens(self, ids: Any) -> None:
        self.read = ids

    def generate_next_token(self) -> None:
        self.count += 1

    def is_done(self) -> bool:
        return False


class Params:
    def __init__(self, model: object) -> None:
        self.options: dict[str, Any] = {}

    def set_search_options(self, **options: Any) -> None:
        self.options = options


def test_all_texts_are_one_batch_that_does_not_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    Generator.made = []
    tokenizer = SimpleNamespace(encode_batch=lambda texts: np.zeros((len(texts), 7), np.int32))
    module = SimpleNamespace(
        Model=lambda folder: folder, Tokenizer=lambda model: tokenizer, GeneratorParams=Params, Generator=Generator
    )
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", module)
    told = GenaiWriter("folder").write(["a", "b", "c"], 5)
    (generator,) = Generator.made
    assert generator.params.options == {"batch_size": 3, "max_length": 12, "min_length": 12, "do_sample": False}
    assert (generator.read.shape, generator.count) == ((3, 7), 5)
    assert (told["new_tokens"], told["read"]) == (5, 7)
    assert 0 < told["first_s"] <= told["wall_s"]
