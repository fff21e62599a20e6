"""What is written next, from the scores of every token: the processors, filters and arithmetic of transformers' `generate`.

Scores come out as those of transformers 4.57.6 (`generation/logits_process.py`), in its order (`_get_logits_processor`). What
is drawn depends on the seed, the step and the scores alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from app.core.errors import EngineFailed, InvalidInput
from app.core.sequences import SamplingParams, TokenFilter
from app.core.types import Array, Ints

SMALLEST = 1e-6
"""Temperatures and penalties below it count as it: in fp32 the scores would be divided to infinity."""
NOT_FINITE = "the model gave no finite numbers for this input"


@dataclass(frozen=True, slots=True)
class LogitsProcessor:
    """Changes scores by what was written so far and what is allowed."""

    sampling: SamplingParams
    num_first: int
    """Tokens that the sequence starts with: they count as written for penalties, but not as new."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the scores stay as they are, whatever was written."""
        sampling = self.sampling
        return (
            sampling.repetition_penalty == 1.0
            and not sampling.presence_penalty
            and not sampling.frequency_penalty
            and not sampling.logit_bias
            and not sampling.no_repeat_ngram_size
            and not sampling.bad_words_ids
            and not (sampling.min_new_tokens and sampling.eos_token_ids)
            and sampling.forced_bos_token_id is None
            and sampling.forced_eos_token_id is None
            and not sampling.suppress_tokens
        )

    def __call__(self, token_ids: Ints, scores: Array) -> None:
        """Change the scores of one sequence in place.

        Args:
            token_ids: (tokens,), those that it started with included.
            scores: (vocabulary,): logits, or their log-softmax where beams are searched.
        """
        sampling = self.sampling
        for token_id, bias in sampling.logit_bias:
            scores[token_id] += np.float32(bias)
        if sampling.repetition_penalty != 1.0:
            _penalize(token_ids, scores, sampling.repetition_penalty)
        if sampling.presence_penalty or sampling.frequency_penalty:
            written, counts = np.unique(token_ids[self.num_first :], return_counts=True)
            scores[written] -= np.float32(sampling.presence_penalty) + np.float32(sampling.frequency_penalty) * counts
        if sampling.no_repeat_ngram_size:
            scores[_repeating(token_ids, sampling.no_repeat_ngram_size)] = -np.inf
        for words in sampling.bad_words_ids:
            if _completes(token_ids, words, sampling.eos_token_ids):
                scores[words[-1]] = -np.inf
        num_new = len(token_ids) - self.num_first
        if num_new < sampling.min_new_tokens:
            scores[list(sampling.eos_token_ids)] = -np.inf
        if sampling.forced_bos_token_id is not None and len(token_ids) == 1:
            _force(scores, sampling.forced_bos_token_id)
        if sampling.forced_eos_token_id is not None and num_new == sampling.max_new_tokens - 1:
            _force(scores, sampling.forced_eos_token_id)
        scores[list(sampling.suppress_tokens)] = -np.inf


def _penalize(token_ids: Ints, scores: Array, penalty: float) -> None:
    of_written, factor = scores[token_ids], np.float32(max(penalty, SMALLEST))
    scores[token_ids] = np.where(of_written < 0, of_written * factor, of_written / factor)


def _repeating(token_ids: Ints, size: int) -> Ints:
    """Tokens that would end an n-gram of this size which was written before."""
    if len(token_ids) < size:
        return token_ids[:0]
    windows = np.lib.stride_tricks.sliding_window_view(token_ids, size)
    beginning = token_ids[len(token_ids) - size + 1 :]
    return windows[(windows[:, :-1] == beginning).all(axis=1), -1]  # type: ignore[no-any-return]


def _completes(token_ids: Ints, words: Sequence[int], eos_token_ids: Sequence[int]) -> bool:
    """Whether the last token of these words may not follow; the end of a sequence cannot be forbidden as a word."""
    if len(words) == 1:
        return words[0] not in eos_token_ids
    num_before = len(words) - 1
    return len(words) <= len(token_ids) and list(token_ids[-num_before:]) == list(words[:-1])


def _force(scores: Array, token_id: int) -> None:
    scores[:] = -np.inf
    scores[token_id] = 0.0


# --- drawing


def warped(scores: Array, sampling: SamplingParams) -> Array:
    """The scores that are drawn from, (vocabulary,): by temperature, and -inf for what top-k, top-p and min-p leave out."""
    scores = scores / np.float32(max(sampling.temperature, SMALLEST))
    if 0 < sampling.top_k < len(scores):
        smallest = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        scores[scores < smallest] = -np.inf
    if sampling.top_p < 1.0:
        possible = np.flatnonzero(scores > -np.inf)
        rising = possible[np.argsort(scores[possible], kind="stable")]
        is_left_out = np.cumsum(softmax(scores[rising])) <= np.float32(1 - sampling.top_p)
        is_left_out[-1] = False
        scores[rising[is_left_out]] = -np.inf
    if sampling.min_p > 0.0:
        probabilities = softmax(scores)
        best = int(probabilities.argmax())
        is_left_out = probabilities < np.float32(sampling.min_p) * probabilities[best]
        is_left_out[best] = False
        scores[is_left_out] = -np.inf
    return scores


def draw(scores: Array, seed: int, step: int) -> int:
    """A token by the softmax of its scores; the same one for the same arguments."""
    possible = np.flatnonzero(scores > -np.inf)
    ends = np.cumsum(softmax(scores[possible].astype(np.float64)))
    number = np.random.Generator(np.random.Philox(key=seed % 2**64, counter=step)).random()
    return int(possible[min(np.searchsorted(ends, number * ends[-1], side="right"), len(possible) - 1)])


def softmax(scores: Array) -> Array:
    exponents = np.exp(scores - scores.max())
    return exponents / exponents.sum()  # type: ignore[no-any-return]


def log_softmax(scores: Array) -> Array:
    """Along the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # type: ignore[no-any-return]


# --- one sequence


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely the model found what was written, and what else it could have been: by its logits as they are."""

    logprob: float
    top_token_ids: Ints
    """(num_logprobs,), the likeliest first."""
    top_logprobs: Array
    """Theirs."""

    @classmethod
    def of(cls, logits: Array, token_id: int, num_logprobs: int) -> TokenLogprobs:
        """`logits`: (vocabulary,)."""
        logprobs = log_softmax(logits)
        size = min(num_logprobs, len(logprobs))
        best = np.argpartition(-logprobs, size - 1)[:size] if size else np.empty(0, np.int64)
        best = best[np.lexsort((best, -logprobs[best]))]
        return cls(float(logprobs[token_id]), best, logprobs[best])


@dataclass(frozen=True, slots=True)
class Written:
    """What a step came to for one sequence."""

    next_token_ids: Sequence[int]
    """What each of its rows reads next."""
    sources: Sequence[int] | None
    """Which row each row goes on from; None: each from itself."""
    token_ids: Sequence[int]
    """Of the answer, those that are certain now."""
    sequence_index: Sequence[int]
    """Which of the returned sequences each belongs to."""
    is_finished: bool
    logprobs: TokenLogprobs | None = None
    """Of the token, where that was asked for."""


@dataclass(slots=True)
class TokenSampler:
    """Writes one sequence in one row: the best token each time, or a drawn one."""

    sampling: SamplingParams
    first_token_ids: Sequence[int]
    """What the decoder reads first."""
    token_ids: list[int] = field(default_factory=list)
    filter: TokenFilter | None = field(init=False)
    """What its constraint allows."""
    _coming: Array | Exception | None = field(default=None, init=False)  # what may be written next, once that is known
    process: LogitsProcessor = field(init=False)
    is_plain: bool = field(init=False)
    """Whether tokens are chosen by the logits as they are."""

    num_rows = 1

    def __post_init__(self) -> None:
        constraint = self.sampling.constraint
        self.filter = None if constraint is None else constraint.start()
        self.process = LogitsProcessor(self.sampling, len(self.first_token_ids))
        self.is_plain = self.filter is None and self.process.changes_nothing

    @property
    def is_unprepared(self) -> bool:
        """Whether `prepare` has something to do."""
        return self.filter is not None and self._coming is None and not self._is_forced

    def prepare(self) -> None:
        """Find out what may be written next: on any thread, while the decoder takes the step whose logits `write` is given."""
        if self.filter is not None:
            try:
                self._coming = self.filter.allowed()
            except Exception as error:  # raised where the sequence is written, so that it fails alone
                self._coming = error

    def write(self, logits: Array) -> Written:
        """
        Args:
            logits: (1, vocabulary).

        Raises:
            EngineFailed: they are not finite.
            InvalidInput: of all tokens none is allowed.
        """
        sampling, best = self.sampling, int(logits[0].argmax())
        if not math.isfinite(logits[0, best]):  # NaN wins every maximum
            raise EngineFailed(NOT_FINITE)
        token_id = best if self.is_plain and sampling.temperature == 0 else self._chosen(logits[0])
        is_finished = self._take(token_id)
        logprobs = None if sampling.num_logprobs is None else TokenLogprobs.of(logits[0], token_id, sampling.num_logprobs)
        return Written([token_id], None, [token_id], [0], is_finished, logprobs)

    def _chosen(self, logits: Array) -> int:
        """A token by (vocabulary,)."""
        sampling, scores = self.sampling, logits if self.is_plain else self._allowed(logits)
        if sampling.temperature > 0:
            return draw(warped(scores, sampling), sampling.seed, len(self.token_ids))
        return int(scores.argmax())

    def _allowed(self, logits: Array) -> Array:
        """The scores that are chosen by, (vocabulary,)."""
        scores = logits.copy()
        self.process(np.array([*self.first_token_ids, *self.token_ids], np.int64), scores)
        if self.filter is not None and not self._is_forced:
            allowed, self._coming = self.filter.allowed() if self._coming is None else self._coming, None
            if isinstance(allowed, Exception):
                raise allowed
            scores[np.logical_not(allowed)] = -np.inf
        if scores.max() == -np.inf:
            raise InvalidInput("what is forbidden leaves no token to write")
        return scores

    @property
    def _is_forced(self) -> bool:
        return self.sampling.forced_bos_token_id is not None and len(self.first_token_ids) + len(self.token_ids) == 1

    def _take(self, token_id: int) -> bool:
        """Take note of a token."""
        sampling = self.sampling
        is_end = token_id in sampling.eos_token_ids
        if self.filter is not None and not is_end and not self._is_forced:
            self.filter.advance(token_id)
        self.token_ids.append(token_id)
        if is_end or len(self.token_ids) >= sampling.max_new_tokens:
            return True
        return sampling.ends is not None and sampling.ends(self.token_ids)
