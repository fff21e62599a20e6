"""Extractive question answering: the answer is a span of the context, found in overlapping windows of it.

Spans are read as the `question-answering` pipeline of transformers 4 read them: in each window the probability of a span is
that of its start times that of its end, among the context's tokens and the window's first token, which stands for "no answer
here"; a span is widened to whole words, and spans of the same text add up. Unlike there, a span that two windows share counts
once, answers do not overlap, and all probabilities are calibrated by one temperature.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.core.errors import HooperError, InvalidInput, TooLarge
from app.core.types import Array, Row, RowOutput, Truncation
from app.tasks.base import Decision, Encoded, refuse_text
from app.tasks.passage import Passage, mask_of, words_of_window
from app.tasks.tokenizer import Encoding, Tokenizer, Window
from app.tasks.words import continues

OUTPUT = "logits"
MERGED_SPANS = 64
"""So many of a window's best spans are added up where they read the same."""
GOLDEN_ANSWERS = 8
"""Among so many answers that do not overlap a published one is looked for: one nearly tied with it may have come first."""
SMALLEST = 1e-9
"""Probabilities are kept so far from 0 and 1 where log-odds are made of them."""


@dataclass(frozen=True, slots=True)
class QuestionItem:
    question: str
    context: str

    def __len__(self) -> int:
        """Characters: what tokenizing costs."""
        return len(self.question) + len(self.context)


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    top_k: int = 1
    max_answer_tokens: int = 30
    allow_no_answer: bool = False
    stride: int = 128
    """Tokens that two neighbouring windows share; at most half of what fits in one."""
    truncation: Truncation = "window"
    max_window_tokens: int | None = None
    """Shorter windows than the model reads at once, the question included; None: as long as it reads."""
    max_question_tokens: int | None = None
    """So much of the question is read, and never more than half of a window; None: that half."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`context[start:end] == answer`; the empty answer from 0 to 0 says that there is none."""

    answer: str
    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that do not overlap, best first."""

    answers: Sequence[Answer]
    no_answer_score: float
    """Probability that the context does not answer the question."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The windows of one item: what its rows were made from."""

    context: str
    windows: Sequence[Window]


class QuestionAnswering:
    """Satisfies `Task`. Reads an output `logits` of axis `token`: (tokens, 2), for start and end."""

    def __init__(self, tokenizer: Tokenizer, temperature: Annotated[float, Field(ge=1e-6)] = 1.0) -> None:
        """
        Args:
            tokenizer: its `max_tokens` is the length of a window, the question included.
            temperature: divides the logits; fitted on held-out data.
        """
        self._pieces = tokenizer.pieces()
        self._max_tokens = tokenizer.max_tokens
        self._num_special = self._pieces.num_special_tokens(pair=True)
        self._temperature = temperature
        self._mask_id = mask_of(tokenizer) or 0

    @property
    def max_question_tokens(self) -> int:
        """So much of a question is read where nothing else is asked for."""
        return self._lengths(AnswerOptions())[1]

    def encode(self, items: Sequence[QuestionItem], options: AnswerOptions) -> list[Encoded | HooperError]:
        """One row per window of the context, the question in each."""
        errors = [refuse_text(one.question, "question") or refuse_text(one.context, "context") for one in items]
        good = [item for item, error in zip(items, errors, strict=True) if error is None]
        texts = [text for item in good for text in (item.question, item.context)]
        encodings = iter(self._pieces.encode(texts) if texts else [])
        pairs = zip(good, encodings, encodings, strict=False)
        return [error or self._encoded(*next(pairs), options) for error in errors]

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: AnswerOptions) -> Answers:
        """The best spans of all windows."""
        reading: Reading = encoded.state
        best: dict[str, Answer] = {}
        no_answer = 1.0
        for window, output in zip(reading.windows, outputs, strict=True):
            start, end, null = span_probabilities(output[OUTPUT], context_mask(window), self._temperature)
            no_answer = min(no_answer, null)
            for key, answer in _read_window(window, reading.context, start, end, options).items():
                if key not in best or answer.score > best[key].score:
                    best[key] = answer
        ranked = sorted(best.values(), key=lambda one: (-one.score, one.start))
        if options.allow_no_answer:
            ranked = sorted([*ranked, Answer("", no_answer, 0, 0)], key=lambda one: -one.score)
        return Answers(list(_without_overlaps(ranked, options.top_k)), no_answer)

    def decision(self, answer: Answers, options: AnswerOptions) -> Decision | None:
        """The best answer's score; None where "no answer" may be the best, whose score says something else."""
        return None if options.allow_no_answer or not answer.answers else Decision("", answer.answers[0].score)

    def same_decision(self, one: Answers, other: Answers, options: AnswerOptions) -> bool:
        """Whether the best answers have the same words, wherever they stand."""
        return [found.answer for found in one.answers[:1]] == [found.answer for found in other.answers[:1]]

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """An answer is the same where it shares characters with the published one, or reads like it, and scores alike: where a
        word ends is a rule that may change from release to release. Nearly tied answers may change places."""
        found = self.decode(encoded, outputs, AnswerOptions(top_k=GOLDEN_ANSWERS))
        no_answer = expected["no_answer_score"]
        if not abs(found.no_answer_score - no_answer) <= tolerance:
            return f"no_answer_score is {found.no_answer_score:.4f}, was {no_answer:.4f}"
        best = found.answers[0].score if found.answers else 0.0
        published: list[Answer] = [Answer(**one) for one in expected["answers"]]
        for number, was in enumerate(published):
            same = [one for one in found.answers if _is_same(one, was) and _scores_alike(one, was, tolerance)]
            if not same:
                return f"{was.answer!r} scored {was.score:.4f}; now the answers are {_shown(found.answers[:3])}"
            if number == 0 and not best <= max(one.score for one in same) + tolerance:
                return f"{was.answer!r} was the best answer; now that is {_shown(found.answers[:1])}"
        if not published and best > tolerance:
            return f"there was no answer; now there is {_shown(found.answers[:1])}"
        return ""

    def _lengths(self, options: AnswerOptions) -> tuple[int, int]:
        """Tokens of a window, and of the longest question: at most half of it, the rest is the context's."""
        window = min(self._max_tokens, options.max_window_tokens or self._max_tokens)
        half = (window - self._num_special) // 2
        return window, min(half, options.max_question_tokens or half)

    def passage(self, item: QuestionItem, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """What speaks for an answer, in the window where it is likeliest. Words are masked, not left out: an answer would
        otherwise win because the words it competes with are gone.

        Raises:
            InvalidInput: the target stands nowhere in what was read of the context, or nothing there can be an answer.
        """
        if target is None:
            found = self.decode(encoded, outputs, AnswerOptions()).answers
            target = found[0].answer if found else ""
        windows: Sequence[Window] = encoded.state.windows
        readings = [
            (read(output), window, row, read)
            for window, row, output in zip(windows, encoded.rows, outputs, strict=True)
            if (read := self._log_odds(window, item.context, target, output)) is not None
        ]
        if not readings:
            raise InvalidInput("must be words of the context, as `answer` gives them, in the part that is read", "target")
        _, window, row, best = max(readings, key=lambda one: one[0])
        fields = {"question": item.question, "context": item.context}
        return Passage(row, words_of_window(fields, window.sequence_ids, window.offsets), target, best, self._mask_id)

    def _log_odds(self, window: Window, context: str, target: str, output: RowOutput) -> Callable[[RowOutput], float] | None:
        """Reads the log-odds of all spans of a window that say the target; None where there is none."""
        mask = context_mask(window)
        start, end, _ = span_probabilities(output[OUTPUT], mask, self._temperature)
        spans = _spans_saying(target, window, context, _span_scores(start, end, AnswerOptions().max_answer_tokens))
        if not spans:
            return None
        first, last = np.array(spans).T

        def read(output: RowOutput) -> float:
            start, end, _ = span_probabilities(output[OUTPUT], mask, self._temperature)
            probability = float(np.clip((start[first] * end[last]).sum(), SMALLEST, 1 - SMALLEST))
            return math.log(probability / (1 - probability))

        return read

    def _encoded(
        self, item: QuestionItem, question: Encoding, context: Encoding, options: AnswerOptions
    ) -> Encoded | HooperError:
        length, longest_question = self._lengths(options)
        cut_question = len(question) > longest_question
        if cut_question and options.truncation == "error":
            return TooLarge(f"the question has {len(question)} tokens, at most {longest_question} are read")
        question = self._pieces.cut(question, longest_question)
        room = length - self._num_special - len(question)
        # what is cut off is the end that the model's tokenizer cuts off; windows begin at the beginning
        side = self._pieces.side if options.truncation == "truncate" else "right"
        context.truncate(room, stride=min(options.stride, room // 2), direction=side)
        parts = [context, *context.overflowing]
        if len(parts) > 1 and options.truncation == "error":
            return TooLarge(
                f"question and context have more than {length} tokens, the longest this model reads at once;"
                ' send them with "truncation": "window" or "truncate"'
            )
        cut_context = len(parts) > 1 and options.truncation == "truncate"
        windows = [self._pieces.joined(question, part) for part in (parts[:1] if cut_context else parts)]
        rows = [Row(window.input_ids, window.token_type_ids) for window in windows]
        num_tokens = sum(row.num_tokens for row in rows)
        return Encoded(rows, num_tokens, cut_question or cut_context, Reading(item.context, windows))


def _is_same(one: Answer, was: Answer) -> bool:
    """Whether it stands at the same place, or says the same: of what stands twice in a context, the likelier place is told."""
    return (one.start < was.end and was.start < one.end) or one.answer.lower() == was.answer.lower()


def _scores_alike(one: Answer, was: Answer, tolerance: float) -> bool:
    """Within the tolerance; one that is wider than it was may have more: the scores of more spans were added up."""
    is_wider = one.start <= was.start and was.end <= one.end and one.answer != was.answer
    return was.score - tolerance <= one.score and (is_wider or one.score <= was.score + tolerance)


def _shown(answers: Sequence[Answer]) -> str:
    return ", ".join(f"{one.answer!r} ({one.score:.4f})" for one in answers) or "none"


def context_mask(window: Window) -> NDArray[np.bool_]:
    """Which tokens of a window are the context's: (tokens,)."""
    return np.fromiter((one == 1 for one in window.sequence_ids), bool, len(window.input_ids))


def span_probabilities(logits: Array, mask: NDArray[np.bool_], temperature: float) -> tuple[Array, Array, float]:
    """Probabilities of start and end per token, 0 outside the context, and of "no answer in this window".

    Args:
        logits: (tokens, 2).
        mask: (tokens,), true for the context's tokens.
        temperature: divides the logits.
    """
    allowed = mask.copy()
    allowed[0] = True
    scaled = np.where(allowed[:, None], logits.astype(np.float64) / temperature, -np.inf)  # (tokens, 2)
    exponentials = np.exp(scaled - scaled.max(axis=0))
    start, end = (exponentials / exponentials.sum(axis=0)).T
    null = float(start[0] * end[0])
    return np.where(mask, start, 0.0), np.where(mask, end, 0.0), null


def _read_window(window: Window, context: str, start: Array, end: Array, options: AnswerOptions) -> dict[str, Answer]:
    """The window's answers by what they read, in lower case; the scores of its best spans that read the same are added."""
    scores = _span_scores(start, end, options.max_answer_tokens)
    word_ids, offsets = window.encoding.word_ids, window.offsets
    found: dict[str, Answer] = {}
    for first, last in _best(scores, MERGED_SPANS):
        begin, finish = _characters(first, last, word_ids, offsets, context)
        text, score = context[begin:finish], float(scores[first, last])
        known = found.get(text.lower())
        if known is not None:
            found[text.lower()] = replace(known, score=min(1.0, known.score + score))
        elif text:
            found[text.lower()] = Answer(text, score, begin, finish)
    for first, last in _apart(scores, options.top_k) if options.top_k > 1 else ():
        begin, finish = _characters(first, last, word_ids, offsets, context)
        text = context[begin:finish]
        if text:
            found.setdefault(text.lower(), Answer(text, float(scores[first, last]), begin, finish))
    return found


def _spans_saying(target: str, window: Window, context: str, scores: Array) -> list[tuple[int, int]]:
    """First and last token of the spans that `_read_window` adds up as this answer, else of those that are it verbatim."""
    word_ids, offsets = window.encoding.word_ids, window.offsets
    found = [
        (first, last)
        for first, last in _best(scores, MERGED_SPANS)
        if context[slice(*_characters(first, last, word_ids, offsets, context))].lower() == target.lower()
    ]
    if found or not target.strip():
        return found
    places = [place for place, is_context in enumerate(context_mask(window)) if is_context]
    starts, ends = [offsets[place][0] for place in places], [offsets[place][1] for place in places]
    for match in re.finditer(re.escape(target), context[: max(ends, default=0)]):
        first, last = bisect_right(ends, match.start()), bisect_left(starts, match.end()) - 1
        if places and match.start() >= starts[0] and first <= last:
            found.append((places[first], places[last]))
    return found


def _span_scores(start: Array, end: Array, longest: int) -> Array:
    """Probability of each span of at most `longest` tokens, 0 for what is none: (first tokens, last tokens)."""
    scores: Array = np.tril(np.triu(np.outer(start, end)), longest - 1)
    return scores


def _best(scores: Array, count: int) -> Iterator[tuple[int, int]]:
    """First and last token of the likeliest spans, best first; of equal ones the first in the text."""
    flat = scores.ravel()
    kept = np.sort(np.argpartition(-flat, count)[:count]) if count < flat.size else np.arange(flat.size)
    for index in kept[np.argsort(-flat[kept], kind="stable")]:
        if flat[index] <= 0:
            return
        first, last = divmod(int(index), scores.shape[1])
        yield first, last


def _apart(scores: Array, count: int) -> Iterator[tuple[int, int]]:
    """The likeliest span, then the likeliest that shares no token with it, and so on."""
    left = scores.copy()
    for _ in range(count):
        first, last = divmod(int(left.argmax()), left.shape[1])
        if left[first, last] <= 0:
            return
        yield first, last
        left[: last + 1, first:] = 0


def _characters(
    first: int, last: int, word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]], context: str
) -> tuple[int, int]:
    """Character span of tokens, widened to whole words and whole characters as a reader sees them."""
    words = word_ids[first], word_ids[last]
    while words[0] is not None and first > 0 and word_ids[first - 1] == words[0]:
        first -= 1
    while words[1] is not None and last + 1 < len(word_ids) and word_ids[last + 1] == words[1]:
        last += 1
    begin, finish = offsets[first][0], offsets[last][1]
    while begin < finish and context[begin].isspace():
        begin += 1
    while finish > begin and context[finish - 1].isspace():
        finish -= 1
    while begin < finish < len(context) and continues(context[finish - 1], context[finish]):
        finish += 1
    return begin, finish


def _without_overlaps(ranked: Sequence[Answer], count: int) -> Iterator[Answer]:
    taken: list[Answer] = []
    for answer in ranked:
        if len(taken) == count:
            return
        if all(answer.end <= one.start or answer.start >= one.end for one in taken if one.answer) or not answer.answer:
            taken.append(answer)
            yield answer
