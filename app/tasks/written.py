"""What the specs of tasks that write have alike: columns and lines of their answers, and corrections of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, create_model

from app.tasks.base import refuse_text
from app.tasks.generation import GeneratedText, SourceText
from app.tasks.protocols import one_text
from app.tasks.schemas import Request
from app.tasks.spec import CorrectionCodec, Gold, NativeItems, TableSpec, TextLine

NATIVE = NativeItems((str,), one_text(SourceText, "the model writes another from it"))


def written_table(key: str) -> TableSpec:
    """The columns of a written answer: the text under this key of a result, and how it was written."""
    return TableSpec({key: str, "finish_reason": str, "num_new_tokens": int, "num_tokens": int, "truncated": bool})


def written_lines(key: str) -> Callable[[Mapping[str, Any], Mapping[str, Any], int], Sequence[TextLine]]:
    """As `TaskSpec.lines` wants it, of a written answer: the text under this key of a result, then its alternatives."""
    return lambda fields, result, max_labels: [TextLine(None, text) for text in (result[key], *(result["alternatives"] or ()))]


def _schema(name: str, required: Mapping[str, str], optional: Mapping[str, str]) -> type[Request]:
    """Of a text and other texts, each with its sentence."""
    schema: type[Request] = create_model(  # type: ignore[call-overload]
        name,
        __base__=Request,
        __doc__="A text, and what should have been written for it.",
        text=(str, Field(description="The text that was read.")),
        **{field: (str, Field(description=text)) for field, text in required.items()},
        **{field: (str | None, Field(None, max_length=35, description=text)) for field, text in optional.items()},
    )
    return schema


@dataclass(frozen=True, slots=True)
class AskedOptions:
    """Options of a request that a correction may name, since the text is another one with others."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Their names, with a sentence each for the schema; null: not sent."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The columns that they have in the row that is trained on, where they were kept."""
    asked: Callable[[Any, Any], Mapping[str, Any]] = lambda sent, task: {}
    """See `CorrectionCodec`."""


NO_OPTIONS = AskedOptions()


def correction_of(
    name: str, key: str, described: str, example: tuple[str, str], options: AskedOptions = NO_OPTIONS
) -> CorrectionCodec:
    """
    Args:
        key: of the better text, in what is sent, in what is kept and in the row that is trained on.
        described: the better text, in a sentence for the schema.
    """
    schema = _schema(name, {key: described}, options.fields)

    def gold(correction: Any, item: SourceText, allows_new: bool, task_options: Mapping[str, Any]) -> Gold:
        right = getattr(correction, key)
        if (error := refuse_text(right, key)) is not None:
            raise error
        return {key: right.strip()}

    def training_row(item: Mapping[str, Any], right: Gold) -> dict[str, Any]:
        told = {column: item[option] for option, column in options.columns.items() if option in item}
        return {"text": item["text"], key: right[key], **told}

    def predicted(answer: GeneratedText) -> dict[str, Any]:
        return {key: answer.text, "finish_reason": answer.finish_reason, "num_new_tokens": answer.num_new_tokens}

    text, right = example
    return CorrectionCodec(
        schema=schema,
        marks=frozenset({key}),
        wanted=f"`text` and `{key}`",
        item=lambda sent: SourceText(sent.text),
        gold=gold,
        agrees=lambda answer, sent: answer.text.strip() == getattr(sent, key).strip(),
        training_row=training_row,
        examples=({"inputs": {"text": text, key: right}},),
        predicted=predicted,
        asked=options.asked,
    )
