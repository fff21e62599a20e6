"""What a form of a decoder's step loses: perplexities of the same tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidSettings
from app.core.types import Row
from scripts.export.seq2seq import loss
from scripts.export.seq2seq.loss import Loss, measure_loss


class Told:
    """A writer that gives every token of four the same logit, but its own one `sure` more."""

    def __init__(self, sure: float, *_: object) -> None:
        self.sure = sure

    def logits_of_each(self, rows: Any, tokens: Any) -> Any:
        for own in tokens:
            logits = np.zeros((len(own), 4), np.float32)
            logits[np.arange(len(own)), own] = self.sure
            yield logits


def test_perplexity_is_of_all_tokens_but_those_that_are_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "MIN_EXPECTED", 4)
    sure = iter([math.log(3), 0.0])  # a half, then a quarter
    monkeypatch.setattr(loss, "GreedyWriter", lambda *_: Told(next(sure)))
    graphs: Any = type("Graphs", (), dict.fromkeys(("encoder_file", "graph", "decoder_file", "decoder")))
    measured = measure_loss(graphs, graphs, [Row([1, 2, 3], [0] * 3), Row([0], [0]), Row([3, 1, 0], [0] * 3)])
    assert (measured.before, measured.after, measured.num_tokens) == (pytest.approx(2), pytest.approx(4), 4)
    assert measured.share == pytest.approx(1)
    assert str(replace(measured, before=2.0, after=4.0)) == "perplexity 2 in fp32, then 4 (+100.0 %) over 4 tokens"
    with pytest.raises(InvalidSettings, match="the texts have 1 tokens that could be expected, and at least 4 are needed"):
        measure_loss(graphs, graphs, [Row([1, 2], [0, 0])])
    assert Loss(4.0, 2.0, 1).share == -0.5
