"""Zero-shot classification in the words of other protocols, whichever task's model answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from app.tasks.protocols import hub_parameters, label_columns, tensors_example
from app.tasks.schemas import Flag
from app.tasks.spec import BodyExample, HuggingFaceCodec, OpenInferenceCodec
from app.tasks.text_classification.schemas import Label
from app.tasks.zero_shot_classification.schemas import (
    EXAMPLE,
    MAX_LABELS,
    MAX_TEMPLATE_CHARACTERS,
    LabelNames,
    LabelText,
)

LABELS = ("complaint", "question", "praise")


def _request_fields(parameters: Any) -> dict[str, Any]:
    fields = {
        "labels": parameters.candidate_labels,
        "hypothesis_template": parameters.hypothesis_template,
        "multi_label": parameters.multi_label,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _plain(result: Any) -> list[Label]:
    return [Label.model_construct(label=entry.label, score=entry.score) for entry in result.labels]


class LabelsAndScores(BaseModel):
    """The labels of one text as Hugging Face's clients read them: two lists, as transformers' pipeline has them."""

    labels: list[str] = Field(description="The labels, best first.")
    scores: list[float] = Field(description="The score of each.")


def _for_hub_client(answer: list[Label], parameters: Any) -> LabelsAndScores:
    return LabelsAndScores(labels=[entry.label for entry in answer], scores=[entry.score for entry in answer])


HUGGING_FACE = HuggingFaceCodec(
    inputs="zero-shot classification: a text, with `candidate_labels` among the parameters",
    wanted="a text",
    item=lambda value: value if isinstance(value, str) else None,
    parameters={
        **hub_parameters(
            "Zero-shot classification, which this asks for",
            candidate_labels=(LabelText | LabelNames, f"1 to {MAX_LABELS} labels, in a list or with commas between"),
        ),
        **hub_parameters(
            "Zero-shot classification",
            hypothesis_template=(
                Annotated[str, StringConstraints(max_length=MAX_TEMPLATE_CHARACTERS)],
                "the sentence that a label becomes, with `{}` in its place",
            ),
            multi_label=(Flag, "whether each label is scored for itself"),
        ),
    },
    options=_request_fields,
    answer=_plain,
    answers=(list[Label], LabelsAndScores),
    example=BodyExample("embed", {"inputs": EXAMPLE, "parameters": {"candidate_labels": list(LABELS)}}),
    for_hub_client=_for_hub_client,
    mark="candidate_labels",
    renamed={"labels": "candidate_labels"},
)


OPEN_INFERENCE = OpenInferenceCodec(
    outputs={"label": "BYTES", "score": "FP32"},
    rank=2,
    items=lambda texts: list(texts["text"]),
    columns=lambda results: label_columns([result.labels for result in results]),  # type: ignore[attr-defined]
    description="With the parameter `labels`, zero-shot classification: `text` to `label` and `score`, (items, labels).",
    example=tensors_example("embed", {"labels": list(LABELS)}, text=[EXAMPLE]),
    mark="labels",
)
