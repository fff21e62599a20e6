"""Abstractive summarization, as the rest of Hooper knows it."""

from __future__ import annotations

from pathlib import Path

from app.core.fields import FieldSpec
from app.tasks.abstractive_summarization.protocols import HUGGING_FACE, OPEN_INFERENCE
from app.tasks.abstractive_summarization.task import AbstractiveSummarization, WrittenSummaryOptions
from app.tasks.base import Result
from app.tasks.extractive_summarization.schemas import SummarizeResult
from app.tasks.extractive_summarization.spec import SUMMARIZE
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.fields import POSSIBLE_TEXTS, TEXT_COLUMNS
from app.tasks.generation import generation_fields
from app.tasks.spec import OutputSpec, Served, TaskSpec
from app.tasks.written import NATIVE, correction_of, written_lines, written_table


def _result(result: Result) -> SummarizeResult:
    return SummarizeResult.model_construct(summary=result.answer.text, sentences=None, **generation_fields(result))


EXAMPLE_CORRECTION = ("The library opened in 1903. It was closed again in 1911.", "The library was open from 1903 to 1911.")

SPEC = TaskSpec(
    name="abstractive-summarization",
    pipeline_tag="summarization",
    title="Abstractive summarization",
    task=AbstractiveSummarization,
    item=SummaryItem,
    options=WrittenSummaryOptions,
    routes=(
        Served(
            SUMMARIZE,
            _result,
            options=lambda request: request.written(WrittenSummaryOptions),
            is_for=lambda request: request.method != "extractive",
        ),
    ),
    fields={"text": FieldSpec(TEXT_COLUMNS, possible=POSSIBLE_TEXTS)},
    table=written_table("summary"),
    lines=written_lines("summary"),
    native=NATIVE,
    output=OutputSpec("token", name="cross"),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    training="scripts.tasks.abstractive_summarization:SPEC",
    correction=correction_of("CorrectSummary", "summary", "The right summary.", EXAMPLE_CORRECTION),
)
