"""Extractive summarization: the sentences that say most, verbatim and in the document's order.

Several sentences share a row, each behind a first token of its own, so that each is scored in the context of the others, as in
Liu and Lapata, "Text Summarization with Pretrained Encoders" (2019); but by the mean over all of its tokens, which a small
model learns from few documents, and not by that first token alone. A longer document is read in windows of whole sentences;
token types tell the first window, with the document's opening, from later ones. Sentences that repeat a chosen one are passed
over by trigram blocking, as there.

A sentence's score is the share of its words that a summary is expected to say. How many sentences to keep follows from that:
those that make the expected F1 of the words largest for a summary of the usual length (`select`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from app.core.errors import HooperError, InvalidInput, TooLarge
from app.core.types import Array, Row, RowOutput, Truncation
from app.tasks.base import Decision, Encoded, TextItem, refuse_text
from app.tasks.passage import Passage, mask_of, words_of
from app.tasks.sentences import LANGUAGE, LANGUAGE_CODE, Span, sentences
from app.tasks.tokenizer import Tokenizer, Tokens

OUTPUT = "logits"
MAX_SENTENCE_TOKENS = 128
"""Of a longer sentence only the beginning is read."""
SHARED_SENTENCES = 2
"""Sentences that two neighbouring windows share; their scores are averaged."""
USUAL_WORDS = 50.0
"""Words of a usual summary where a model does not say."""
USUAL_SENTENCES = 3
"""`max_sentences` of a caller who wants a summary of the usual length; other wishes change the length in proportion."""
NOVELTY = 0.7
"""Share of what a further sentence says of the summary that no sentence chosen before has said."""
SHOWN = 60
"""Characters of a sentence that an error repeats."""
LATER = -1.0
"""Added to the logits of windows after the first: documents are summed up by their beginnings, and training sees few others."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class SummaryItem(TextItem):
    language: str | None = None
    """Its code, as `de`; None: as the options say."""


@dataclass(frozen=True, slots=True)
class SummaryOptions:
    max_sentences: int = USUAL_SENTENCES
    min_sentences: int = 1
    """At most `max_sentences`; fewer are kept only where the document has fewer that do not repeat each other."""
    truncation: Truncation = "window"
    language: str | None = None
    """Of the documents, as a code: it decides where sentences end. None: the model's own."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """`document[start:end] == text`; the score is between 0 and 1."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The chosen sentences in the document's order, and all of them as one text."""

    summary: str
    sentences: Sequence[Sentence]


@dataclass(frozen=True, slots=True)
class DocumentReading:
    """The sentences of one item, and which of them each of its rows holds."""

    text: str
    spans: Sequence[Span]
    windows: Sequence[range]
    encodings: Sequence[Tokens]


class ExtractiveSummarization:
    """Satisfies `Task`. Reads an output `logits` of axis `token`: (tokens, 1)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        usual_words: Annotated[float, Field(gt=0)] = USUAL_WORDS,
        language: Annotated[str, Field(pattern=LANGUAGE_CODE)] = LANGUAGE,
    ) -> None:
        """
        Args:
            tokenizer: its `max_tokens` is the length of a window.
            usual_words: words of the summaries that the model was trained on.
        """
        self.usual_words, self._language = usual_words, language
        self._mask_id = mask_of(tokenizer)
        self._pieces = tokenizer.pieces()
        self._template = self._pieces.single
        self._max_tokens = tokenizer.max_tokens
        self._max_sentence = min(MAX_SENTENCE_TOKENS, self._max_tokens - self._template.num_special_tokens)

    def encode(self, items: Sequence[SummaryItem], options: SummaryOptions) -> list[Encoded | HooperError]:
        """One row per window of whole sentences."""
        return [refuse_text(item.text, "text") or self._encoded(item, options) for item in items]

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: SummaryOptions) -> Summary:
        """The sentences that together are expected to say most, none of which repeats another."""
        reading: DocumentReading = encoded.state
        scores = sentence_scores(encoded, outputs)
        texts = [reading.text[start:end] for start, end in reading.spans]
        indexes = select(texts, scores, options, self.usual_words)
        summary_sentences = [Sentence(texts[i], *reading.spans[i], float(scores[i])) for i in indexes]
        return Summary(" ".join(sentence.text for sentence in summary_sentences), summary_sentences)

    def decision(self, answer: Summary, options: SummaryOptions) -> Decision | None:
        """The score of the summary's best sentence."""
        return Decision("", max(sentence.score for sentence in answer.sentences)) if answer.sentences else None

    def same_decision(self, answer: Summary, other: Summary, options: SummaryOptions) -> bool:
        """Whether the same sentences were chosen."""
        return [sentence.start for sentence in answer.sentences] == [sentence.start for sentence in other.sentences]

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """Each published sentence must score alike, and together they must still be a summary that may be chosen: the set that
        is chosen now, or that would be if scores lay within the tolerance in its favour."""
        reading: DocumentReading = encoded.state
        scores = sentence_scores(encoded, outputs)
        texts = [reading.text[start:end] for start, end in reading.spans]
        published = set()
        for was in expected["sentences"]:
            shared = [min(end, was["end"]) - max(start, was["start"]) for start, end in reading.spans]
            index = int(np.argmax(shared))
            if shared[index] <= 0 or not abs(scores[index] - was["score"]) <= tolerance:
                return f"the sentence {was['text'][:SHOWN]!r} scores {scores[index]:.4f}, was {was['score']:.4f}"
            published.add(index)
        indexes = select(texts, scores, SummaryOptions(), self.usual_words)
        in_favour = scores + np.where([i in published for i in range(len(scores))], tolerance, -tolerance)
        favoured = select(texts, np.clip(in_favour, 0.0, 1.0), SummaryOptions(), self.usual_words)
        if published not in (set(indexes), set(favoured)):
            return f"sentences {indexes} are chosen, were {sorted(published)}, counted from 0"
        return ""

    def passage(self, item: SummaryItem, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """What speaks for a sentence, in the window where it scores highest. Words are masked, not left out: each sentence
        keeps its place in the row.

        Raises:
            InvalidInput: the target is no sentence of what was read.
        """
        reading: DocumentReading = encoded.state
        sentence = _sentence_saying(target, reading, sentence_scores(encoded, outputs))
        number = max(
            (number for number, window in enumerate(reading.windows) if sentence in window),
            key=lambda entry: sentence_logits(encoded.rows[entry], outputs[entry])[sentence - reading.windows[entry].start],
        )
        window = reading.windows[number]
        tokens = list(self._tokens([reading.encodings[i] for i in window], [reading.spans[i][0] for i in window]))
        start, end = reading.spans[sentence]
        place = sentence - window.start
        words = words_of("text", item.text, tokens)
        row = encoded.rows[number]
        return Passage(
            row, words, item.text[start:end], lambda output: float(sentence_logits(row, output)[place]), self._mask_id
        )

    def _tokens(self, encodings: Sequence[Tokens], starts: Sequence[int]) -> Iterator[tuple[int, Span]]:
        """Position in the row and span in the text of each token of a row's sentences, which begin at `starts`."""
        position = 0
        for encoding, begin in zip(encodings, starts, strict=True):
            offsets = encoding.offsets[: self._max_sentence]
            first = position + self._template.start()
            for number, (start, end) in enumerate(offsets):
                yield first + number, (begin + start, begin + end)
            position += len(offsets) + self._template.num_special_tokens

    def _encoded(self, item: SummaryItem, options: SummaryOptions) -> Encoded | HooperError:
        text = item.text
        spans = sentences(text, item.language or options.language or self._language)
        encodings = self._pieces.encode([text[start:end] for start, end in spans])
        is_cut = any(len(encoding) > self._max_sentence for encoding in encodings)
        windows = self._windows([min(len(encoding), self._max_sentence) for encoding in encodings])
        if options.truncation == "error" and (is_cut or len(windows) > 1):
            return TooLarge(
                f"the text has more than {self._max_tokens} tokens, the longest this model reads at once, or a sentence of"
                f" more than {self._max_sentence}",
                ("window", "truncate"),
            )
        if options.truncation == "truncate" and len(windows) > 1:
            is_cut, windows = True, windows[:1]
        rows = [self._row([encodings[i] for i in window], number > 0) for number, window in enumerate(windows)]
        reading = DocumentReading(text, spans[: windows[-1].stop], windows, encodings)
        return Encoded(rows, sum(row.num_tokens for row in rows), is_cut, reading)

    def _windows(self, lengths: Sequence[int]) -> list[range]:
        """Runs of sentences that fit into a row; the last one reaches back as far as it can."""
        costs = [length + self._template.num_special_tokens for length in lengths]
        windows: list[range] = []
        start = 0
        while True:
            stop = _fill(costs, start, self._max_tokens)
            if stop == len(costs):
                first = len(costs) - _fill(costs[::-1], 0, self._max_tokens)
                windows.append(range(first if windows else start, stop))
                return windows
            windows.append(range(start, stop))
            start = max(start + 1, stop - SHARED_SENTENCES)

    def _row(self, encodings: Sequence[Tokens], is_later: bool) -> Row:
        input_ids: list[int] = []
        positions = []
        for encoding in encodings:
            positions.append(len(input_ids))
            input_ids += self._template.row(encoding.ids[: self._max_sentence]).input_ids
        return Row(input_ids, [int(is_later)] * len(input_ids), positions)


def sentence_logits(row: Row, output: RowOutput) -> Array:
    """Mean logit of each sentence's tokens, less in later windows, which their token types tell: (sentences of the row,)."""
    starts = np.array(row.output_positions)
    means = np.add.reduceat(output[OUTPUT][:, 0], starts) / np.diff(starts, append=row.num_tokens)
    return (means + LATER * row.token_type_ids[0]).astype(np.float32)


def sentence_scores(encoded: Encoded, outputs: Sequence[RowOutput]) -> Array:
    """Score of each sentence between 0 and 1, from its logits averaged over the windows that hold it: (sentences,)."""
    reading: DocumentReading = encoded.state
    sums = np.zeros(len(reading.spans))
    counts = np.zeros(len(reading.spans))
    for window, row, output in zip(reading.windows, encoded.rows, outputs, strict=True):
        sums[window.start : window.stop] += sentence_logits(row, output)
        counts[window.start : window.stop] += 1
    scores: Array = (0.5 * (1.0 + np.tanh(0.5 * sums / counts))).astype(np.float32)
    return scores


def _sentence_saying(target: str | None, reading: DocumentReading, scores: Array) -> int:
    """The sentence that is meant, by default the best."""
    if target is None:
        return int(scores.argmax())
    texts = [reading.text[start:end] for start, end in reading.spans]
    if target not in texts:
        first_texts = ", ".join(repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…") for text in texts[:3])
        raise InvalidInput(
            f"is none of the {len(texts)} sentences that are read, verbatim; they begin with {first_texts}", "target"
        )
    return texts.index(target)


def select(texts: Sequence[str], scores: Array, options: SummaryOptions, usual_words: float) -> list[int]:
    """Indices, in order, of the sentences that greedily raise the expected F1 of the summary's words.

    With `score` the share of a sentence's words that the summary is expected to say, sentences of `w` words in all match about
    `m = Σ NOVELTY^k · score · words` of them, k counting the sentences chosen before, and F1 is `2m / (w + words wanted)`. A
    sentence that shares three words in a row with a chosen one is passed over.

    Args:
        scores: between 0 and 1: (sentences,).
        options: how many sentences to keep. Up to `min_sentences` are taken even where F1 falls.
        usual_words: words wanted of a summary of up to `USUAL_SENTENCES`.
    """
    lengths = np.array([max(1, len(_WORD.findall(text))) for text in texts])
    target_words = usual_words * options.max_sentences / USUAL_SENTENCES
    trigrams = [_trigrams(text) for text in texts]
    holders = defaultdict(list)  # trigram to the sentences that hold it
    for place, own in enumerate(trigrams):
        for trigram in own:
            holders[trigram].append(place)
    free = np.ones(len(texts), bool)
    indexes: list[int] = []
    matched = best = 0.0
    num_words = 0
    while len(indexes) < options.max_sentences and free.any():
        gains = NOVELTY ** len(indexes) * scores * lengths  # (sentences,)
        f1 = np.where(free, (matched + gains) / (num_words + lengths + target_words), -1.0)
        index = int(np.argmax(f1))
        if f1[index] <= best and len(indexes) >= options.min_sentences:
            break
        indexes.append(index)
        best, matched, num_words = float(f1[index]), matched + float(gains[index]), num_words + int(lengths[index])
        for trigram in trigrams[index]:
            free[holders[trigram]] = False
    return sorted(indexes)


def _trigrams(text: str) -> set[tuple[str, ...]]:
    """Runs of three words; all words of a shorter sentence, so that it is not repeated either."""
    words = _WORD.findall(text.lower()) or [text]
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def _fill(costs: Sequence[int], start: int, budget: int) -> int:
    """How far sentences from `start` on fit into the budget; at least one of them."""
    stop, num_tokens = start, 0
    while stop < len(costs) and num_tokens + costs[stop] <= budget:
        num_tokens += costs[stop]
        stop += 1
    return max(stop, start + 1)
