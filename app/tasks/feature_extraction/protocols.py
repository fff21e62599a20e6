"""Vectors and similarities in the words of other protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, StringConstraints

from app.core.errors import EmptyBatch, InvalidInput
from app.core.types import DEFAULT_MAX_ITEMS
from app.tasks.base import Result
from app.tasks.feature_extraction.schemas import EXAMPLE, OTHERS, Dimensions, written
from app.tasks.feature_extraction.task import EmbedItem, EmbedOptions, Similarities, SimilarityItem
from app.tasks.protocols import hub_parameters, in_one_sentence, tensors_example
from app.tasks.schemas import Flag, Request, with_examples
from app.tasks.spec import (
    BodyExample,
    DropInCodec,
    HuggingFaceCodec,
    NativeItems,
    OpenInferenceCodec,
    TextEmbeddingsCodec,
)
from app.tasks.text_embeddings import CutSide, TruncateField, TruncationDirectionField, cut_by, side_of

MAX_TOKEN_IDS = 65_536
"""Of one text."""
TOKEN_DECIMALS = 6
"""Of a component of a token's vector, which is not scaled to the length 1: about what float32 holds of it."""


def _native_item(value: Any) -> EmbedItem | InvalidInput:
    return EmbedItem(value) if isinstance(value, str) else InvalidInput("should be one text: the model gives it a vector")


NATIVE = NativeItems((str,), _native_item)


class ComparedSentences(Request):
    """A sentence, and others that are compared with it."""

    source_sentence: str = Field(description="The sentence that the others are compared with.")
    sentences: Annotated[list[str], Field(fail_fast=True), Field(min_length=1, max_length=DEFAULT_MAX_ITEMS)] = Field(
        description=f"The others, at most {DEFAULT_MAX_ITEMS}."
    )

    def item(self) -> SimilarityItem:
        return SimilarityItem(self.source_sentence, tuple(self.sentences))


PromptName = Annotated[str, StringConstraints(max_length=256)]
COMPARED: dict[str, Any] = {"source_sentence": EXAMPLE, "sentences": list(OTHERS)}


# Hugging Face


def _hub_item(value: Any) -> EmbedItem | SimilarityItem | None:
    if isinstance(value, ComparedSentences):
        return value.item()
    return EmbedItem(value) if isinstance(value, str) else None


def _hub_options(parameters: Any) -> EmbedOptions:
    return EmbedOptions(
        normalize=parameters.normalize is not False,
        dimensions=parameters.dimensions,
        prompt_name=parameters.prompt_name,
        truncation="truncate" if parameters.truncate else "window",
        truncation_side=side_of(parameters.truncation_direction),
    )


def _hub_answer(result: Result) -> list[float] | tuple[float, ...]:
    """A vector; of compared sentences their similarities, as a tuple: both are lists of numbers on the line."""
    answer = result.answer
    return tuple(answer.scores) if isinstance(answer, Similarities) else list(answer.vector)


PARAMETERS = hub_parameters(
    "Feature extraction",
    normalize=(Flag, "whether vectors have the length 1; null: they have"),
    dimensions=(Dimensions, "how many numbers of a vector, of a model that was trained for fewer"),
    prompt_name=(PromptName, "the model's prompt that stands before a text; null: its default"),
    truncate=(Flag, "cut a longer text; else it is read in windows"),
    truncation_direction=(CutSide, "the end that is cut off; null: the one that its tokenizer cuts"),
)
HUGGING_FACE = HuggingFaceCodec(
    inputs="feature extraction: a text; sentence similarity: `source_sentence` and `sentences`",
    wanted="a text, or an object with `source_sentence` and `sentences`",
    item=_hub_item,
    parameters=PARAMETERS,
    options=_hub_options,
    answer=_hub_answer,
    answers=(list[float],),
    example=BodyExample("embed", {"inputs": EXAMPLE, "parameters": {"normalize": True}}),
    # the specification's answer to a text is a list of vectors; similarities are the list that they are
    for_hub_client=lambda answer, parameters: [answer] if isinstance(answer, list) else answer,
    types=(ComparedSentences,),
    beside_inputs=frozenset(PARAMETERS),
)


# Open Inference Protocol


def _tensor_columns(results: Sequence[Result]) -> tuple[dict[str, list[Any]], list[int]]:
    vectors = [result.answer.vector for result in results]
    return {"embedding": [value for vector in vectors for value in vector]}, [len(vectors), len(vectors[0])]


OPEN_INFERENCE = OpenInferenceCodec(
    outputs={"embedding": "FP32"},
    rank=2,
    items=lambda texts: [EmbedItem(text) for text in texts["text"]],
    columns=_tensor_columns,
    description="Feature extraction: `text` to `embedding`, (items, dimensions).",
    example=tensors_example("embed", text=[EXAMPLE]),
    excluded=("encoding",),
)


# texts and token ids, as text-embeddings-inference and OpenAI take them


TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, strict=True)]], Field(fail_fast=True), Field(min_length=1, max_length=MAX_TOKEN_IDS)
]
Inputs = Annotated[
    str
    | Annotated[list[str], Field(fail_fast=True)]
    | TokenIds
    | Annotated[list[TokenIds], Field(fail_fast=True), Field(min_length=1)],
    in_one_sentence("a text, a list of texts, the token ids of one text, or a list of such lists"),
]
INPUTS = (
    "A text; a list of texts; or the token ids of one text, a list of integers, or of several, a list of those. Token ids are"
    " those of the model's own tokenizer, without special ones; programs that count tokens as OpenAI's models do must send"
    " texts."
)


def items_of(inputs: Any, field: str) -> list[EmbedItem]:
    """
    Raises:
        EmptyBatch: there is none.
    """
    if isinstance(inputs, str):
        return [EmbedItem(inputs)]
    if not inputs:
        raise EmptyBatch("must not be empty", field)
    entries: list[Any] = [inputs] if isinstance(inputs[0], int) else inputs
    return [EmbedItem(entry) if isinstance(entry, str) else EmbedItem("", tuple(entry)) for entry in entries]


def place_of(inputs: Any, number: int, field: str, name: str) -> str:
    """How the caller names an item, or an option of the request."""
    if field not in ("", "text"):
        return field
    is_batch = isinstance(inputs, list) and not isinstance(inputs[0], int)
    return f"{name}.{number}" if is_batch else name


# text-embeddings-inference


class _Cutting(Request):
    """Options that all of its routes have."""

    truncate: TruncateField = False
    truncation_direction: TruncationDirectionField = "Right"
    prompt_name: PromptName | None = Field(
        None, description="Which of the model's prompts stands before each text; null: the model's default, if it has one."
    )

    def _common(self) -> dict[str, Any]:
        return {**cut_by(self, self.truncate, self.truncation_direction), "prompt_name": self.prompt_name}


class _CuttingTexts(_Cutting):
    """Those of routes whose inputs are texts or token ids."""

    inputs: Inputs = Field(description=INPUTS)

    def items(self) -> Sequence[EmbedItem]:
        return items_of(self.inputs, "inputs")

    def place(self, number: int, field: str) -> str:
        return place_of(self.inputs, number, field, "inputs")


class TextEmbeddingsEmbedRequest(_CuttingTexts):
    """A text or several, and how their vectors are wished."""

    model_config = with_examples({"inputs": EXAMPLE}, {"inputs": list(OTHERS), "truncate": True})

    normalize: Flag = Field(True, description="Whether vectors have the length 1.")
    dimensions: Dimensions | None = Field(
        None, description="How many numbers of a vector, of a model that was trained for fewer; null: all."
    )

    def options(self) -> EmbedOptions:
        return EmbedOptions(normalize=self.normalize, dimensions=self.dimensions, **self._common())

    def shaped(self, results: Sequence[Result], model: str) -> list[list[float]]:
        return [list(result.answer.vector) for result in results]


class EmbedAllRequest(_CuttingTexts):
    """A text or several, the vectors of whose tokens are wished."""

    model_config = with_examples({"inputs": EXAMPLE})

    def options(self) -> EmbedOptions:
        return EmbedOptions(of_tokens=True, **self._common())

    def shaped(self, results: Sequence[Result], model: str) -> list[list[list[float]]]:
        return [np.round(result.answer.vectors.astype(np.float64), TOKEN_DECIMALS).tolist() for result in results]


class SimilarityParameters(_Cutting):
    """How the sentences are read."""

    def options(self) -> EmbedOptions:
        return EmbedOptions(**self._common())


class SimilarityRequest(Request):
    """A sentence, and those that are compared with it."""

    model_config = with_examples({"inputs": COMPARED})

    inputs: ComparedSentences = Field(description="The sentences.")
    parameters: SimilarityParameters | None = Field(None, description="How they are read.")

    def items(self) -> Sequence[SimilarityItem]:
        return [self.inputs.item()]

    def options(self) -> EmbedOptions:
        return (self.parameters or SimilarityParameters.model_validate({})).options()

    def place(self, number: int, field: str) -> str:
        return f"parameters.{field}" if field in ("prompt_name", "prompt") else f"inputs.{field}" if field else "inputs"

    def shaped(self, results: Sequence[Result], model: str) -> list[float]:
        return list(results[0].answer.scores)


TEXT_EMBEDDINGS = TextEmbeddingsCodec(
    (
        DropInCodec(
            path="embed",
            request=TextEmbeddingsEmbedRequest,
            answer=list[list[float]],
            summary="Give texts their vectors",
            description="""The vector of each text, in a list, also for one text.

Where one of several texts cannot be answered, none is.""",
            advice='"truncate": true',
        ),
        DropInCodec(
            path="embed_all",
            request=EmbedAllRequest,
            answer=list[list[list[float]]],
            summary="Give tokens their vectors",
            description="""For each text the vectors of its tokens in their order, which `/tokenize` tells, as the transformer
gives them: neither pooled nor scaled, and those of special tokens and of a prompt, too.

Where one of several texts cannot be answered, none is.""",
            advice='"truncate": true',
        ),
        DropInCodec(
            path="similarity",
            request=SimilarityRequest,
            answer=list[float],
            summary="Compare sentences with one",
            description="The cosine of the vector of each of the sentences with that of the source sentence, in their order.",
            advice='"parameters": {"truncate": true}',
        ),
    ),
    "embedding",
    lambda manifest: {"embedding": {"pooling": manifest.task_options.get("pooling", "mean")}},
)


# OpenAI


class OpenAIEmbeddingsRequest(Request):
    """A text or several, and how their vectors are wished."""

    model_config = with_examples(
        {"input": EXAMPLE, "model": "embed"}, {"input": list(OTHERS), "model": "embed", "encoding_format": "base64"}
    )

    input: Inputs = Field(description=INPUTS)
    model: Annotated[str, StringConstraints(max_length=96)] | None = Field(
        None, description="A loaded model, as `name` or `name/version`; null, which OpenAI's own does not take: the default."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        "float",
        description="How a vector is written: a list of numbers, which null, too, asks for, or base64 of its float32 numbers,"
        " lowest byte first.",
    )
    dimensions: Dimensions | None = Field(
        None, description="How many numbers of a vector, of a model that was trained for fewer; null: all."
    )
    user: Annotated[str, StringConstraints(max_length=1024)] | None = Field(None, description="Changes nothing.")

    def items(self) -> Sequence[EmbedItem]:
        return items_of(self.input, "input")

    def options(self) -> EmbedOptions:
        return EmbedOptions(dimensions=self.dimensions, vector_encoding=self.encoding_format or "float")

    def place(self, number: int, field: str) -> str:
        return place_of(self.input, number, field, "input")

    def shaped(self, results: Sequence[Result], model: str) -> OpenAIEmbeddings:
        num_tokens = sum(result.num_tokens for result in results)
        data = [
            OpenAIEmbedding.model_construct(object="embedding", index=index, embedding=written(result.answer))
            for index, result in enumerate(results)
        ]
        usage = OpenAIUsage(prompt_tokens=num_tokens, total_tokens=num_tokens)
        return OpenAIEmbeddings.model_construct(object="list", data=data, model=model, usage=usage)


class OpenAIEmbedding(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = Field("embedding", description="What it is.")
    index: int = Field(description="The text's number, counted from 0.")
    embedding: list[float] | str = Field(description="The vector: a list of numbers, or `base64` of them.")


class OpenAIUsage(BaseModel):
    """What the request cost."""

    prompt_tokens: int = Field(description="Tokens that the model read, special tokens included.")
    total_tokens: int = Field(description="The same tokens: none are written.")


class OpenAIEmbeddings(BaseModel):
    """Vectors in the order of the texts."""

    object: Literal["list"] = Field("list", description="What it is.")
    data: list[OpenAIEmbedding] = Field(description="One for each text.")
    model: str = Field(description="Who answered, as name/version.")
    usage: OpenAIUsage = Field(description="What the request cost.")


OPENAI = (
    DropInCodec(
        path="v1/embeddings",
        request=OpenAIEmbeddingsRequest,
        answer=OpenAIEmbeddings,
        summary="Give texts their vectors",
        description="""The vector of each text, of length 1, as OpenAI's API gives them: point its client's `base_url` at `/v1`.

A text longer than the model reads is read in windows. Where one of several texts cannot be answered, none is.""",
        advice="",
    ),
)
