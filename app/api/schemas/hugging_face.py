"""`POST /models/{name}`: the Hugging Face Inference API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas.answer import MAX_ANSWER_TOKENS, MAX_TOP_K, AnswerSpan, Question
from app.api.schemas.classify import Label, TextPair
from app.api.schemas.common import Request
from app.api.schemas.summarize import EXAMPLE
from app.core.errors import EmptyBatch, InvalidInput
from app.core.types import TaskName, Truncation
from app.serving.deployment import Result
from app.tasks.extractive_summarization import SummaryItem, SummaryOptions
from app.tasks.question_answering import AnswerOptions, QuestionItem
from app.tasks.text_classification import ClassificationItem, ClassificationOptions

Input = str | Question | TextPair
Count = Annotated[int, Field(ge=1, strict=True)]

EXAMPLES: dict[str, Any] = {
    "sentiment": {
        "summary": "Text classification",
        "value": {"inputs": "A warm, funny film that I would happily watch again.", "parameters": {"top_k": 1}},
    },
    "qa": {
        "summary": "Question answering",
        "value": {
            "inputs": {
                "question": "When did the library open?",
                "context": "The old library burned down in 1897. A new library opened in 1903.",
            },
            "parameters": {"max_answer_len": 15},
        },
    },
    "summary": {"summary": "Summarization", "value": {"inputs": EXAMPLE}},
}
"""A body for each of the shipped models, by its name."""

_TRUNCATION: dict[str | None, Truncation] = {
    None: "window", "do_not_truncate": "window", "only_second": "window", "longest_first": "truncate", "only_first": "truncate",
}  # fmt: skip
"""A document has no second text that could be cut, so `only_second` cuts nothing."""


class Parameters(Request):
    """Options of the model's task; those of another task are refused."""

    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        None, description="Classification: turns the model's logits into scores; null: what the model was trained with."
    )
    top_k: Count | None = Field(
        None,
        description="Classification: how many labels, best first; null: all. Question answering: how many answers, at most"
        f" {MAX_TOP_K}; null: 1.",
    )
    doc_stride: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="Question answering: tokens that two neighbouring windows of a long context share; null: 128."
    )
    max_answer_len: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS, strict=True)] | None = Field(
        None, description="Question answering: longest answer in tokens, before it is widened to whole words; null: 30."
    )
    max_seq_len: Annotated[int, Field(ge=16, strict=True)] | None = Field(
        None,
        description="Question answering: longest window in tokens, question included; null, or more: what the model reads.",
    )
    max_question_len: Count | None = Field(
        None, description="Question answering: tokens of the question that are read; null, or more: half of a window."
    )
    handle_impossible_answer: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Question answering: whether the empty answer may win; null: no."
    )
    align_to_words: Literal[True] | None = Field(
        None, description="Question answering: answers are whole words always, so that `false` is refused."
    )
    truncation: Literal["do_not_truncate", "longest_first", "only_first", "only_second"] | None = Field(
        None,
        description="Summarization: `longest_first` and `only_first` read only as much of the document as the model reads at"
        " once; null, `do_not_truncate` and `only_second` read all of it in windows.",
    )
    clean_up_tokenization_spaces: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Summarization: changes nothing, for sentences are returned as they stand in the document."
    )
    generate_parameters: dict[str, Any] | None = Field(
        None,
        description="Summarization: for models that generate. An extractive model generates nothing: it reads and checks none"
        " of them, and the header `X-Ignored-Parameters` says so.",
    )


class Options(Request):
    """What the hosted API knows and a service of one's own need not."""

    use_cache: bool | None = Field(None, description="Changes nothing: answers are not cached.")
    wait_for_model: bool | None = Field(None, description="Changes nothing: a model that is not loaded is not waited for.")


class InferenceRequest(Request):
    """One input or a list of them, as the model's task needs it."""

    inputs: Input | list[Input] = Field(
        description="Classification: a text, or a pair; question answering: a question with its context; summarization: a"
        " document. Or a list of them: then the answer is a list, too."
    )
    parameters: Parameters | None = None
    options: Options | None = None

    def items(self, task: TaskName) -> Sequence[Any]:
        """The task's own items.

        Raises:
            InvalidInput: an input is of another task's shape.
        """
        if self.inputs == []:
            raise EmptyBatch("must not be empty", "inputs")
        listed = isinstance(self.inputs, list)
        inputs: Sequence[Any] = self.inputs if isinstance(self.inputs, list) else [self.inputs]
        return [_item(task, one, f"inputs.{number}" if listed else "inputs") for number, one in enumerate(inputs)]

    def task_options(self, task: TaskName) -> Any:
        """The task's own options.

        Raises:
            InvalidInput: a parameter is another task's.
        """
        given = self.parameters or Parameters.model_validate({})
        for name in given.model_fields_set:
            if name not in _PARAMETERS[task] and getattr(given, name) is not None:
                known = ", ".join(_PARAMETERS[task])
                raise InvalidInput(f"is not a parameter of {task}, which has {known}", f"parameters.{name}")
        return _OPTIONS[task](given)

    @property
    def ignored(self) -> list[str]:
        """Parameters that were given and cannot matter."""
        return ["generate_parameters"] if self.parameters and self.parameters.generate_parameters else []

    def place(self, number: int, field: str) -> str:
        """How the caller names a field of an item."""
        listed = isinstance(self.inputs, list)
        one: Any = self.inputs[number] if isinstance(self.inputs, list) else self.inputs
        outer = f"inputs.{number}" if listed else "inputs"
        return outer if isinstance(one, str) or not field else f"{outer}.{field}"


class SummaryText(BaseModel):
    """A summary, as the specification has it."""

    summary_text: str = Field(description="The chosen sentences of the document, joined by spaces.")


InferenceAnswer = (
    list[Label] | list[AnswerSpan] | AnswerSpan | SummaryText | list[list[Label]] | list[list[AnswerSpan]] | list[SummaryText]
)
"""For one input by the model's task, or for a list of them. A lone `AnswerSpan` is for Hugging Face's clients: see `shaped`."""


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
    }
    return AnswerOptions(**{name: value for name, value in named.items() if value is not None})  # type: ignore[arg-type]


def _summarizing(given: Parameters) -> SummaryOptions:
    return SummaryOptions(truncation=_TRUNCATION[given.truncation])


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
    "summarization": ("truncation", "clean_up_tokenization_spaces", "generate_parameters"),
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
