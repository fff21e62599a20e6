"""The Hugging Face Inference API to the items and options of a task, and its results back to the answers of that API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.api.schemas.answer import MAX_TOP_K, AnswerSpan, Question
from app.api.schemas.classify import Label, TextPair
from app.api.schemas.hugging_face import InferenceRequest, Input, Parameters, SummaryText
from app.core.errors import EmptyBatch, InvalidInput
from app.core.types import TaskName, Truncation
from app.tasks.base import Result
from app.tasks.extractive_summarization.task import SummaryItem, SummaryOptions
from app.tasks.question_answering.task import AnswerOptions, QuestionItem
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions

_TRUNCATION: dict[str | None, Truncation] = {
    None: "window", "do_not_truncate": "window", "only_second": "window", "longest_first": "truncate", "only_first": "truncate",
}  # fmt: skip
"""A document has no second text that could be cut, so `only_second` cuts nothing."""


def items(task: TaskName, request: InferenceRequest) -> list[Any]:
    """The task's own items.

    Raises:
        InvalidInput: there is none, or one is of another task's shape.
    """
    inputs = request.listed()
    if not inputs:
        raise EmptyBatch("must not be empty", "inputs")
    return [_item(task, one, request.place(number, "")) for number, one in enumerate(inputs)]


def options(task: TaskName, request: InferenceRequest) -> Any:
    """The task's own options.

    Raises:
        InvalidInput: a parameter is another task's.
    """
    given = request.parameters or Parameters.model_validate({})
    for name in Parameters.model_fields:
        if name not in _PARAMETERS[task] and getattr(given, name) is not None:
            known = ", ".join(_PARAMETERS[task])
            raise InvalidInput(f"is not a parameter of {task}, which has {known}", f"parameters.{name}")
    return _OPTIONS[task](given)


def shaped(task: TaskName, request: InferenceRequest, results: Sequence[Result], is_hub_client: bool) -> Any:
    """The answer to a whole request: the specification's for one input, a list of those for a list.

    Hugging Face's own clients do not read the specification's shape for one input but what the hosted API sends: labels and
    summaries in a list of one, and an answer out of its list unless more than one was asked for. They are sent that.
    """
    each = [_ONE[task](result) for result in results]
    if isinstance(request.inputs, list):
        return each
    if not is_hub_client:
        return each[0]
    if task == "question-answering":
        wants_one = request.parameters is None or request.parameters.top_k in (None, 1)
        return each[0][0] if wants_one and each[0] else each[0]
    return each


def _item(task: TaskName, one: Input, where: str) -> Any:
    if task == "text-classification" and isinstance(one, str | TextPair):
        return ClassificationItem(one) if isinstance(one, str) else ClassificationItem(one.text, one.text_pair)
    if task == "question-answering" and isinstance(one, Question):
        return QuestionItem(one.question, one.context)
    if task == "summarization" and isinstance(one, str):
        return SummaryItem(one)
    raise InvalidInput(f"should be {_WANTED[task]}, for this model does {task}", where)


def _classifying(given: Parameters) -> ClassificationOptions:
    return ClassificationOptions(given.top_k, given.function_to_apply)


def _answering(given: Parameters) -> AnswerOptions:
    if given.top_k is not None and given.top_k > MAX_TOP_K:
        raise InvalidInput(f"should be less than or equal to {MAX_TOP_K}", "parameters.top_k")
    named = {
        "top_k": given.top_k,
        "max_answer_tokens": given.max_answer_len,
        "allow_no_answer": given.handle_impossible_answer,
        "stride": given.doc_stride,
        "max_window_tokens": given.max_seq_len,
        "max_question_tokens": given.max_question_len,
        "align_to_words": given.align_to_words,
    }
    return AnswerOptions(**{name: value for name, value in named.items() if value is not None})  # type: ignore[arg-type]


def _summarizing(given: Parameters) -> SummaryOptions:
    return SummaryOptions(truncation=_TRUNCATION[given.truncation], language=given.language)


def _labels(result: Result) -> list[Label]:
    return [Label.model_construct(label=one.label, score=one.score) for one in result.answer.labels]


def _spans(result: Result) -> list[AnswerSpan]:
    return [
        AnswerSpan.model_construct(answer=one.answer, score=one.score, start=one.start, end=one.end)
        for one in result.answer.answers
    ]


_PARAMETERS: dict[TaskName, tuple[str, ...]] = {
    "text-classification": ("function_to_apply", "top_k"),
    "question-answering": (
        "top_k", "doc_stride", "max_answer_len", "max_seq_len", "max_question_len", "handle_impossible_answer",
        "align_to_words",
    ),
    "summarization": ("truncation", "language", "clean_up_tokenization_spaces", "generate_parameters"),
}  # fmt: skip
_OPTIONS: dict[TaskName, Any] = {
    "text-classification": _classifying, "question-answering": _answering, "summarization": _summarizing,
}  # fmt: skip
_ONE: dict[TaskName, Any] = {
    "text-classification": _labels,
    "question-answering": _spans,
    "summarization": lambda result: SummaryText.model_construct(summary_text=result.answer.summary),
}
_WANTED: dict[TaskName, str] = {
    "text-classification": "a text or an object with `text` and `text_pair`",
    "question-answering": "an object with `question` and `context`",
    "summarization": "a text",
}
