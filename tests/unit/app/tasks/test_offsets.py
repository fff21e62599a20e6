"""Where each token stands in the caller's own text, for every type of tokenizer that checkpoints come with."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest

from app.tasks.base import Encoded
from app.tasks.extractive_summarization.task import ExtractiveSummarization, SummaryItem, SummaryOptions
from app.tasks.passage import words_of_window
from app.tasks.question_answering.task import AnswerOptions, QuestionAnswering, QuestionItem, QuestionReading
from app.tasks.question_answering.word_boundaries import WordBoundaries
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.tokenizer import Window
from tests.support.tokenizer_types import CONTEXT, QUESTION, SURFACES, TEXTS, TYPES, tokenizer_of

types = pytest.mark.parametrize("name", TYPES)


def assert_cover(text: str, offsets: Sequence[tuple[int, int]]) -> None:
    """Offsets are in order and without blanks at their ends, and together hold all that is to be seen of a text."""
    covered: set[int] = set()
    characters = WordBoundaries(text, whole_words=False)
    for start, end in offsets:
        assert 0 <= start <= end <= len(text)
        assert text[start:end] == text[start:end].strip()
        covered |= set(range(*characters.widened((start, end))))  # what is composed to a character may stand for all of it
    starts = [start for start, end in offsets if start < end]
    assert starts == sorted(starts)
    missing = [character for place, character in enumerate(text) if place not in covered and not character.isspace()]
    assert [character for character in missing if unicodedata.category(character) != "Cf"] == []  # what nobody sees


def of_sequence(window: Window, number: int) -> list[tuple[int, int]]:
    return [offset for offset, of in zip(window.offsets, window.sequence_ids, strict=True) if of == number]


@types
def test_the_tokens_of_a_text_cover_it(name: str) -> None:
    tokenizer = tokenizer_of(name)
    for text in TEXTS:
        ((window,),) = tokenizer.windows([text])
        assert_cover(text, of_sequence(window, 0))
        (tokens,) = tokenizer.pieces().encode([text])
        assert list(tokens.offsets) == of_sequence(window, 0), text


@types
def test_the_tokens_of_a_pair_cover_both_texts(name: str) -> None:
    tokenizer = tokenizer_of(name)
    for first, second in zip(TEXTS, reversed(TEXTS), strict=True):
        ((window,),) = tokenizer.windows([(first, second)])
        assert_cover(first, of_sequence(window, 0))
        assert_cover(second, of_sequence(window, 1))
        assert {offset for offset, of in zip(window.offsets, window.sequence_ids, strict=True) if of is None} <= {(0, 0)}


@types
def test_the_windows_of_a_text_and_of_a_pair_cover_them_together(name: str) -> None:
    tokenizer = tokenizer_of(name).with_windows(24, 4)
    (windows,) = tokenizer.windows([CONTEXT])
    assert len(windows) > 1
    assert_cover(CONTEXT, sorted({offset for window in windows for offset in of_sequence(window, 0)}))
    (windows,) = tokenizer_of(name).with_windows(48, 4, only_second=True).windows([(QUESTION, CONTEXT)])
    assert len(windows) > 1
    assert_cover(CONTEXT, sorted({offset for window in windows for offset in of_sequence(window, 1)}))


@types
def test_rows_of_pieces_are_what_the_tokenizer_makes_of_a_text_and_of_a_pair(name: str) -> None:
    tokenizer = tokenizer_of(name)
    pieces = tokenizer.pieces()
    for first, second in zip(TEXTS, reversed(TEXTS), strict=True):
        tokens, others = pieces.encode([first, second])
        ((single,), (pair,)) = tokenizer.windows([first, (first, second)])
        for row, window in ((pieces.single.row(tokens.ids), single), (pieces.pair.row(tokens.ids, others.ids), pair)):
            assert (row.input_ids, row.token_type_ids) == (window.input_ids, window.token_type_ids)
        assert pieces.single.num_special_tokens == tokenizer.num_special_tokens(pair=False)
        assert pieces.pair.num_special_tokens == tokenizer.num_special_tokens(pair=True)
        starts = pieces.pair.start(), pieces.pair.start(tokens.ids)
        assert starts == tuple(pair.sequence_ids.index(number) for number in (0, 1))


@types
@pytest.mark.parametrize("length", [512, 64])
def test_what_the_model_points_at_is_the_answer(name: str, length: int) -> None:
    task = QuestionAnswering(tokenizer_of(name, length))
    (encoded,) = task.encode([QuestionItem(QUESTION, CONTEXT)], AnswerOptions())
    assert isinstance(encoded, Encoded)
    assert (len(encoded.rows) > 1) == (length == 64)
    for surface in SURFACES:
        start = CONTEXT.index(surface)
        outputs = said(encoded, start, start + len(surface))
        (best,) = task.decode(encoded, outputs, AnswerOptions(max_answer_tokens=60)).answers
        assert (best.answer, best.start, best.end) == (surface, start, start + len(surface))
        assert best.score > 0.9, surface


@pytest.mark.parametrize("name", [name for name in TYPES if not name.startswith("byte-level")])  # theirs share characters
@pytest.mark.parametrize(
    "context", ["東京は日本の首都です。図書館は1903年に開館しました。", "我喜欢读书，也喜欢看电影。", "สวัสดีครับ"]
)
def test_in_a_sentence_without_blanks_an_answer_is_what_the_model_points_at_to_the_character(name: str, context: str) -> None:
    task = QuestionAnswering(tokenizer_of(name))
    (encoded,) = task.encode([QuestionItem(QUESTION, context)], AnswerOptions())
    assert isinstance(encoded, Encoded)
    characters = WordBoundaries(context, whole_words=False)
    for start, end in encoded.state.context.offsets:
        whole = context[slice(*characters.widened((start, end)))]
        if len(whole) < len(context) // 2 and not any(character.isdigit() for character in whole):
            (best,) = task.decode(encoded, said(encoded, start, end), AnswerOptions()).answers
            assert best.answer == whole


def said(encoded: Encoded, start: int, end: int) -> list[dict[str, np.ndarray]]:
    """Logits that point at a span of the context in all windows that hold it whole."""
    reading: QuestionReading = encoded.state
    inside = [i for i, (b, e) in enumerate(reading.context.offsets) if b < end and e > start]
    outputs = []
    for window, row in zip(reading.windows, encoded.rows, strict=True):
        logits = np.full((row.num_tokens, 2), -20.0, np.float32)
        logits[0] = 0
        if inside[0] in window and inside[-1] in window:
            for side, place in enumerate((inside[0], inside[-1])):
                logits[place - window.start + reading.first_context, side] = 9.0
        outputs.append({"logits": logits})
    return outputs


@types
def test_explanations_name_the_words_of_the_text(name: str) -> None:
    text = "I paid $5 for the bridge, Anna said."
    expected = ["I", "paid", "$", "5", "for", "the", "bridge", ",", "Anna", "said", "."]
    tokenizer = tokenizer_of(name)
    ((window,),) = tokenizer.windows([(text, text)])
    found = words_of_window({"text": text, "text_pair": text}, window.sequence_ids, window.offsets)
    # a piece of SentencePiece may hold two words; none may be torn, moved or left out
    assert "".join(match.text for match in found).replace(" ", "") == "".join(expected) * 2
    assert all(text[match.start : match.end] == match.text for match in found)

    task = TextClassification(tokenizer, ["a", "b"])
    (encoded,) = task.encode([ClassificationItem(text)], ClassificationOptions())
    passage = task.passage(ClassificationItem(text), encoded, [{"logits": np.zeros(2, np.float32)}], None)  # type: ignore[arg-type]
    assert "".join(word.text for word in passage.words).replace(" ", "") == "".join(expected)


@types
def test_a_summary_and_its_explanation_are_in_the_callers_words(name: str) -> None:
    text = "  I paid for the bridge. Anna lived in Hollingsworth.\nIt opened in 1903."
    task = ExtractiveSummarization(tokenizer_of(name))
    (encoded,) = task.encode([SummaryItem(text)], SummaryOptions())
    assert isinstance(encoded, Encoded)
    outputs = [{"logits": np.ones((row.num_tokens, 1), np.float32)} for row in encoded.rows]
    summary = task.decode(encoded, outputs, SummaryOptions(max_sentences=3, min_sentences=3))
    assert all(text[sentence.start : sentence.end] == sentence.text for sentence in summary.sentences)
    passage = task.passage(SummaryItem(text), encoded, outputs, None)
    assert "".join(word.text for word in passage.words).replace(" ", "") == "".join(text.split())
    assert all(text[word.start : word.end] == word.text for word in passage.words)
