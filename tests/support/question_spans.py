"""Questions to a tiny model whose logits prefer the spans that a test names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from app.core.errors import HooperError
from app.core.types import RowOutput
from app.tasks.base import Encoded
from app.tasks.question_answering.task import (
    AnswerOptions,
    Answers,
    QuestionAnswering,
    QuestionItem,
    QuestionReading,
)
from tests.support.tiny_model import tiny_tokenizer

TASK = QuestionAnswering(tiny_tokenizer())
QUESTION = "was the film good ?"
CONTEXT = "The film was very good. A bad film was not good."
STRANGE = "Th\u00e9 film\twas 🙂👩\u200d👩\u200d👧 good\r\nnot ba\u0308d. 电影很好 e\u0301 fi\u200dlms ¿no? \u0301"
LOW = -20.0
PARTS = st.sampled_from([*"agod fim.s\t\n", "\r\n", "é", "e\u0301", "🙂", "\u200d", "电", "[SEP]", "\u2028", "film "])


def encode(context: str = CONTEXT, question: str = QUESTION, **options: Any) -> Encoded:
    (encoded,) = TASK.encode([QuestionItem(question, context)], AnswerOptions(**options))
    assert isinstance(encoded, Encoded)
    return encoded


def refusal(context: str = CONTEXT, question: str = QUESTION, **options: Any) -> HooperError:
    (error,) = TASK.encode([QuestionItem(question, context)], AnswerOptions(**options))
    assert isinstance(error, HooperError)
    return error


def outputs(encoded: Encoded, spans: Sequence[tuple[int, int, float]], null: float = 0.0) -> list[RowOutput]:
    """Logits that prefer these character spans by so much; the first token stands at `null`."""
    made = []
    reading: QuestionReading = encoded.state
    for window, row in zip(reading.windows, encoded.rows, strict=True):
        logits = np.full((row.num_tokens, 2), LOW, np.float32)
        logits[0] = null
        for start, end, height in spans:
            inside = [i for i, (b, e) in enumerate(reading.context.offsets) if b < end and e > start]
            if inside and inside[0] in window and inside[-1] in window:
                positions = [index - window.start + reading.first_context for index in inside]
                logits[positions[0], 0] = logits[positions[-1], 1] = height
        made.append({"logits": logits})
    return made


def ask(spans: Sequence[tuple[int, int, float]], context: str = CONTEXT, null: float = 0.0, **options: Any) -> Answers:
    encoded = encode(context, **options)
    return TASK.decode(encoded, outputs(encoded, spans, null), AnswerOptions(**options))


def place(text: str, context: str = CONTEXT) -> tuple[int, int]:
    start = context.index(text)
    return start, start + len(text)
