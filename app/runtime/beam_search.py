"""Beam search for one sequence, step by step as `_beam_search` of transformers 4.57.6 does it (`generation/utils.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.core.errors import EngineFailed, InvalidInput
from app.core.sequences import SamplingParams
from app.core.types import Array, Ints
from app.runtime.sampling import NOT_FINITE, LogitsProcessor, Written, log_softmax

LOWEST = np.float32(-1e9)
"""The score of what does not count: not -inf, so that its tokens still come before those that a forced one leaves at -inf."""


class BeamSearch:
    """Writes a sequence in as many rows as it has beams. What it returns is certain with its last step only."""

    def __init__(self, sampling: SamplingParams, first_token_ids: Sequence[int]) -> None:
        self.sampling, self.num_rows = sampling, sampling.num_beams
        self._num_first = len(first_token_ids)
        self._max_length = self._num_first + sampling.max_new_tokens
        self._length = self._num_first
        self._process = LogitsProcessor(sampling, self._num_first)
        self._running = np.zeros((self.num_rows, self._max_length), np.int64)  # (beams, tokens)
        self._running[:, : self._num_first] = first_token_ids
        self._running_scores = np.full(self.num_rows, LOWEST)
        self._running_scores[0] = 0  # the beams hold the same at first: only the first one's tokens count
        self._finished, self._finished_lengths = self._running.copy(), np.full(self.num_rows, self._num_first)
        self._finished_scores = np.full(self.num_rows, LOWEST)
        self._is_finished = np.zeros(self.num_rows, bool)
        self._may_improve = True

    def write(self, logits: Array) -> Written:
        """
        Args:
            logits: (beams, vocabulary), or (1, vocabulary) in the first step.

        Raises:
            EngineFailed: they are not finite.
            InvalidInput: of all tokens none is allowed.
        """
        if not np.isfinite(logits.max(axis=1)).all():
            raise EngineFailed(NOT_FINITE)
        scores, sources, token_ids = self._best_continuations(self._scores(logits))
        candidates = self._running[sources]
        candidates[:, self._length] = token_ids
        ends = np.isin(token_ids, self.sampling.eos_token_ids) | (self._length + 1 >= self._max_length)
        going_on = scores + ends.astype(np.float32) * LOWEST
        best = _best(going_on, self.num_rows)
        self._finish(candidates, scores, ends)
        self._running = candidates[best]
        self._running_scores = going_on[best]
        self._length += 1
        self._may_improve = self._may_improve and self._can_improve()
        is_full = self.sampling.early_stopping is True and bool(self._is_finished.all())
        if not self._may_improve or is_full or ends.all():
            return Written([], None, *self._returned(), is_finished=True)
        return Written(self._running[:, self._length - 1].tolist(), sources[best].tolist(), [], [], is_finished=False)

    def _scores(self, logits: Array) -> Array:
        """Of every token after every beam: (beams, vocabulary)."""
        scores = log_softmax(logits)
        if not self._process.changes_nothing:
            for written, of_beam in zip(self._running, scores, strict=False):  # in the first step one stands for all
                self._process(written[: self._length], of_beam)
            if scores.max() == -np.inf:
                raise InvalidInput("what is forbidden leaves no token to write")
        return scores + self._running_scores[:, None]

    def _best_continuations(self, scores: Array) -> tuple[Array, Ints, Ints]:
        """More than there are beams, since some may end: their scores, best first, the beams before them, and their tokens."""
        num_kept = max(2, 1 + len(self.sampling.eos_token_ids)) * self.num_rows
        flat = scores.ravel()
        best = _best(flat, min(num_kept, flat.size))
        sources, token_ids = np.divmod(best, scores.shape[1])
        return flat[best], sources, token_ids

    def _finish(self, candidates: Ints, scores: Array, ends: np.ndarray) -> None:
        """Keep the best of the finished ones and of the candidates that end; only the best candidates may."""
        counts = ends & (np.arange(len(scores)) < self.num_rows)
        num_new = self._length + 1 - self._num_first
        scores = scores / np.float32(num_new**self.sampling.length_penalty)
        is_full = self.sampling.early_stopping is True and self._is_finished.all()
        is_closed = (np.float32(is_full) + np.float32(not self._may_improve)) * LOWEST
        scores = scores + is_closed + (~counts).astype(np.float32) * LOWEST
        merged = np.concatenate((self._finished_scores, scores))
        best = _best(merged, self.num_rows)
        self._finished = np.concatenate((self._finished, candidates))[best]
        lengths = np.full(len(scores), self._length + 1)
        self._finished_lengths = np.concatenate((self._finished_lengths, lengths))[best]
        self._finished_scores = merged[best]
        self._is_finished = np.concatenate((self._is_finished, counts))[best]

    def _can_improve(self) -> bool:
        """Whether the best running beam may become better than the worst finished one."""
        sampling = self.sampling
        looks_ahead = sampling.early_stopping == "never" and sampling.length_penalty > 0.0
        num_new = (self._max_length if looks_ahead else self._length) - self._num_first
        best = self._running_scores[0] / np.float32(num_new**sampling.length_penalty)
        worst = np.where(self._is_finished, self._finished_scores.min(), LOWEST)
        return bool((best > worst).any())

    def _returned(self) -> tuple[list[int], list[int]]:
        token_ids: list[int] = []
        index: list[int] = []
        for number in range(self.sampling.num_return_sequences):
            written = self._finished[number, self._num_first : self._finished_lengths[number]]
            token_ids += written.tolist()
            index += [number] * len(written)
        return token_ids, index


def _best(scores: Array, number: int) -> Ints:
    """Indices of the highest scores, highest first; of equal ones the first."""
    num_others = len(scores) - number
    chosen = np.argpartition(scores, num_others)[num_others:] if num_others else np.arange(number)
    return chosen[np.lexsort((chosen, -scores[chosen]))]
