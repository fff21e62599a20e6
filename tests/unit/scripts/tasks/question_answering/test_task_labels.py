"""An answer is learnt where it stands, with every type of tokenizer that checkpoints come with."""

from __future__ import annotations

import pytest

from app.tasks.base import Encoded
from app.tasks.question_answering.task import AnswerOptions, QuestionAnswering, QuestionItem, QuestionReading
from scripts.tasks.question_answering.task import Gold, labels_of
from tests.support.tokenizer_types import CONTEXT, QUESTION, SURFACES, TYPES, tokenizer_of


@pytest.mark.parametrize("length", [512, 64])
@pytest.mark.parametrize("name", TYPES)
def test_an_answer_is_learnt_where_it_stands(name: str, length: int) -> None:
    task = QuestionAnswering(tokenizer_of(name, length))
    (encoded,) = task.encode([QuestionItem(QUESTION, CONTEXT)], AnswerOptions())
    assert isinstance(encoded, Encoded)
    reading: QuestionReading = encoded.state
    for surface in SURFACES:
        start = CONTEXT.index(surface)
        found = labels_of(reading, [Gold(surface, start, start + len(surface))])
        whole = [(label, window) for label, window in zip(found, reading.windows, strict=True) if label.spans[0][0] > 0]
        assert whole, surface
        for label, window in whole:
            ((first, last, share),) = label.spans
            spans = [reading.context.offsets[place - label.first_context + window.start] for place in (first, last)]
            assert (spans[0][0], share) == (start, 1.0)
            # a lower-casing tokenizer gives the accent to no token; nothing else may be left out
            assert spans[1][1] in (start + len(surface), start + len(surface.rstrip("\u0301")))
