"""Extractive summarization, as the rest of Hooper knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.fields import FieldSpec
from app.tasks.extractive_summarization.protocols import CORRECTION, HUGGING_FACE, NAME, NATIVE, OPEN_INFERENCE
from app.tasks.extractive_summarization.schemas import SummarizeRequest, SummarizeResult
from app.tasks.extractive_summarization.task import ExtractiveSummarization, SummaryItem, SummaryOptions
from app.tasks.fields import POSSIBLE_TEXTS, TEXT_COLUMNS
from app.tasks.spec import NativeRoute, OutputSpec, Served, TableSpec, TaskSpec, TextLine

SUMMARIZE = NativeRoute(
    path="v1/summarize",
    request=SummarizeRequest,
    result=SummarizeResult,
    summary="Summarize texts",
    description="""The sentences of a document that say most, verbatim and in its order, with their places and scores; of a
model that writes, its own words.

Documents of any length are read, in windows of whole sentences.
In a list, an item that cannot be summarized gets an `error` in its place, and the others are.""",
)


def _lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    return [TextLine(sentence["score"], sentence["text"]) for sentence in result["sentences"]]


SPEC = TaskSpec(
    name=NAME,
    pipeline_tag="summarization",
    title="Summarization",
    task=ExtractiveSummarization,
    item=SummaryItem,
    options=SummaryOptions,
    routes=(Served(SUMMARIZE, SummarizeResult.of, is_for=lambda request: request.method != "abstractive"),),
    fields={"text": FieldSpec(TEXT_COLUMNS, possible=POSSIBLE_TEXTS)},
    table=TableSpec({"summary": str, "num_tokens": int, "truncated": bool}),
    lines=_lines,
    native=NATIVE,
    output=OutputSpec("token", num_features=1),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    correction=CORRECTION,
    training="scripts.tasks.extractive_summarization:SPEC",
)
