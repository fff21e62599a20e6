"""Tensors of the Open Inference Protocol to the items and options of a task, and its results back to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.api.schemas.answer import AnswerRequest
from app.api.schemas.classify import ClassifyRequest
from app.api.schemas.open_inference import SIGNATURES, InferRequest, RequestOutput, check_content_type
from app.api.schemas.summarize import SummarizeRequest
from app.api.tensors import Tensor, read_texts
from app.core.errors import InvalidInput
from app.core.types import TaskName
from app.core.validation import wrong_field
from app.tasks.base import Result
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import ClassificationItem

MICROSECONDS = 1_000_000
LONGEST_US = 3_600 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Inference:
    """An inference request, as a task understands it."""

    items: Sequence[Any]
    options: Any
    wanted: Sequence[str]
    """Names of the outputs, in the order wanted."""
    binary: Sequence[str]
    """Those whose data follows the JSON."""
    timeout_s: float | None


def understand(task: TaskName, request: InferRequest, tail: bytes) -> Inference:
    """
    Args:
        task: the model's.
        request: the JSON.
        tail: the bytes after it.

    Raises:
        InvalidInput: a tensor or a parameter is not one of this task's.
    """
    parameters = dict(request.parameters or {})
    all_binary = _flag(parameters.pop("binary_data_output", False), "parameters.binary_data_output")
    timeout_s = _timeout(parameters.pop("timeout", None))
    if "content_type" in parameters:  # MLServer's: how a tensor's data is to be read
        check_content_type(parameters.pop("content_type"))
    wanted = _wanted(task, request.outputs)
    texts = read_texts(request.inputs, tail, SIGNATURES[task])
    asked = {one.name: one.parameters.binary_data for one in request.outputs or () if one.parameters}
    binary = [name for name in wanted if (all_binary if asked.get(name) is None else asked[name])]
    return Inference(_items(task, texts), _options(task, parameters), wanted, binary, timeout_s)


def place(number: int, field: str) -> str:
    """How the caller names an element of an input."""
    return f"inputs.{field}.{number}"


def tensors(task: TaskName, results: Sequence[Result]) -> dict[str, Tensor]:
    """All outputs of a task: (items, labels) for classification, else (items,)."""
    columns, shape = _COLUMNS[task](results)
    return {name: Tensor(datatype, shape, columns[name]) for name, datatype in SIGNATURES[task].outputs.items()}


def _wanted(task: TaskName, outputs: Sequence[RequestOutput] | None) -> list[str]:
    known = SIGNATURES[task].outputs
    names = [one.name for one in outputs] if outputs else list(known)
    for name in names:
        if name not in known:
            raise InvalidInput(f"{name!r} is not an output of this model, which has {', '.join(known)}", "outputs")
        if names.count(name) > 1:
            raise InvalidInput("is there twice", f"outputs.{name}")
    return names


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput("should be a valid boolean", where)
    return value


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST_US:
        raise InvalidInput(f"should be microseconds, between 1 and {LONGEST_US}", "parameters.timeout")
    return value / MICROSECONDS


def _items(task: TaskName, texts: Mapping[str, Sequence[str]]) -> list[Any]:
    if task == "question-answering":
        return [QuestionItem(*one) for one in zip(texts["question"], texts["context"], strict=True)]
    if task == "summarization":
        return [SummaryItem(one) for one in texts["text"]]
    pairs: Sequence[str | None] = texts.get("text_pair") or [None] * len(texts["text"])
    return [ClassificationItem(*one) for one in zip(texts["text"], pairs, strict=True)]


def _options(task: TaskName, parameters: Mapping[str, Any]) -> Any:
    """The native route's options with its own limits: they are read by its own schema, around an item that fits."""
    schema, item, not_here = _NATIVE[task]
    for name in parameters:
        if name in not_here:
            raise InvalidInput("is not a field that is known here", f"parameters.{name}")
    try:
        return schema.model_validate({"inputs": item, **parameters}).options()
    except ValidationError as error:
        field, message = wrong_field(error.errors(include_url=False, include_input=False))
        raise InvalidInput(message, f"parameters.{field}" if field else "parameters") from None


def _labels(results: Sequence[Result]) -> tuple[dict[str, list[Any]], list[int]]:
    rows = [result.answer.labels for result in results]
    columns = {
        "label": [one.label for labels in rows for one in labels],
        "score": [one.score for labels in rows for one in labels],
    }
    return columns, [len(rows), len(rows[0])]


def _answers(results: Sequence[Result]) -> tuple[dict[str, list[Any]], list[int]]:
    columns: dict[str, list[Any]] = {"answer": [], "score": [], "start": [], "end": []}
    for result in results:
        best = result.answer.answers[0] if result.answer.answers else None  # no span at all: the empty one, without a chance
        columns["answer"].append(best.answer if best else "")
        columns["score"].append(best.score if best else 0.0)
        columns["start"].append(best.start if best else 0)
        columns["end"].append(best.end if best else 0)
    return columns, [len(results)]


def _summaries(results: Sequence[Result]) -> tuple[dict[str, list[Any]], list[int]]:
    return {"summary": [result.answer.summary for result in results]}, [len(results)]


_COLUMNS: dict[TaskName, Any] = {
    "text-classification": _labels, "question-answering": _answers, "summarization": _summaries,
}  # fmt: skip
_OF_THE_ROUTE = frozenset({"inputs", "model"})
_NATIVE: dict[TaskName, Any] = {
    "text-classification": (ClassifyRequest, "a", _OF_THE_ROUTE),
    "question-answering": (AnswerRequest, {"question": "a", "context": "a"}, _OF_THE_ROUTE | {"top_k"}),
    "summarization": (SummarizeRequest, "a", _OF_THE_ROUTE),
}
"""The native request, an item that it takes, and what is no parameter here: outputs have one answer per item."""
