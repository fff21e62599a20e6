"""`POST /predict` and `GET /info`: text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from app.api.schemas.classify import Label
from app.api.schemas.common import Request
from app.core.errors import EmptyBatch
from app.serving.deployment import Deployment
from app.tasks.base import Result
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


def _in_one_sentence(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """What is wrong with each form that the inputs could have had says less than which forms there are."""
    try:
        return handler(value)
    except ValidationError:
        raise ValueError("should be a text, a pair [text, text], or a batch [[text], [text, text], …]") from None


def _in_either_case(value: Any) -> Any:
    """The protocol's file writes the sides with a capital, and its default without."""
    return value.capitalize() if value in ("left", "right") else value


Pair = Annotated[list[str], Field(fail_fast=True), Field(min_length=2, max_length=2, description="A pair.")]
Batch = Annotated[
    list[Annotated[list[str], Field(fail_fast=True), Field(min_length=1, max_length=2)]],
    Field(fail_fast=True),
    Field(description="A batch of texts and pairs."),
]


class PredictRequest(Request):
    """A text, a pair or a batch, and how to score it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"inputs": "A warm, funny film that I would happily watch again."},
                {"inputs": [["Great value."], ["It broke after two days."]], "raw_scores": True},
            ]
        },
    )

    inputs: Annotated[str | Pair | Batch, WrapValidator(_in_one_sentence)] = Field(
        description="A text; or a list of two texts: a pair; or a batch, a list of lists of one text or of a pair. A list of"
        " any other number of texts is refused."
    )
    raw_scores: Annotated[bool, Field(strict=True)] = Field(False, description="Scores are the model's raw logits.")
    truncate: Annotated[bool, Field(strict=True)] | None = Field(
        False, description="Cut a text longer than the model reads; without it, such a text is refused."
    )
    truncation_direction: Annotated[Literal["Left", "Right"], BeforeValidator(_in_either_case)] = Field(
        "Right",
        description="The end of a text that is cut off; in lower case, too. Where it is not sent, the end that the model's"
        " tokenizer cuts off, which nearly always is the right one.",
    )

    @property
    def is_batch(self) -> bool:
        return isinstance(self.inputs, list) and not isinstance(self.inputs[0], str)

    def items(self) -> Sequence[ClassificationItem]:
        """
        Raises:
            EmptyBatch: the inputs are an empty list.
        """
        if isinstance(self.inputs, str):
            return [ClassificationItem(self.inputs)]
        if not self.inputs:
            raise EmptyBatch("must not be empty", "inputs")
        sequences: list[Any] = self.inputs if self.is_batch else [self.inputs]
        return [ClassificationItem(*sequence) for sequence in sequences]

    def options(self) -> ClassificationOptions:
        sent = "truncation_direction" in self.model_fields_set
        return ClassificationOptions(
            activation="none" if self.raw_scores else None,
            truncation="truncate" if self.truncate else "error",
            truncation_side=("left" if self.truncation_direction == "Left" else "right") if sent else None,
        )

    def place(self, number: int, field: str) -> str:
        """How the caller names a text."""
        outer = f"inputs.{number}" if self.is_batch else "inputs"
        return outer if isinstance(self.inputs, str) else f"{outer}.{int(field == 'text_pair')}"

    def shaped(self, results: Sequence[Result]) -> list[Label] | list[list[Label]]:
        """Labels, best first; for a batch a list of them."""
        each = [[Label.model_construct(label=one.label, score=one.score) for one in result.answer.labels] for result in results]
        return each if self.is_batch else each[0]


class Classifier(BaseModel):
    """The labels of a classifier."""

    id2label: dict[str, str] = Field(
        description="Number of each label to the label.", examples=[{"0": "negative", "1": "positive"}]
    )
    label2id: dict[str, int] = Field(description="Label to its number.", examples=[{"negative": 0, "positive": 1}])


class ModelType(BaseModel):
    """What the model does."""

    classifier: Classifier


class Info(BaseModel):
    """The model behind `/predict`, and the limits of the service."""

    model_id: str = Field(description="The model, as name/version.", examples=["sentiment/1"])
    model_sha: str = Field(description="SHA-256 of its ONNX file.")
    model_dtype: str = Field(description="Arithmetic of the engine.", examples=["float32"])
    served_model_name: str = Field(description="The name under which other routes know it.", examples=["sentiment"])
    model_type: ModelType
    max_concurrent_requests: int = Field(description="Texts that may wait for the engine; more are turned away with 429.")
    max_input_length: int = Field(description="Tokens that the model reads, special tokens included.")
    max_batch_tokens: int = Field(description="Tokens that one batch of the engine may cost.")
    max_batch_requests: int = Field(description="Texts that one batch of the engine may hold.")
    max_client_batch_size: int = Field(description="Texts or pairs that one request may hold.")
    auto_truncate: Literal[False] = Field(description="Longer texts are cut only where `truncate` says so.")
    tokenization_workers: int = Field(description="Texts are tokenized within the one process.")
    version: str = Field(description="Of Hooper.", examples=["0.1.0"])
    sha: None = Field(description="Not told.")
    docker_label: None = Field(description="Not told.")

    @classmethod
    def of(cls, one: Deployment, max_items: int, version: str) -> Info:
        manifest, budget = one.manifest, one.scheduler.budget
        labels: list[str] = manifest.task_options["labels"]
        return cls(
            model_id=f"{manifest.name}/{manifest.version}",
            model_sha=manifest.files[manifest.graph.file].sha256,
            model_dtype=DTYPES[one.provider.precision],
            served_model_name=manifest.name,
            model_type=ModelType(
                classifier=Classifier(
                    id2label={str(number): label for number, label in enumerate(labels)},
                    label2id={label: number for number, label in enumerate(labels)},
                )
            ),
            max_concurrent_requests=one.scheduler.limit.max_rows,
            max_input_length=manifest.max_tokens,
            max_batch_tokens=budget.max_batch_tokens,
            max_batch_requests=budget.max_batch_rows,
            max_client_batch_size=max_items,
            auto_truncate=False,
            tokenization_workers=1,
            version=version,
            sha=None,
            docker_label=None,
        )
