"""What is forbidden is not written, what is drawn follows its probabilities, and a seed says what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from app.core.errors import EngineFailed, InvalidInput
from app.core.sequences import SamplingParams
from app.runtime.sampling import LogitsProcessor, TokenSampler, draw, softmax, warped

LOGITS = np.array([[0.1, 2.0, 1.5, -0.5, 1.0]], np.float32)


def sampler(*written: int, **options: object) -> TokenSampler:
    sampling = SamplingParams(**{"max_new_tokens": 9, "eos_token_ids": (0,), **options})  # type: ignore[arg-type]
    return TokenSampler(sampling, [4], list(written))


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        ((), {}, 1),
        ((1,), {"repetition_penalty": 2.0}, 2),
        ((1, 2, 1, 2), {"no_repeat_ngram_size": 2}, 2),
        ((1,), {"presence_penalty": 0.6}, 2),
        ((1, 1), {"frequency_penalty": 0.2}, 1),
        ((1, 1), {"frequency_penalty": 0.3}, 2),
        ((1, 2), {"presence_penalty": -2.0}, 1),
        ((), {"presence_penalty": -2.0}, 1),
        ((), {"bad_words_ids": ((1,),)}, 2),
        ((3,), {"bad_words_ids": ((3, 1),)}, 2),
        ((2,), {"bad_words_ids": ((3, 1),)}, 1),
        ((), {"suppress_tokens": (1, 2)}, 4),
        ((), {"logit_bias": ((2, 9.0),)}, 2),
        ((), {"logit_bias": ((1, -100.0), (2, 0.5))}, 2),
        ((), {"forced_bos_token_id": 3}, 3),
        ((1,), {"forced_bos_token_id": 3}, 1),
        ((1,) * 8, {"forced_eos_token_id": 0}, 0),
        ((1,) * 7, {"forced_eos_token_id": 0}, 1),
    ],
)
def test_the_best_token_that_is_allowed_is_written(written: tuple[int, ...], options: dict[str, object], expected: int) -> None:
    assert sampler(*written, **options).write(LOGITS).token_ids == [expected]


def test_a_sequence_does_not_end_before_it_may() -> None:
    ending = np.array([[9.0, 1.0, 0.0, 0.0, 0.0]], np.float32)
    assert sampler(1, min_new_tokens=2).write(ending).token_ids == [1]
    written = sampler(1, 1, min_new_tokens=2).write(ending)
    assert (written.token_ids, written.is_finished) == ([0], True)


def test_the_logits_of_others_stay_as_they_are() -> None:
    logits = LOGITS.copy()
    sampler(1, repetition_penalty=2.0, suppress_tokens=(2,), temperature=0.5, top_k=2).write(logits)
    np.testing.assert_array_equal(logits, LOGITS)


def test_whether_nothing_changes_is_known_beforehand() -> None:
    assert LogitsProcessor(SamplingParams(max_new_tokens=3), 1).changes_nothing
    changes = {"repetition_penalty": 1.1, "suppress_tokens": (1,), "logit_bias": ((1, 1.0),), "forced_bos_token_id": 0}
    for name, value in changes.items():
        assert not LogitsProcessor(SamplingParams(max_new_tokens=3, **{name: value}), 1).changes_nothing  # type: ignore[arg-type]


def test_what_is_no_number_or_all_forbidden_is_an_error() -> None:
    with pytest.raises(EngineFailed, match="no finite numbers"):
        sampler().write(np.array([[0.0, np.nan, 1.0]], np.float32))
    with pytest.raises(EngineFailed, match="no finite numbers"):
        sampler().write(np.array([[0.0, np.inf, 1.0]], np.float32))
    with pytest.raises(InvalidInput, match="leaves no token"):
        sampler(suppress_tokens=(0, 1, 2, 3, 4)).write(LOGITS)


class Rising:
    """Satisfies `Constraint` and `TokenFilter`: each token is above the one before, and 0 ends it."""

    def __init__(self) -> None:
        self.last = 0

    def start(self) -> Rising:
        return Rising()

    def allowed(self) -> np.ndarray:
        numbers = np.arange(5)
        return (numbers > self.last) | (numbers == 0)

    def advance(self, token_id: int) -> None:
        assert token_id > self.last
        self.last = token_id


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_what_a_constraint_allows_is_written(temperature: float) -> None:
    for seed in range(10):
        writer = sampler(constraint=Rising(), temperature=temperature, seed=seed)
        while not writer.write(LOGITS).is_finished:
            pass
        assert writer.token_ids == [*sorted(writer.token_ids[:-1]), 0]


def test_a_token_that_the_model_has_to_begin_with_is_none_of_the_constraint() -> None:
    sampling = SamplingParams(max_new_tokens=9, eos_token_ids=(0,), forced_bos_token_id=4, constraint=Rising())
    writer = TokenSampler(sampling, [3])
    assert [writer.write(LOGITS).token_ids[0] for _ in range(3)] == [4, 1, 2]


def test_the_likeliest_tokens_are_told_by_the_logits_as_they_are() -> None:
    written = sampler(1, repetition_penalty=9.0, num_logprobs=2).write(LOGITS)
    assert written.token_ids == [2]
    assert written.logprobs is not None
    expected = np.log(softmax(LOGITS[0]))
    assert written.logprobs.logprob == pytest.approx(expected[2], abs=1e-5)
    assert written.logprobs.top_token_ids.tolist() == [1, 2]
    np.testing.assert_allclose(written.logprobs.top_logprobs, expected[[1, 2]], atol=1e-5)
    none = sampler(num_logprobs=0).write(LOGITS).logprobs
    assert none is not None
    assert len(none.top_token_ids) == 0


# --- drawing


def test_tokens_are_drawn_by_their_probabilities() -> None:
    scores = LOGITS[0]
    shares = np.bincount([draw(scores, seed, step) for seed in range(40) for step in range(100)], minlength=5) / 4000
    np.testing.assert_allclose(shares, softmax(scores), atol=0.03)


@pytest.mark.parametrize("temperature", [1e-9, 1e-300])
def test_next_to_no_temperature_draws_the_likeliest(temperature: float) -> None:
    drawn = sampler(temperature=temperature, top_p=0.9, min_p=0.1)
    assert drawn.write(LOGITS * np.float32(50)).token_ids == [1]


def test_next_to_no_penalty_leaves_numbers() -> None:
    scores = np.array([0.0, 2.0, -1.0], np.float32)
    LogitsProcessor(SamplingParams(9, repetition_penalty=1e-300), 0)(np.array([0, 1, 2]), scores)
    assert np.isfinite(scores).all()


def test_the_same_seed_and_step_draw_the_same_and_others_do_not() -> None:
    flat = np.zeros(1000, np.float32)
    drawn = {(seed, step): draw(flat, seed, step) for seed in range(10) for step in range(10)}
    assert drawn == {(seed, step): draw(flat, seed, step) for seed, step in drawn}
    assert len(set(drawn.values())) > 80
    assert draw(flat, -1, 0) == draw(flat, 2**64 - 1, 0)


def test_what_is_left_out_is_never_drawn() -> None:
    scores = np.array([1.0, -np.inf, 0.0, -np.inf], np.float32)
    assert {draw(scores, seed, 0) for seed in range(200)} == {0, 2}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [1, 2]),
        ({"top_p": 0.5}, [1, 2]),
        ({"top_p": 0.01}, [1]),
        ({"min_p": 0.5}, [1, 2]),
        ({"top_k": 99}, range(5)),
    ],
)
def test_filters_leave_out_what_is_unlikely(options: dict[str, object], kept: list[int]) -> None:
    sampling = SamplingParams(max_new_tokens=3, temperature=1.0, **options)  # type: ignore[arg-type]
    assert np.flatnonzero(warped(LOGITS[0], sampling) > -np.inf).tolist() == list(kept)
