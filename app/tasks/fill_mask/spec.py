"""Fill-mask, as the rest of Hooper knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.tasks.fill_mask.protocols import HUGGING_FACE, NATIVE, OPEN_INFERENCE
from app.tasks.fill_mask.schemas import FillRequest, FillResult
from app.tasks.fill_mask.task import FillMask, FillOptions, MaskedItem
from app.tasks.spec import NativeRoute, OutputSpec, Served, TableSpec, TaskSpec, TextLine
from app.tasks.tables import lines_of
from app.tasks.text_classification.spec import FIELDS

WIDTH = 24
SEPARATOR = "|"
"""Between what stands at several masks of a text."""

FILL = NativeRoute(
    path="v1/fill",
    request=FillRequest,
    result=FillResult,
    summary="Fill the masks of a text",
    description="""For each mask of a text the tokens that may stand there, with their probabilities; for one text or a list.

The mask is the model's own token, such as `[MASK]`; each one is filled for itself, and the others stay masks.
Of a long text, each mask is read with what stands around it.
In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.""",
)


def _lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    fills = [
        (fill["score"], f"{number}: {fill['token']}" if len(result["masks"]) > 1 else fill["token"])
        for number, mask in enumerate(result["masks"], start=1)
        for fill in mask["fills"][:max_labels]
    ]
    return lines_of(fields.get("text", ""), fills, WIDTH)


def _joined(task_options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The best token of each mask, and its score."""
    return {
        "token": lambda result: SEPARATOR.join(mask["fills"][0]["token"] for mask in result["masks"]),
        "score": lambda result: SEPARATOR.join(f"{mask['fills'][0]['score']:.6g}" for mask in result["masks"]),
    }


SPEC = TaskSpec(
    name="fill-mask",
    pipeline_tag="fill-mask",
    title="Fill-mask",
    task=FillMask,
    item=MaskedItem,
    options=FillOptions,
    routes=(Served(FILL, FillResult.of),),
    fields={"text": FIELDS["text"]},
    table=TableSpec({"num_tokens": int, "truncated": bool}, joined=_joined),
    lines=_lines,
    native=NATIVE,
    output=OutputSpec("position"),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    training="scripts.tasks.fill_mask:SPEC",
    is_trained=False,
)
