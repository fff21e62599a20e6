"""Written summaries in the words of other protocols."""

from __future__ import annotations

from app.tasks.abstractive_summarization.task import WrittenSummaryOptions
from app.tasks.extractive_summarization.protocols import SummaryText
from app.tasks.extractive_summarization.schemas import EXAMPLE, SummarizeRequest
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.hub_generation import TRUNCATIONS, codec, pipeline_parameters
from app.tasks.schemas import LanguageField
from app.tasks.spec import BodyExample, OpenInferenceCodec

BESIDE = pipeline_parameters("Abstractive summarization")

HUGGING_FACE = codec(
    family="Abstractive summarization",
    inputs="summarization: a document",
    item=lambda value: SummaryItem(value) if isinstance(value, str) else None,
    options=lambda values: SummarizeRequest.model_validate(values).written(WrittenSummaryOptions),
    parameters={**BESIDE, "language": (LanguageField, None)},
    beside=tuple(BESIDE),
    own=lambda given: {"truncation": TRUNCATIONS[given.truncation], "language": given.language},
    answer=lambda result: SummaryText.model_construct(summary_text=result.answer.text),
    answers=(SummaryText,),
    example=BodyExample("summary", {"inputs": EXAMPLE}),
)

OPEN_INFERENCE = OpenInferenceCodec(
    inputs=("text",),
    outputs={"summary": "BYTES"},
    rank=1,
    items=lambda texts: [SummaryItem(text) for text in texts["text"]],
    columns=lambda results: ({"summary": [result.answer.text for result in results]}, [len(results)]),
    native_item="a",
    description="Summarization: `text` to `summary`, (items,).",
    example=BodyExample("summary", {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [EXAMPLE]}]}),
    excluded=("stream",),
)
