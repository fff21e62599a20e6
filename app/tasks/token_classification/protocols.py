"""Tags in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.labels import unknown_label
from app.tasks.protocols import hub_parameters, json_columns, one_text, tensors_example
from app.tasks.schemas import Request
from app.tasks.spec import BodyExample, CorrectionCodec, Gold, HuggingFaceCodec, NativeItems, OpenInferenceCodec
from app.tasks.token_classification.schemas import EXAMPLE, TagResult
from app.tasks.token_classification.task import OUTSIDE, OVERLAP, Entities, TagItem, TagOptions, keys_of, label_parts

MAX_ENTITIES = 1000
LabelText = Annotated[str, StringConstraints(max_length=256)]
NATIVE = NativeItems((str,), one_text(TagItem, "the model labels its tokens"), ({"inputs": EXAMPLE, "method": "occlusion"},))


# Hugging Face


class TokenLabel(BaseModel):
    """A span of the text and its label, as the specification has it."""

    model_config = ConfigDict(json_schema_extra={"description": "An entity (`entity_group`), or a token (`entity`)."})

    entity_group: str | None = Field(None, description="The label of an entity; not there with the strategy `none`.")
    entity: str | None = Field(None, description="The label of a token, with its prefix; only with the strategy `none`.")
    score: float = Field(description="Its probability, between 0 and 1.")
    word: str = Field(description="Its characters, as they stand in the text.")
    start: int = Field(description="Its first character in the text.")
    end: int = Field(description="The character after its last.")


def _hub_options(parameters: Any) -> TagOptions:
    ignored = parameters.ignore_labels
    return TagOptions(
        aggregation=parameters.aggregation_strategy or "simple",  # what the hosted API takes where nothing is said
        stride=OVERLAP if parameters.stride is None else parameters.stride,
        ignored=(OUTSIDE,) if ignored is None else tuple(ignored),
    )


def _token_labels(result: Result) -> list[dict[str, Any]]:
    name = "entity_group" if result.answer.is_grouped else "entity"
    return [
        {name: entity.label, "score": entity.score, "word": entity.text, "start": entity.start, "end": entity.end}
        for entity in result.answer.entities
    ]


HUGGING_FACE = HuggingFaceCodec(
    inputs="token classification: a text",
    wanted="a text",
    item=lambda value: TagItem(value) if isinstance(value, str) else None,
    parameters=hub_parameters(
        "Token classification",
        aggregation_strategy=(
            Literal["none", "simple", "first", "average", "max"],
            "how tokens become entities; null: `simple`",
        ),
        ignore_labels=(
            Annotated[list[LabelText], Field(fail_fast=True, max_length=MAX_ENTITIES)],
            "labels that are left out; null: `O`",
        ),
        stride=(
            Annotated[int, Field(ge=0, strict=True)],
            f"tokens that two windows of a long text share; null: {OVERLAP}",
        ),
    ),
    options=_hub_options,
    answer=_token_labels,
    answers=(list[TokenLabel],),
    example=BodyExample("ner", {"inputs": EXAMPLE, "parameters": {"aggregation_strategy": "first"}}),
    for_hub_client=lambda answer, parameters: answer,  # the specification's list is what the clients read
)


# Open Inference Protocol


OPEN_INFERENCE = OpenInferenceCodec(
    outputs={"entities": "BYTES"},
    items=lambda texts: [TagItem(text) for text in texts["text"]],
    columns=json_columns("entities", TagResult.of),
    description="Token classification: `text` to `entities`, (items,): for each item a JSON list of objects with `label`,"
    " `text`, `start`, `end` and `score`.",
    example=tensors_example("ner", text=[EXAMPLE]),
)


# corrections


class RightEntity(Request):
    """An entity that the text has."""

    start: Annotated[int, Field(ge=0, strict=True)] = Field(description="Its first character, counted from 0.")
    end: Annotated[int, Field(ge=1, strict=True)] = Field(description="The character after its last.")
    label: LabelText = Field(description="Its label, without a prefix.")


class TaggedText(Request):
    """A text and all the entities that it has."""

    text: str = Field(description="The text; one character or more that is not a space.")
    entities: Annotated[list[RightEntity], Field(fail_fast=True), Field(max_length=MAX_ENTITIES)] = Field(
        description="Every entity of the text; an empty list: it has none."
    )


def _gold(correction: TaggedText, item: TagItem, allows_new: bool, task_options: Mapping[str, Any]) -> Gold:
    known = {part.type for part in label_parts(task_options["labels"])} - {OUTSIDE}
    last_end = 0
    entities = sorted(correction.entities, key=lambda entity: entity.start)
    for entity in entities:
        number = correction.entities.index(entity)
        if entity.start >= entity.end or entity.end > len(item.text):
            raise InvalidInput(
                f"has no characters: the text has {len(item.text)}, from {entity.start} to {entity.end} there are none",
                f"entities.{number}",
            )
        if entity.start < last_end:
            raise InvalidInput("overlaps another one", f"entities.{number}")
        if not entity.label.strip() or (entity.label not in known and not allows_new):
            raise unknown_label(sorted(known), f"entities.{number}.label")
        last_end = entity.end
    return {"entities": [entity.model_dump() for entity in entities]}


def _agrees(answer: Entities, correction: TaggedText) -> bool:
    right = {(entity.label, entity.start, entity.end) for entity in correction.entities}
    return keys_of(answer) == right


CORRECTION = CorrectionCodec(
    schema=TaggedText,
    marks=frozenset({"entities"}),
    wanted="`text` and `entities`",
    item=lambda sent: TagItem(sent.text),
    gold=_gold,
    agrees=_agrees,
    training_row=lambda item, gold: {**item, "entities": list(gold["entities"])},
    examples=({"inputs": {"text": "Anna lives in Bern.", "entities": []}, "source": "support"},),
)
