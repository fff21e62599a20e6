"""Extractive question answering, as the rest of Hooper knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.fields import FieldSpec
from app.tasks.fields import CONTEXT_COLUMNS, QUESTION_COLUMNS
from app.tasks.question_answering.protocols import CORRECTION, HUGGING_FACE, NATIVE, OPEN_INFERENCE
from app.tasks.question_answering.schemas import AnswerRequest, AnswerResult
from app.tasks.question_answering.task import AnswerOptions, QuestionAnswering, QuestionItem
from app.tasks.spec import NativeRoute, OutputSpec, Served, TableSpec, TaskSpec, TextLine
from app.tasks.tables import lines_of

ANSWER_WIDTH = 32

ANSWER = NativeRoute(
    path="v1/answer",
    request=AnswerRequest,
    result=AnswerResult,
    summary="Answer questions about a text",
    description="""The words of a text that answer a question, with their place in it; for one question or a list.

A text of any length is read: in windows that overlap, all of them in the same batch.
In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.""",
)


def _lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    spans = [(span["score"], span["answer"] or "(no answer)") for span in result["answers"]]
    return lines_of(fields.get("question", ""), spans, ANSWER_WIDTH)


SPEC = TaskSpec(
    name="question-answering",
    pipeline_tag="question-answering",
    title="Question answering",
    task=QuestionAnswering,
    item=QuestionItem,
    options=AnswerOptions,
    routes=(Served(ANSWER, AnswerResult.of),),
    fields={
        "question": FieldSpec(QUESTION_COLUMNS, description="the question to ask of every context"),
        "context": FieldSpec(CONTEXT_COLUMNS, description="the context of every question"),
    },
    table=TableSpec(
        {"no_answer_score": float, "num_tokens": int, "truncated": bool},
        "answers",
        {"answer": str, "score": float, "start": int, "end": int},
    ),
    lines=_lines,
    native=NATIVE,
    output=OutputSpec("token", num_features=2),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    correction=CORRECTION,
    training="scripts.tasks.question_answering:SPEC",
)
