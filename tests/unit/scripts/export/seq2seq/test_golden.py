"""Golden answers of models that write say how sure each token was."""

from __future__ import annotations

import numpy as np

from app.core.sequences import SamplingParams
from scripts.export.seq2seq.golden import MAX_GAP, gaps

LOGITS = np.array([[1.0, 4.0, 3.5, 0.0], [1.0, 4.0, 3.5, 0.0], [2.0, 4.0, 3.5, 0.0]], np.float32)


def test_a_gap_is_that_to_the_next_best_token() -> None:
    assert gaps(LOGITS, [1, 1, 1], SamplingParams(max_new_tokens=3), (0,)) == [0.5, 0.5, 0.5]


def test_it_is_one_of_scores_after_everything_that_is_asked_for() -> None:
    sampling = SamplingParams(max_new_tokens=3, suppress_tokens=(2,), forced_eos_token_id=0)
    assert gaps(LOGITS, [1, 1, 0], sampling, (0,)) == [3.0, 3.0, MAX_GAP]
    twice = SamplingParams(max_new_tokens=3, no_repeat_ngram_size=1)
    assert gaps(LOGITS, [1, 2, 3], twice, (0,)) == [0.5, 3.5, MAX_GAP]


def test_logits_stay_as_they_are() -> None:
    before = LOGITS.copy()
    gaps(LOGITS, [1, 1, 1], SamplingParams(max_new_tokens=3), (0,))
    assert (before == LOGITS).all()
