"""Extractive question answering: the answer is a span of the context, found in overlapping windows of it.

In each window the probability of a span is that of its start times that of its end, among the context's tokens and the window's
first token, which stands for "no answer here". A span that two windows share counts in the one where it has most context, as in
BERT's own code for SQuAD; it is widened to whole words, and spans of the same text add up. Answers do not overlap.
What becomes of these probabilities on held-out rows was fitted: one temperature, or one line for answers and one for none.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field

from app.core.errors import HooperError, InvalidInput, TooLarge
from app.core.types import Array, RowOutput, Truncation
from app.tasks.base import Decision, Encoded, refuse_text
from app.tasks.passage import Passage, Word, mask_of, words_of
from app.tasks.platt import Ceiling, Floor, PlattScaling, Slope
from app.tasks.question_answering.word_boundaries import WordBoundaries
from app.tasks.tokenizer import Tokenizer, Tokens

Floats = NDArray[np.float64]
OUTPUT = "logits"
MERGED_SPANS = 64
"""So many of a window's best spans are added up where they read the same."""
GOLDEN_ANSWERS = 8
"""Among so many answers that do not overlap a published one is looked for: one nearly tied with it may have come first."""
SMALLEST = 1e-9
"""Probabilities are kept so far from 0 and 1 where log-odds are made of them."""
ENDLESS = np.iinfo(np.int64).max
"""Tokens of context beyond the ends of the text."""


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
    align_to_words: bool = True
    """Widen answers to whole words; else only to whole characters."""


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
class QuestionReading:
    """The windows of one item: what its rows were made from."""

    question: Tokens
    num_question_tokens: int
    """So many of them are read, in every window."""
    context: Tokens
    first_question: int
    first_context: int
    """Positions of the question's and of the context's first token in each row."""
    windows: Sequence[range]
    """The context's tokens in each row."""


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What one window says of its part of the context."""

    start: Floats
    end: Floats
    """Of each token that an answer starts or ends there: (tokens,)."""
    no_answer: float
    """That the window holds no answer."""


class QuestionAnswering:
    """Satisfies `Task`. Reads an output `logits` of axis `token`: (tokens, 2), for start and end."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        temperature: Annotated[float, Field(ge=1e-6)] = 1.0,
        score_slope: Slope = 1.0,
        score_intercept: float = 0.0,
        score_floor: Floor = 0.0,
        score_ceiling: Ceiling = 1.0,
        no_answer_slope: Slope = 1.0,
        no_answer_intercept: float = 0.0,
    ) -> None:
        """
        Args:
            tokenizer: its `max_tokens` is the length of a window, the question included.
            temperature: divides the logits; fitted on held-out data by earlier releases.
            score_slope, score_intercept, score_floor, score_ceiling: of the curve that makes the best answer's probability that
                of an exact match.
            no_answer_slope, no_answer_intercept: of the line that makes the first token's probability that of no answer, where
                every second question has none.
        """
        self._pieces = tokenizer.pieces()
        self._max_tokens = tokenizer.max_tokens
        self._template = self._pieces.pair
        self.temperature = temperature
        self._score_scaling = PlattScaling(score_slope, score_intercept, score_floor, score_ceiling)
        self._no_answer_scaling = PlattScaling(no_answer_slope, no_answer_intercept)
        self._mask_id = mask_of(tokenizer) or 0
        WordBoundaries("")  # its patterns take a while to be made: now, and not in the first request

    @property
    def max_question_tokens(self) -> int:
        """So much of a question is read where nothing else is asked for."""
        return self._lengths(AnswerOptions())[1]

    def encode(self, items: Sequence[QuestionItem], options: AnswerOptions) -> list[Encoded | HooperError]:
        """One row per window of the context, the question in each."""
        errors = [refuse_text(item.question, "question") or refuse_text(item.context, "context") for item in items]
        good = [item for item, error in zip(items, errors, strict=True) if error is None]
        texts = [text for item in good for text in (item.question, item.context)]
        encodings = iter(self._pieces.encode(texts) if texts else [])
        pairs = zip(good, encodings, encodings, strict=False)
        return [error or self._encoded(*next(pairs), options) for error in errors]

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: AnswerOptions) -> Answers:
        """The best spans of all windows."""
        reading: QuestionReading = encoded.state
        windows = self._probabilities(reading, outputs)
        boundaries = WordBoundaries(reading.context.text, options.align_to_words)
        best: dict[str, Answer] = {}
        for number in range(len(windows)):
            for key, answer in _read_window(reading, number, windows, boundaries, options).items():
                if key not in best or answer.score > best[key].score:
                    best[key] = answer
        no_answer = float(self._no_answer_scaling(min(window.no_answer for window in windows)))
        ranked = sorted(best.values(), key=lambda entry: (-entry.score, entry.start))
        answers = list(_without_overlaps(ranked, options.top_k))
        if answers:  # the others keep their odds to the best: a curve of the best would lift them all to its floor
            factor = float(self._score_scaling(answers[0].score)) / answers[0].score
            answers = [replace(answer, score=answer.score * factor) for answer in answers]
        if options.allow_no_answer:
            answers = sorted([*answers, Answer("", no_answer, 0, 0)], key=lambda answer: -answer.score)[: options.top_k]
        return Answers(answers, no_answer)

    def decision(self, answer: Answers, options: AnswerOptions) -> Decision | None:
        """The best answer's score; None where "no answer" may be the best, whose score says something else."""
        return None if options.allow_no_answer or not answer.answers else Decision("", answer.answers[0].score)

    def same_decision(self, answer: Answers, other: Answers, options: AnswerOptions) -> bool:
        """Whether the best answers have the same words, wherever they stand."""
        return [entry.answer for entry in answer.answers[:1]] == [entry.answer for entry in other.answers[:1]]

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """An answer is the same where it shares characters with the published one, or reads like it, and scores alike: where a
        word ends is a rule that may change from release to release. Nearly tied answers may change places."""
        published = [Answer(**entry) for entry in expected["answers"]]
        # all scores as they are before they are scaled, which may pull near ones apart
        told = self._unscaled(Answers(published, expected["no_answer_score"]))
        current = self._unscaled(self.decode(encoded, outputs, AnswerOptions(top_k=GOLDEN_ANSWERS)))
        if not abs(current.no_answer_score - told.no_answer_score) <= tolerance:
            return f"no_answer_score is {current.no_answer_score:.4f}, was {told.no_answer_score:.4f}"
        best = current.answers[0].score if current.answers else 0.0
        for number, was in enumerate(told.answers):
            matches = [answer for answer in current.answers if _is_same(answer, was) and _scores_alike(answer, was, tolerance)]
            if not matches:
                return f"{was.answer!r} scored {was.score:.4f}; now the answers are {_quoted(current.answers[:3])}"
            if number == 0 and not best <= max(entry.score for entry in matches) + tolerance:
                return f"{was.answer!r} was the best answer; now that is {_quoted(current.answers[:1])}"
        if not published and best > tolerance:
            return f"there was no answer; now there is {_quoted(current.answers[:1])}"
        return ""

    def _unscaled(self, answers: Answers) -> Answers:
        """The same with scores as they were before they were scaled."""
        no_answer = float(self._no_answer_scaling.inverse(answers.no_answer_score))
        if not answers.answers or not answers.answers[0].score:
            return Answers(answers.answers, no_answer)
        factor = float(self._score_scaling.inverse(answers.answers[0].score)) / answers.answers[0].score
        return Answers([replace(answer, score=answer.score * factor) for answer in answers.answers], no_answer)

    def _lengths(self, options: AnswerOptions) -> tuple[int, int]:
        """Tokens of a window, and of the longest question: at most half of it, the rest is the context's."""
        window = min(self._max_tokens, options.max_window_tokens or self._max_tokens)
        half = (window - self._template.num_special_tokens) // 2
        return window, min(half, options.max_question_tokens or half)

    def passage(self, item: QuestionItem, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """What speaks for an answer, in the window where it is likeliest. Words are masked, not left out: an answer would
        otherwise win because the words it competes with are gone.

        Raises:
            InvalidInput: the target stands nowhere in what was read of the context, or nothing there can be an answer.
        """
        if target is None:
            answers = self.decode(encoded, outputs, AnswerOptions()).answers
            target = answers[0].answer if answers else ""
        reading: QuestionReading = encoded.state
        spans = self._spans_saying(target, reading, outputs)
        if not spans:
            raise InvalidInput("must be words of the context, as `answer` gives them, in the part that is read", "target")
        readers = {number: self._log_odds(reading, number, window_spans) for number, window_spans in spans.items()}
        best = max(readers, key=lambda number: readers[number](outputs[number]))
        return Passage(encoded.rows[best], _words_read(reading, best), target, readers[best], self._mask_id)

    def _spans_saying(
        self, target: str, reading: QuestionReading, outputs: Sequence[RowOutput]
    ) -> dict[int, list[tuple[int, int]]]:
        """By window, first and last token of the spans that `decode` adds up as this answer; where there are none, of those
        that are it verbatim."""
        windows = self._probabilities(reading, outputs)
        options = AnswerOptions()
        boundaries = WordBoundaries(reading.context.text, options.align_to_words)
        spans_by_window: dict[int, list[tuple[int, int]]] = {}
        for number, window in enumerate(reading.windows):
            scores = span_scores(reading.windows, number, windows, options.max_answer_tokens)
            for first, last in _best(scores, MERGED_SPANS):
                start, end = boundaries.widened(_characters(reading, window, first, last))
                if reading.context.text[start:end].lower() == target.lower() != "":
                    spans_by_window.setdefault(number, []).append((first, last))
        verbatim = {number: _verbatim(target, reading, window) for number, window in enumerate(reading.windows)}
        return spans_by_window or {number: spans for number, spans in verbatim.items() if spans}

    def _log_odds(
        self, reading: QuestionReading, number: int, spans: Sequence[tuple[int, int]]
    ) -> Callable[[RowOutput], float]:
        """A function from a window's output to the log-odds of these spans together."""
        first, last = np.array(spans).T

        def log_odds(output: RowOutput) -> float:
            window = self._read(reading, number, output)
            probability = float(np.clip((window.start[first] * window.end[last]).sum(), SMALLEST, 1 - SMALLEST))
            return math.log(probability / (1 - probability))

        return log_odds

    def _probabilities(self, reading: QuestionReading, outputs: Sequence[RowOutput]) -> list[Probabilities]:
        """Of each window."""
        return [self._read(reading, number, output) for number, output in enumerate(outputs)]

    def _read(self, reading: QuestionReading, number: int, output: RowOutput) -> Probabilities:
        return probabilities(output[OUTPUT], reading.first_context, len(reading.windows[number]), self.temperature)

    def _encoded(self, item: QuestionItem, question: Tokens, context: Tokens, options: AnswerOptions) -> Encoded | HooperError:
        length, longest_question = self._lengths(options)
        cut_question = len(question) > longest_question
        if cut_question and options.truncation == "error":
            return TooLarge(f"the question has {len(question)} tokens, at most {longest_question} are read", ("truncate",))
        question_ids = question.ids[:longest_question]
        room = max(1, length - self._template.num_special_tokens - len(question_ids))
        windows = windows_of(len(context), room, min(options.stride, room // 2))
        if len(windows) > 1 and options.truncation == "error":
            return TooLarge(
                f"question and context have more than {length} tokens, the longest this model reads at once",
                ("window", "truncate"),
                "them",
            )
        cut_context = len(windows) > 1 and options.truncation == "truncate"
        if cut_context:  # what is cut off is the end that the model's tokenizer cuts off
            windows = [range(len(context) - room, len(context))] if self._pieces.side == "left" else windows[:1]
        rows = [self._template.row(question_ids, context.ids[part.start : part.stop]) for part in windows]
        num_tokens = sum(row.num_tokens for row in rows)
        first_question, first_context = self._template.start(), self._template.start(question_ids)
        reading = QuestionReading(question, len(question_ids), context, first_question, first_context, windows)
        return Encoded(rows, num_tokens, cut_question or cut_context, reading)


def windows_of(num_tokens: int, length: int, stride: int) -> list[range]:
    """Parts of so many tokens at most, each of which shares `stride` tokens with the next; of no tokens one empty part."""
    windows = [range(min(length, num_tokens))]
    while windows[-1].stop < num_tokens:
        start = windows[-1].stop - stride
        windows.append(range(start, min(start + length, num_tokens)))
    return windows


def probabilities(logits: Array, first: int, num_tokens: int, temperature: float) -> Probabilities:
    """Softmaxes over the context's tokens and the window's first token.

    Args:
        logits: (tokens, 2).
        first: position of the context's first token.
        temperature: divides the logits.
    """
    allowed = np.concatenate((logits[:1], logits[first : first + num_tokens])).astype(np.float64)  # (1 + tokens, 2)
    exponentials = np.exp((allowed - allowed.max(axis=0)) / temperature)
    start, end = (exponentials / exponentials.sum(axis=0)).T
    return Probabilities(start[1:], end[1:], float(start[0] * end[0]))


def span_scores(windows: Sequence[range], number: int, probs: Sequence[Probabilities], longest: int) -> Floats:
    """Probability of each span of at most `longest` tokens, 0 for what is none and where another window counts: (tokens,
    tokens more than one)."""
    window = windows[number]
    start, end = probs[number].start, probs[number].end
    if not len(window):
        return np.zeros((0, 1))
    padded = np.concatenate((end, np.zeros(min(longest, len(window)) - 1)))
    scores: Floats = start[:, None] * sliding_window_view(padded, min(longest, len(window)))
    for other, loses in ((number - 1, np.less_equal), (number + 1, np.less)):  # of equals the earlier window counts
        if not 0 <= other < len(windows):
            continue
        first, stop = max(window.start, windows[other].start), min(window.stop, windows[other].stop)
        if first >= stop:
            continue
        starts = np.arange(first, stop)[:, None]
        ends = starts + np.arange(scores.shape[1])  # (shared tokens, tokens more than one)
        here, there = (_context(part, starts, ends, windows[-1].stop) for part in (window, windows[other]))
        shared = scores[first - window.start : stop - window.start]
        shared[(ends < stop) & loses(here, there)] = 0
        if other > number and stop - first <= scores.shape[1] and _goes_on(probs[other].end, stop - first, longest):
            shared[0, stop - first - 1] = 0
    return scores


def _context(window: range, starts: NDArray[np.int64], ends: NDArray[np.int64], num_tokens: int) -> NDArray[np.int64]:
    """How much context spans have in a window: the smaller of the tokens before and behind, of which there are more than
    enough where the text itself begins or ends. Of spans outside the window nothing is said."""
    before = starts - window.start if window.start > 0 else ENDLESS
    behind = window.stop - 1 - ends if window.stop < num_tokens else ENDLESS
    return np.minimum(before, behind)


def _goes_on(end: Floats, num_shared: int, longest: int) -> bool:
    """Whether a window says that what fills all it shares with the one before goes on behind that one's border. Such a span has
    no context in either of them, and only the later one can see that it is but the beginning of an answer."""
    return bool(end[num_shared:longest].max(initial=0.0) > end[num_shared - 1])


def _read_window(
    reading: QuestionReading,
    number: int,
    probs: Sequence[Probabilities],
    boundaries: WordBoundaries,
    options: AnswerOptions,
) -> dict[str, Answer]:
    """The window's answers by what they read, in lower case; the scores of its best spans that read the same are added."""
    window, text = reading.windows[number], reading.context.text
    scores = span_scores(reading.windows, number, probs, options.max_answer_tokens)
    answers: dict[str, Answer] = {}
    for first, last in _best(scores, MERGED_SPANS):
        start, end = boundaries.widened(_characters(reading, window, first, last))
        answer, score = text[start:end], float(scores[first, last - first])
        key = answer.lower()
        earlier = answers.get(key)
        if earlier is not None:
            answers[key] = replace(earlier, score=min(1.0, earlier.score + score))
        elif answer:
            answers[key] = Answer(answer, score, start, end)
    for first, last in _apart(scores, options.top_k) if options.top_k > 1 else ():
        start, end = boundaries.widened(_characters(reading, window, first, last))
        answer = text[start:end]
        if answer:
            answers.setdefault(answer.lower(), Answer(answer, float(scores[first, last - first]), start, end))
    return answers


def _verbatim(target: str, reading: QuestionReading, window: range) -> list[tuple[int, int]]:
    """First and last token in a window of the spans that are this text."""
    if not target.strip() or not len(window):
        return []
    spans = reading.context.spans[window.start : window.stop]
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    matches = []
    for match in re.finditer(re.escape(target), reading.context.text[: max(ends)]):
        first, last = bisect_right(ends, match.start()), bisect_left(starts, match.end()) - 1
        if match.start() >= starts[0] and first <= last:
            matches.append((first, last))
    return matches


def _best(scores: Floats, count: int) -> Iterator[tuple[int, int]]:
    """First and last token of the likeliest spans, best first; of equal ones the first in the text."""
    flat = scores.ravel()
    top = np.sort(np.argpartition(-flat, count)[:count]) if count < flat.size else np.arange(flat.size)
    for index in top[np.argsort(-flat[top], kind="stable")]:
        if flat[index] <= 0:
            return
        first, more = divmod(int(index), scores.shape[1])
        yield first, first + more


def _apart(scores: Floats, count: int) -> Iterator[tuple[int, int]]:
    """The likeliest span, then the likeliest that shares no token with it, and so on."""
    left = scores.copy()
    longest = left.shape[1]
    for _ in range(count if left.size else 0):
        first, more = divmod(int(left.argmax()), longest)
        if left[first, more] <= 0:
            return
        yield first, first + more
        begin = max(0, first - longest + 1)
        reaches = np.arange(begin, first)[:, None] + np.arange(longest) >= first  # those that start before and end within
        left[begin:first][reaches] = 0
        left[first : first + more + 1] = 0


def _characters(reading: QuestionReading, window: range, first: int, last: int) -> tuple[int, int]:
    """Character span of a window's tokens."""
    spans = reading.context.spans
    return spans[window.start + first][0], spans[window.start + last][1]


def _words_read(reading: QuestionReading, number: int) -> list[Word]:
    """The words of the question and of a window of the context, with their tokens in its row."""
    window = reading.windows[number]
    question = list(enumerate(reading.question.offsets[: reading.num_question_tokens], reading.first_question))
    context = list(enumerate(reading.context.offsets[window.start : window.stop], reading.first_context))
    return [*words_of("question", reading.question.text, question), *words_of("context", reading.context.text, context)]


def _is_same(answer: Answer, was: Answer) -> bool:
    """Whether it stands at the same place, or says the same: of what stands twice in a context, the likelier place is told."""
    return (answer.start < was.end and was.start < answer.end) or answer.answer.lower() == was.answer.lower()


def _scores_alike(answer: Answer, was: Answer, tolerance: float) -> bool:
    """Within the tolerance; one that is wider than it was may have more: the scores of more spans were added up."""
    is_wider = answer.start <= was.start and was.end <= answer.end and answer.answer != was.answer
    return was.score - tolerance <= answer.score and (is_wider or answer.score <= was.score + tolerance)


def _quoted(answers: Sequence[Answer]) -> str:
    return ", ".join(f"{answer.answer!r} ({answer.score:.4f})" for answer in answers) or "none"


def _without_overlaps(ranked: Sequence[Answer], count: int) -> Iterator[Answer]:
    selected: list[Answer] = []
    for answer in ranked:
        if len(selected) == count:
            return
        if all(answer.end <= entry.start or answer.start >= entry.end for entry in selected):
            selected.append(answer)
            yield answer
