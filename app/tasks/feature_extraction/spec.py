"""Feature extraction, as the rest of Hooper knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.tasks.feature_extraction.protocols import HUGGING_FACE, NATIVE, OPEN_INFERENCE, OPENAI, TEXT_EMBEDDINGS
from app.tasks.feature_extraction.schemas import EmbedRequest, EmbedResult
from app.tasks.feature_extraction.task import EmbedItem, EmbedOptions, FeatureExtraction
from app.tasks.spec import NativeRoute, Served, TableSpec, TaskSpec, TextLine
from app.tasks.text_classification.spec import FIELDS, TABLE, ZERO_SHOT, lines
from app.tasks.text_ranking import cosine
from app.tasks.text_ranking.spec import RERANK
from app.tasks.zero_shot_classification import protocols as zero_shot
from app.tasks.zero_shot_classification import similarity

NUM_SHOWN = 4
"""Components that a line on a terminal shows."""
WIDTH = 48
BYTES_PER_NUMBER = 13
"""Of a component in JSON, such as `-0.01234567, `; in base64 it takes fewer."""

EMBED = NativeRoute(
    path="v1/embed",
    request=EmbedRequest,
    result=EmbedResult,
    summary="Give texts their vectors",
    description="""A vector for a text, or for each of a list: texts that mean much the same have vectors that point alike.

A text of any length is read: the vector of a long one is the mean of those of its windows. In a list, an item that cannot be
answered gets an `error` in its place, and the others are answered.""",
)


def _lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    vector = result["embedding"]
    shown = ", ".join(f"{value:.4f}" for value in vector[:NUM_SHOWN])
    more = ", …" if len(vector) > NUM_SHOWN else ""
    return [TextLine(None, f"{len(vector)} numbers: {shown}{more}", WIDTH, str(fields.get("text", "")))]


def _answer_bytes(task_options: Mapping[str, Any], options: EmbedOptions) -> tuple[int, int]:
    if options.of_tokens:
        return 0, BYTES_PER_NUMBER * int(task_options.get("token_dimensions", 0))
    return BYTES_PER_NUMBER * (options.dimensions or int(task_options["dimensions"])), 0


def _vector_size(task_options: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    return options.get("dimensions") or int(task_options["dimensions"])


SPEC = TaskSpec(
    name="feature-extraction",
    pipeline_tag="feature-extraction",
    title="Feature extraction",
    task=FeatureExtraction,
    item=EmbedItem,
    options=EmbedOptions,
    routes=(
        Served(EMBED, EmbedResult.of),
        Served(RERANK, EmbedResult.of, cosine.arrange, cosine.similarity_item, cosine.options_of),
        Served(
            ZERO_SHOT,
            EmbedResult.of,
            similarity.arrange,
            similarity.items_of,
            similarity.options_of,
            hugging_face=zero_shot.HUGGING_FACE,
            open_inference=zero_shot.OPEN_INFERENCE,
            table=TABLE,
            lines=lines,
        ),
    ),
    fields={"text": FIELDS["text"]},
    table=TableSpec({"embedding": list, "num_tokens": int, "truncated": bool}, vector="embedding", vector_size=_vector_size),
    lines=_lines,
    native=NATIVE,
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    text_embeddings=replace(TEXT_EMBEDDINGS, routes=(*TEXT_EMBEDDINGS.routes, cosine.TEXTS_BY_COSINE)),
    openai=OPENAI,
    training="scripts.tasks.feature_extraction:SPEC",
    answer_bytes=_answer_bytes,
)
