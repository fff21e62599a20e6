"""Beam search without a model: which beams go on, which are finished, and when it ends."""

from __future__ import annotations

import numpy as np
import pytest

from app.core.errors import EngineFailed, InvalidInput
from app.core.sequences import SamplingParams
from app.runtime.beam_search import BeamSearch

EOS = 0


def logits(*probabilities: list[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities, np.float32))


def search(**options: object) -> BeamSearch:
    sampling = SamplingParams(**{"max_new_tokens": 5, "eos_token_ids": (EOS,), "num_beams": 2, **options})  # type: ignore[arg-type]
    return BeamSearch(sampling, [9])


def test_the_first_step_takes_the_best_tokens_of_one_beam() -> None:
    written = search().write(logits([0.1, 0.2, 0.4, 0.3]))
    assert written.next_token_ids == [2, 3]
    assert (written.sources, written.token_ids, written.is_finished) == ([0, 0], [], False)


def test_a_beam_that_is_likelier_may_take_the_place_of_another() -> None:
    beams = search()
    beams.write(logits([0.1, 0.2, 0.4, 0.3]))
    written = beams.write(logits([0.1, 0.5, 0.2, 0.2], [0.01, 0.97, 0.01, 0.01]))
    assert written.next_token_ids == [1, 1]
    assert written.sources == [1, 0]


def test_the_best_finished_texts_are_returned_best_first_with_their_ends() -> None:
    beams = search(num_return_sequences=2, length_penalty=0.0)
    beams.write(logits([0.05, 0.05, 0.5, 0.4]))
    beams.write(logits([0.9, 0.04, 0.03, 0.03], [0.8, 0.1, 0.05, 0.05]))
    written = beams.write(logits([0.9, 0.04, 0.03, 0.03], [0.9, 0.04, 0.03, 0.03]))
    assert written.is_finished
    assert written.token_ids == [2, EOS, 3, EOS]
    assert written.sequence_index == [0, 0, 1, 1]


def test_at_the_limit_what_runs_counts_as_finished() -> None:
    beams = search(max_new_tokens=2, length_penalty=0.0)
    beams.write(logits([0.0001, 0.1, 0.5, 0.3999]))
    written = beams.write(logits([0.0001, 0.1, 0.1, 0.7999], [0.0001, 0.1, 0.1, 0.7999]))
    assert (written.token_ids, written.is_finished) == ([2, 3], True)


def test_a_forced_first_token_leaves_the_beams_equal_but_not_free_to_write_anything() -> None:
    beams = search(forced_bos_token_id=3)
    written = beams.write(logits([0.1, 0.2, 0.4, 0.3]))
    assert written.next_token_ids == [3, 3]
    assert beams.write(logits([0.01, 0.6, 0.3, 0.09], [0.01, 0.6, 0.3, 0.09])).next_token_ids == [1, 2]


def test_what_is_no_number_or_all_forbidden_is_an_error() -> None:
    with pytest.raises(EngineFailed, match="no finite numbers"):
        search().write(np.full((1, 4), np.nan, np.float32))
    with pytest.raises(InvalidInput, match="leaves no token"):
        search(suppress_tokens=(0, 1, 2, 3)).write(logits([0.1, 0.2, 0.4, 0.3]))
