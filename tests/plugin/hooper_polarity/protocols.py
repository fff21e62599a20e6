"""The same in the words of other protocols. Those that are left out here answer 404 in their own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.spec import BodyExample, HuggingFaceCodec, NativeItems, OpenInferenceCodec
from hooper_polarity.task import PolarityItem, PolarityOptions


def _native_item(value: Any) -> PolarityItem | InvalidInput:
    return PolarityItem(value) if isinstance(value, str) else InvalidInput("should be a text: the model is for text-polarity")


def _columns(results: Sequence[Result]) -> tuple[dict[str, list[Any]], list[int]]:
    return {"polarity": [result.answer.polarity for result in results]}, [len(results)]


NATIVE = NativeItems((str,), _native_item)
HUGGING_FACE = HuggingFaceCodec(
    inputs="polarity: a text",
    wanted="a text",
    item=lambda value: PolarityItem(value) if isinstance(value, str) else None,
    parameters={},
    options=lambda parameters: PolarityOptions(),
    answer=lambda result: {"polarity": result.answer.polarity},
    answers=(dict[str, float],),
    example=BodyExample("polarity", {"inputs": "A warm, funny film."}),
)
OPEN_INFERENCE = OpenInferenceCodec(
    inputs=("text",),
    outputs={"polarity": "FP32"},
    rank=1,
    items=lambda texts: [PolarityItem(text) for text in texts["text"]],
    columns=_columns,
    native_item="a",
    description="Polarity: `text` to `polarity`, (items,).",
    example=BodyExample(
        "polarity", {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["A warm, funny film."]}]}
    ),
)
