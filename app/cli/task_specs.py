"""What the command line knows of each task: its columns, its options, and how a person is shown an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.api.schemas.answer import AnswerRequest, AnswerResult
from app.api.schemas.classify import ClassifyRequest, ClassifyResult
from app.api.schemas.summarize import SummarizeRequest, SummarizeResult
from app.core.fields import FieldSpec
from app.tasks.extractive_summarization.task import SummaryOptions
from app.tasks.question_answering.task import AnswerOptions
from app.tasks.text_classification.task import ClassificationOptions


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The columns of an answer in a table."""

    single: Mapping[str, type]
    ranked: str = ""
    per_rank: Mapping[str, type] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of an answer on a terminal."""

    score: float | None
    answer: str
    width: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class CliTask:
    request: Any
    options: type[Any]
    wrap: Callable[[Any], Any]
    fields: Mapping[str, FieldSpec]
    table: TableSpec
    lines: Callable[[Mapping[str, Any], Mapping[str, Any], int], Sequence[TextLine]]


TEXTS = ("text", "sentence", "review", "content", "body", "document", "article", "utterance", "query", "message", "title")
READ = {"num_tokens": int, "truncated": bool}


def _labels(fields: Mapping[str, Any], result: Mapping[str, Any], limit: int) -> list[TextLine]:
    return [TextLine(label["score"], label["label"], 20, str(fields.get("text", ""))) for label in result["labels"][:limit]]


def _answers(fields: Mapping[str, Any], result: Mapping[str, Any], limit: int) -> list[TextLine]:
    question = str(fields.get("question", ""))
    return [TextLine(answer["score"], answer["answer"] or "(no answer)", 32, question) for answer in result["answers"]]


def _sentences(fields: Mapping[str, Any], result: Mapping[str, Any], limit: int) -> list[TextLine]:
    return [TextLine(sentence["score"], sentence["text"]) for sentence in result["sentences"]]


TASKS: Mapping[str, CliTask] = {
    "text-classification": CliTask(
        ClassifyRequest,
        ClassificationOptions,
        ClassifyResult.of,
        {
            "text": FieldSpec((*TEXTS, "sentence1", "premise", "question1")),
            "text_pair": FieldSpec(
                ("text_pair", "sentence2", "hypothesis", "question2"), False, "", ("text", "sentence1", "premise", "question1")
            ),
        },
        TableSpec(READ, "labels", {"label": str, "score": float}),
        _labels,
    ),
    "question-answering": CliTask(
        AnswerRequest,
        AnswerOptions,
        AnswerResult.of,
        {
            "question": FieldSpec(("question",), description="the question to ask of every context"),
            "context": FieldSpec(("context", "passage", "paragraph", "text"), description="the context of every question"),
        },
        TableSpec({"no_answer_score": float, **READ}, "answers", {"answer": str, "score": float, "start": int, "end": int}),
        _answers,
    ),
    "summarization": CliTask(
        SummarizeRequest,
        SummaryOptions,
        SummarizeResult.of,
        {"text": FieldSpec(TEXTS)},
        TableSpec({"summary": str, **READ}),
        _sentences,
    ),
}
