"""Token classification, as the rest of Hooper knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.tasks.spec import NativeRoute, OutputSpec, Served, TableSpec, TaskSpec, TextLine
from app.tasks.tables import lines_of
from app.tasks.text_classification.spec import FIELDS
from app.tasks.token_classification.protocols import CORRECTION, HUGGING_FACE, NATIVE, OPEN_INFERENCE
from app.tasks.token_classification.schemas import TagRequest, TagResult
from app.tasks.token_classification.task import TagItem, TagOptions, TokenClassification

WIDTH = 40

TAG = NativeRoute(
    path="v1/tag",
    request=TagRequest,
    result=TagResult,
    summary="Find the entities of a text",
    description="""The entities of a text, such as persons and places, with their characters in it; for one text or a list.

A text of any length is read: in windows that overlap, all of them in the same batch; no entity is cut at a window's border.
In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.""",
)


def _lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    found = [(entity["score"], f"{entity['label']}: {entity['text']}") for entity in result["entities"]]
    return lines_of(fields.get("text", ""), found or [(None, "(no entity)")], WIDTH)


SPEC = TaskSpec(
    name="token-classification",
    pipeline_tag="token-classification",
    title="Token classification",
    task=TokenClassification,
    item=TagItem,
    options=TagOptions,
    routes=(Served(TAG, TagResult.of),),
    fields={"text": replace(FIELDS["text"], token_columns=("tokens", "words", "token", "word"))},
    table=TableSpec(
        {"num_tokens": int, "truncated": bool},
        "entities",
        {"label": str, "text": str, "start": int, "end": int, "score": float},
    ),
    lines=_lines,
    native=NATIVE,
    output=OutputSpec("token"),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    correction=CORRECTION,
    training="scripts.tasks.token_classification:SPEC",
)
