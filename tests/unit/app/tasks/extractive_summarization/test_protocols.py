"""Summaries in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.extractive_summarization.protocols import CORRECTION, HUGGING_FACE, NATIVE, OPEN_INFERENCE, SummarizedText
from app.tasks.extractive_summarization.task import Sentence, Summary, SummaryItem
from app.tasks.text_classification.schemas import TextPair

TEXT = "The first. The second. The third."


def summary(*sentences: str) -> Summary:
    chosen = [Sentence(text, TEXT.index(text), TEXT.index(text) + len(text), 0.9) for text in sentences]
    return Summary(" ".join(sentences), chosen)


def gold(*sentences: str) -> Any:
    return CORRECTION.gold(SummarizedText(text=TEXT, sentences=list(sentences)), SummaryItem(TEXT), False, {})


def test_a_text_is_an_item_and_a_pair_is_none() -> None:
    assert NATIVE.item(TEXT) == SummaryItem(TEXT)
    assert NATIVE.item(TextPair(text=TEXT)) == SummaryItem(TEXT)
    for wrong in (TextPair(text=TEXT, text_pair="more"), object()):
        assert isinstance(NATIVE.item(wrong), InvalidInput)
    assert HUGGING_FACE.item(object()) is None


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (None, "window"), ("do_not_truncate", "window"), ("only_second", "window"),
        ("longest_first", "truncate"), ("only_first", "truncate"),
    ],
)  # fmt: skip
def test_truncation_is_translated(sent: str | None, meant: str) -> None:
    options = HUGGING_FACE.options(SimpleNamespace(truncation=sent, language="de"))
    assert (options.truncation, options.language) == (meant, "de")


def test_answers_have_the_shape_of_each_protocol() -> None:
    result = Result(summary("The first.", "The third."), 9, False)
    assert HUGGING_FACE.answer(result).summary_text == "The first. The third."
    assert OPEN_INFERENCE.columns([result]) == ({"summary": ["The first. The third."]}, [1])
    assert OPEN_INFERENCE.items({"text": [TEXT]}) == [SummaryItem(TEXT)]


def test_a_correction_keeps_the_sentences_without_their_spaces() -> None:
    assert gold(" The first.", "The third. ") == {"sentences": ["The first.", "The third."]}


@pytest.mark.parametrize(
    ("sentence", "reason"), [("The fourth.", "does not stand in the text"), ("", "empty"), ("\ud800", "surrogate")]
)
def test_a_sentence_that_is_not_in_the_text_is_refused_by_its_number(sentence: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        gold("The first.", sentence)
    assert caught.value.field == "sentences.1"


def test_an_answer_agrees_where_the_same_sentences_stand_in_the_same_order() -> None:
    answer = summary("The first.", "The third.")
    assert CORRECTION.agrees(answer, SummarizedText(text=TEXT, sentences=["The first. ", "The third."]))
    assert not CORRECTION.agrees(answer, SummarizedText(text=TEXT, sentences=["The third.", "The first."]))
    assert (
        CORRECTION.training_row({"text": TEXT}, {"sentences": ["The first.", "The third."]})["summary"]
        == "The first. The third."
    )
