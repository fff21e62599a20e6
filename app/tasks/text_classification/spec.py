"""Text classification, as the rest of Hooper knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.fields import FieldSpec
from app.tasks.fields import POSSIBLE_TEXTS, TEXT_COLUMNS
from app.tasks.spec import NativeRoute, Served, TableSpec, TaskSpec, TextLine
from app.tasks.tables import lines_of
from app.tasks.text_classification.protocols import (
    CORRECTION,
    HUGGING_FACE,
    MULTI_LABEL,
    OPEN_INFERENCE,
    TEXT_EMBEDDINGS,
    native_items,
)
from app.tasks.text_classification.schemas import ClassifyRequest, ClassifyResult
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.zero_shot_classification import entailment
from app.tasks.zero_shot_classification import protocols as zero_shot
from app.tasks.zero_shot_classification.schemas import ZeroShotRequest, ZeroShotResult

NAME = "text-classification"
LABEL_WIDTH = 20

CLASSIFY = NativeRoute(
    path="v1/classify",
    request=ClassifyRequest,
    result=ClassifyResult,
    summary="Classify texts",
    description="""Labels with scores for a text, a pair of texts, or a list of them.

In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.""",
)
ZERO_SHOT = NativeRoute(
    path="v1/zero-shot",
    request=ZeroShotRequest,
    result=ZeroShotResult,
    summary="Choose among labels that you bring",
    description="""Scores of labels that the model was never trained on, for one text or a list of them. It is asked of each
label whether its sentence (`hypothesis_template`) follows from the text; all labels of all texts are read in the same batch.

Any classifier of pairs answers that has a label which begins with `entailment`: a model of natural language inference. Where
none is loaded, or where one is named, a model that gives texts their vectors answers by how similar the text and each label's
sentence are: `method` says which it was.
In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.""",
)
FIELDS = {
    "text": FieldSpec((*TEXT_COLUMNS, "sentence1", "premise", "question1"), possible=POSSIBLE_TEXTS),
    "text_pair": FieldSpec(
        ("text_pair", "sentence2", "hypothesis", "question2"),
        required=False,
        partners=("text", "sentence1", "premise", "question1"),
    ),
}
SEPARATOR = "|"
"""Between the selected labels in a cell: as training reads them."""


def joined_columns(task_options: Mapping[str, Any]) -> Mapping[str, Callable[[Mapping[str, Any]], str]]:
    return {"selected": selected_labels} if task_options.get("problem_type") == MULTI_LABEL else {}


def selected_labels(result: Mapping[str, Any]) -> str:
    return SEPARATOR.join(label["label"] for label in result["labels"] if label["selected"])


TABLE = TableSpec({"num_tokens": int, "truncated": bool}, "labels", {"label": str, "score": float}, joined_columns)


def lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    ranked = result["labels"]
    labels = [
        (label["score"], f"{'✓ ' if label.get('selected') else ''}{label['label']}")
        for rank, label in enumerate(ranked)
        if rank < max_labels or label.get("selected")
    ]
    return lines_of(fields.get("text", ""), labels, LABEL_WIDTH)


SPEC = TaskSpec(
    name=NAME,
    pipeline_tag="text-classification",
    title="Text classification",
    task=TextClassification,
    item=ClassificationItem,
    options=ClassificationOptions,
    routes=(
        Served(CLASSIFY, ClassifyResult.of),
        Served(
            ZERO_SHOT,
            ClassifyResult.of,
            entailment.arrange,
            entailment.pairs_of,
            entailment.options_of,
            entailment.refusal,
            zero_shot.HUGGING_FACE,
            zero_shot.OPEN_INFERENCE,
        ),
    ),
    fields=FIELDS,
    table=TABLE,
    lines=lines,
    native=native_items(NAME),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    text_embeddings=TEXT_EMBEDDINGS,
    correction=CORRECTION,
    training="scripts.tasks.text_classification:SPEC",
)
