"""What tasks have alike where they speak other protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError, WrapValidator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.spec import BodyExample

Columns = tuple[dict[str, list[Any]], list[int]]
"""The data of all outputs of the Open Inference Protocol, and their shape."""


def in_one_sentence(forms: str) -> WrapValidator:
    """What is wrong with each form that a value could have had says less than which forms there are."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"should be {forms}") from None

    return WrapValidator(validate)


def one_text(kind: Callable[[str], Any], why: str) -> Callable[[Any], Any]:
    """As `NativeItems.item` wants it, of a task whose items are single texts.

    Args:
        kind: from a text to the task's item.
        why: what the model does with one, for whoever sends something else.
    """

    def item(value: Any) -> Any:
        text = value if isinstance(value, str) else getattr(value, "text", None)
        if isinstance(text, str) and getattr(value, "text_pair", None) is None:
            return kind(text)
        return InvalidInput(f"should be one text: {why}")

    return item


def hub_parameters(family: str, **parameters: tuple[Any, str]) -> dict[str, tuple[Any, Any]]:
    """As `HuggingFaceCodec.parameters` wants them, from types and descriptions, each of which begins with the family's name."""
    return {name: (None | kind, Field(None, description=f"{family}: {text}.")) for name, (kind, text) in parameters.items()}


def json_columns(key: str, told: Callable[[Result], BaseModel]) -> Callable[[Sequence[Result]], Columns]:
    """As `OpenInferenceCodec.columns` wants it, where the one output is JSON of the list under this key of a native result."""

    def columns(results: Sequence[Result]) -> Columns:
        lists = [told(result).model_dump()[key] for result in results]
        return {key: [json.dumps(entries, ensure_ascii=False) for entries in lists]}, [len(results)]

    return columns


def tensors_example(model: str, parameters: Mapping[str, Any] | None = None, **texts: Sequence[str]) -> BodyExample:
    """A body of the Open Inference Protocol with these tensors of texts."""
    inputs = [{"name": name, "shape": [len(data)], "datatype": "BYTES", "data": list(data)} for name, data in texts.items()]
    return BodyExample(model, {"inputs": inputs, **({"parameters": parameters} if parameters else {})})


def label_columns(rows: Sequence[Sequence[Any]]) -> Columns:
    """The tensors `label` and `score`, (items, labels), of items that all have as many labels."""
    columns = {name: [getattr(entry, name) for labels in rows for entry in labels] for name in ("label", "score")}
    return columns, [len(rows), len(rows[0])]
