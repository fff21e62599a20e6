"""Labels of texts and pairs in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from app.core.errors import EmptyBatch, InvalidInput
from app.core.manifest import Manifest
from app.tasks.base import Result, refuse_text
from app.tasks.labels import clean_label, unknown_label
from app.tasks.protocols import Columns, hub_parameters, in_one_sentence, label_columns, tensors_example
from app.tasks.schemas import Count, Flag, Request, with_examples
from app.tasks.spec import (
    BodyExample,
    CorrectionCodec,
    DropInCodec,
    Gold,
    HuggingFaceCodec,
    NativeItems,
    OpenInferenceCodec,
    TextEmbeddingsCodec,
)
from app.tasks.text_classification.schemas import Label, TextPair
from app.tasks.text_classification.task import Classification, ClassificationItem, ClassificationOptions, SelectableLabel
from app.tasks.text_embeddings import TruncateField, TruncationDirectionField, cut_by, label_numbers

SENTENCE = "A warm, funny film that I would happily watch again."
MULTI_LABEL = "multi_label_classification"
MAX_LABELS = 1000


def labels_of(result: Result) -> list[Label]:
    return [Label.of(label) for label in result.answer.labels]


def _plain_labels(result: Result) -> list[Label]:
    """As protocols whose shape has no room for more."""
    return [Label.model_construct(label=label.label, score=label.score) for label in result.answer.labels]


def item_of(value: Any) -> ClassificationItem | None:
    """From a text or a pair; None: it is neither."""
    if isinstance(value, str):
        return ClassificationItem(value)
    return ClassificationItem(value.text, value.text_pair) if isinstance(value, TextPair) else None


def native_items(task: str) -> NativeItems:
    def item(value: Any) -> ClassificationItem | InvalidInput:
        return item_of(value) or InvalidInput(f"should be a text: the model is for {task}")

    example = {"inputs": "I expected a boring film, but it was not bad at all: the actors are superb."}
    return NativeItems((str, TextPair), item, (example,))


# Hugging Face


def _hub_options(parameters: Any) -> ClassificationOptions:
    return ClassificationOptions(parameters.top_k, parameters.function_to_apply)


HUGGING_FACE = HuggingFaceCodec(
    inputs="classification: a text, or a pair",
    wanted="a text or an object with `text` and `text_pair`",
    item=item_of,
    parameters=hub_parameters(
        "Classification",
        function_to_apply=(
            Literal["sigmoid", "softmax", "none"],
            "turns the model's logits into scores; null: what the model was trained with",
        ),
        top_k=(Count, "how many labels, best first; null: all"),
    ),
    options=_hub_options,
    answer=labels_of,
    answers=(list[Label],),
    example=BodyExample("sentiment", {"inputs": SENTENCE, "parameters": {"top_k": 1}}),
)


# Open Inference Protocol


def _tensor_items(texts: Mapping[str, Sequence[str]]) -> list[Any]:
    pairs: Sequence[str | None] = texts.get("text_pair") or [None] * len(texts["text"])
    return [ClassificationItem(*fields) for fields in zip(texts["text"], pairs, strict=True)]


def _tensor_columns(results: Sequence[Result]) -> Columns:
    rows = [result.answer.labels for result in results]
    columns, shape = label_columns(rows)
    if isinstance(rows[0][0], SelectableLabel):
        columns["selected"] = [label.selected for labels in rows for label in labels]
    return columns, shape


OPEN_INFERENCE = OpenInferenceCodec(
    optional=("text_pair",),
    outputs={"label": "BYTES", "score": "FP32"},
    model_outputs=lambda options: {"selected": "BOOL"} if options.get("problem_type") == MULTI_LABEL else {},
    rank=2,
    items=_tensor_items,
    columns=_tensor_columns,
    description="Classification: `text`, and `text_pair` for pairs, to `label` and `score`, (items, labels); of models that"
    " give a text any number of labels also `selected`.",
    example=tensors_example("sentiment", {"top_k": 1}, text=["Great value.", "It broke after two days."]),
)


# text-embeddings-inference


FORMS = "a text, a pair [text, text], or a batch [[text], [text, text], …]"
Pair = Annotated[list[str], Field(fail_fast=True), Field(min_length=2, max_length=2, description="A pair.")]
Batch = Annotated[
    list[Annotated[list[str], Field(fail_fast=True), Field(min_length=1, max_length=2)]],
    Field(fail_fast=True),
    Field(description="A batch of texts and pairs."),
]


class PredictRequest(Request):
    """A text, a pair or a batch, and how to score it."""

    model_config = with_examples(
        {"inputs": SENTENCE}, {"inputs": [["Great value."], ["It broke after two days."]], "raw_scores": True}
    )

    inputs: Annotated[str | Pair | Batch, in_one_sentence(FORMS)] = Field(
        description="A text; or a list of two texts: a pair; or a batch, a list of lists of one text or of a pair. A list of"
        " any other number of texts is refused."
    )
    raw_scores: Flag = Field(False, description="Scores are the model's raw logits.")
    truncate: TruncateField = False
    truncation_direction: TruncationDirectionField = "Right"

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
        cut = cut_by(self, self.truncate, self.truncation_direction)
        return ClassificationOptions(activation="none" if self.raw_scores else None, **cut)

    def place(self, number: int, field: str) -> str:
        """How the caller names a text."""
        outer = f"inputs.{number}" if self.is_batch else "inputs"
        return outer if isinstance(self.inputs, str) else f"{outer}.{int(field == 'text_pair')}"

    def shaped(self, results: Sequence[Result], model: str) -> list[Label] | list[list[Label]]:
        """Labels, best first; for a batch a list of them."""
        each = [_plain_labels(result) for result in results]
        return each if self.is_batch else each[0]


def _classifier(manifest: Manifest) -> dict[str, Any]:
    return {"classifier": label_numbers(manifest.task_options["labels"])}


PREDICT = DropInCodec(
    path="predict",
    request=PredictRequest,
    answer=list[Label] | list[list[Label]],
    summary="Classify a text, a pair or a batch",
    description="""Labels of a text or of a pair, best first; for a batch, a list of them.

`["a", "b"]` is a pair, `[["a"], ["b"]]` a batch of two texts. Where one of a batch cannot be answered, none is.""",
    advice='"truncate": true',
)
TEXT_EMBEDDINGS = TextEmbeddingsCodec((PREDICT,), "classifier", _classifier)


# corrections

LabelText = Annotated[str, StringConstraints(max_length=256)]


class LabelledText(Request):
    """A text, or a pair of texts, and the label or labels that it should have."""

    text: str = Field(description="The text; one character or more that is not a space.")
    text_pair: str | None = Field(None, description="The second text of a pair.")
    label: LabelText | None = Field(None, description="The right label, for a model that gives each text one.")
    labels: Annotated[list[LabelText], Field(fail_fast=True), Field(max_length=MAX_LABELS)] | None = Field(
        None, description="All right labels, for a model that gives a text any number of them; an empty list: none holds."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> LabelledText:
        if (self.label is None) == (self.labels is None):
            raise ValueError("should have either `label` or `labels`")
        return self

    @property
    def field(self) -> str:
        return "labels" if self.label is None else "label"

    @property
    def all_labels(self) -> Sequence[str]:
        return [self.label] if self.label is not None else self.labels or []


def _gold(correction: LabelledText, item: ClassificationItem, allows_new: bool, task_options: Mapping[str, Any]) -> Gold:
    is_multi = task_options.get("problem_type") == MULTI_LABEL
    if correction.field == "labels" and not is_multi:
        raise InvalidInput("the model gives each text one label; send it as `label`", "labels")
    model_labels: Sequence[str] = task_options["labels"]
    for label in correction.all_labels:
        _check_label(label, correction.field, model_labels, allows_new)
    labels = sorted({_spelled(label, model_labels) for label in correction.all_labels})
    return {"labels": labels} if is_multi else {"label": labels[0]}


def _check_label(label: str, field: str, model_labels: Sequence[str], allows_new: bool) -> None:
    error = refuse_text(label, field)
    if error is not None:
        raise error
    if not clean_label(label):
        raise InvalidInput("must not be empty", field)
    if _spelled(label, model_labels) not in model_labels and not allows_new:
        raise unknown_label(model_labels, field)


def _spelled(label: str, model_labels: Sequence[str]) -> str:
    """The model's own spelling of a label that looks the same, else the label as it looks."""
    cleaned = clean_label(label)
    return next((name for name in model_labels if clean_label(name) == cleaned), cleaned)


def _agrees(answer: Classification, correction: LabelledText) -> bool:
    if correction.label is not None:
        return clean_label(answer.labels[0].label) == clean_label(correction.label)
    selected = {clean_label(label.label) for label in answer.labels if isinstance(label, SelectableLabel) and label.selected}
    return selected == {clean_label(label) for label in correction.all_labels}


def _training_row(item: Mapping[str, Any], gold: Gold) -> dict[str, Any]:
    return {**item, "label": gold["label"] if "label" in gold else list(gold["labels"])}


CORRECTION = CorrectionCodec(
    schema=LabelledText,
    marks=frozenset(),
    wanted="`text` and `label`",
    item=lambda sent: ClassificationItem(sent.text, sent.text_pair),
    gold=_gold,
    agrees=_agrees,
    training_row=_training_row,
    examples=(
        {
            "inputs": [{"text": "Not a single dull minute, and yet I was glad when it ended.", "label": "mixed"}],
            "allow_new_labels": True,
        },
    ),
)
