"""Written summaries in the words of other protocols."""

from __future__ import annotations

from app.tasks.abstractive_summarization.task import WrittenSummaryOptions
from app.tasks.extractive_summarization.protocols import SummaryText
from app.tasks.extractive_summarization.schemas import EXAMPLE, SummarizeRequest
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.hub_generation import TRUNCATIONS, codec, pipeline_parameters, written_tensors
from app.tasks.schemas import LanguageField
from app.tasks.spec import BodyExample

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

OPEN_INFERENCE = written_tensors(
    "summary", "Summarization: `text` to `summary`, (items,).", "summary", EXAMPLE, item=SummaryItem
)
