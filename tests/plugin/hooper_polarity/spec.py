"""The one object by which Hooper knows the task: `pyproject.toml` names it under `hooper.tasks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.fields import FieldSpec
from app.tasks.fields import TEXT_COLUMNS
from app.tasks.spec import NativeRoute, OutputSpec, Served, TableSpec, TaskSpec, TextLine
from hooper_polarity.protocols import HUGGING_FACE, NATIVE, OPEN_INFERENCE
from hooper_polarity.schemas import MeasureRequest, MeasureResult
from hooper_polarity.task import PolarityItem, PolarityOptions, TextPolarity

MEASURE = NativeRoute(
    path="v1/measure",
    request=MeasureRequest,
    result=MeasureResult,
    summary="Measure how positive texts are",
    description="A number between -1 and 1 for a text, or for each of a list.",
)


def _lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    side = "positive" if result["polarity"] > 0 else "negative"
    return [TextLine(result["polarity"], side, 10, str(fields.get("text", "")))]


SPEC = TaskSpec(
    name="text-polarity",
    pipeline_tag="text-classification",
    title="Text polarity",
    task=TextPolarity,
    item=PolarityItem,
    options=PolarityOptions,
    routes=(Served(MEASURE, MeasureResult.of),),
    fields={"text": FieldSpec(TEXT_COLUMNS)},
    table=TableSpec({"polarity": float, "num_tokens": int, "truncated": bool}),
    lines=_lines,
    native=NATIVE,
    output=OutputSpec("row", num_features=2),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
)
