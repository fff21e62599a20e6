"""Documents and their summaries in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.core.errors import InvalidInput
from app.tasks.base import refuse_text
from app.tasks.extractive_summarization.schemas import EXAMPLE
from app.tasks.extractive_summarization.task import Summary, SummaryItem, SummaryOptions
from app.tasks.hub_generation import TRUNCATIONS, TruncationName
from app.tasks.protocols import hub_parameters, tensors_example
from app.tasks.schemas import Flag, LanguageField, Request
from app.tasks.spec import BodyExample, CorrectionCodec, Gold, HuggingFaceCodec, NativeItems, OpenInferenceCodec

NAME = "summarization"
MAX_SENTENCES = 1000


def _native_item(value: Any) -> SummaryItem | InvalidInput:
    if isinstance(value, str):
        return SummaryItem(value)
    if not hasattr(value, "text"):
        return InvalidInput(f"should be a text: the model is for {NAME}")
    if getattr(value, "text_pair", None) is not None:
        return InvalidInput(f"should be one text: the model is for {NAME}")
    return SummaryItem(value.text)


NATIVE = NativeItems((str,), _native_item)


# Hugging Face


class SummaryText(BaseModel):
    """A summary, as the specification has it."""

    summary_text: str = Field(description="The chosen sentences of the document, joined by spaces.")


HUGGING_FACE = HuggingFaceCodec(
    inputs="summarization: a document",
    wanted="a text",
    item=lambda value: SummaryItem(value) if isinstance(value, str) else None,
    parameters={
        **hub_parameters(
            "Summarization",
            truncation=(
                TruncationName,
                (
                    "`longest_first` and `only_first` read only as much of the document as the model reads at once; null,"
                    " `do_not_truncate` and `only_second` read all of it in windows"
                ),
            ),
            clean_up_tokenization_spaces=(
                Flag,
                "changes nothing, for sentences are returned as they stand in the document",
            ),
        ),
        "language": (LanguageField, None),
        **hub_parameters(
            "Summarization",
            generate_parameters=(
                dict[str, Any],
                (
                    "for models that generate. An extractive model generates nothing: it reads and checks none of them, and the"
                    " header `X-Ignored-Parameters` says so"
                ),
            ),
        ),
    },
    options=lambda parameters: SummaryOptions(truncation=TRUNCATIONS[parameters.truncation], language=parameters.language),
    answer=lambda result: SummaryText.model_construct(summary_text=result.answer.summary),
    answers=(SummaryText,),
    example=BodyExample("summary", {"inputs": EXAMPLE}),
    unused=frozenset({"generate_parameters"}),
)


# Open Inference Protocol

OPEN_INFERENCE = OpenInferenceCodec(
    outputs={"summary": "BYTES"},
    items=lambda texts: [SummaryItem(text) for text in texts["text"]],
    columns=lambda results: ({"summary": [result.answer.summary for result in results]}, [len(results)]),
    description="Summarization: `text` to `summary`, (items,).",
    example=tensors_example("summary", {"max_sentences": 2}, text=[EXAMPLE]),
)


# corrections


class SummarizedText(Request):
    """A document, and the sentences of it that sum it up."""

    text: str = Field(description="The document.")
    sentences: Annotated[list[str], Field(fail_fast=True), Field(min_length=1, max_length=MAX_SENTENCES)] = Field(
        description="The right sentences, verbatim, in their order."
    )
    language: LanguageField = None


def _gold(correction: SummarizedText, item: SummaryItem, allows_new: bool, task_options: Mapping[str, Any]) -> Gold:
    for number, sentence in enumerate(correction.sentences):
        error = refuse_text(sentence, f"sentences.{number}")
        if error is not None:
            raise error
        if sentence.strip() not in item.text:
            raise InvalidInput("does not stand in the text", f"sentences.{number}")
    return {"sentences": _stripped(correction.sentences)}


def _stripped(sentences: Sequence[str]) -> list[str]:
    return [sentence.strip() for sentence in sentences]


def _agrees(answer: Summary, correction: SummarizedText) -> bool:
    return [sentence.text for sentence in answer.sentences] == _stripped(correction.sentences)


CORRECTION = CorrectionCodec(
    schema=SummarizedText,
    marks=frozenset({"sentences"}),
    wanted="`text` and `sentences`",
    item=lambda sent: SummaryItem(sent.text, sent.language),
    gold=_gold,
    agrees=_agrees,
    training_row=lambda item, gold: {**item, "summary": " ".join(gold["sentences"])},
)
