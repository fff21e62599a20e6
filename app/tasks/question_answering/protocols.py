"""Questions and answers in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from app.core.errors import InvalidInput
from app.tasks.base import Result, refuse_text
from app.tasks.protocols import hub_parameters, tensors_example
from app.tasks.question_answering.schemas import MAX_ANSWER_TOKENS, MAX_TOP_K, AnswerSpan, Question
from app.tasks.question_answering.task import Answer, AnswerOptions, Answers, QuestionItem
from app.tasks.schemas import Count, Flag, Request, told
from app.tasks.spec import BodyExample, CorrectionCodec, Datatype, Gold, HuggingFaceCodec, NativeItems, OpenInferenceCodec

QUESTION = {
    "question": "When did the library open?",
    "context": "The old library burned down in 1897. A new library opened in 1903.",
}
MIN_WINDOW = 64
"""Shorter windows would cut a long context into more of them than anybody wants to be read."""
NO_SPAN = Answer("", 0.0, 0, 0)
"""The empty answer, without a chance."""


def item_of(value: Any) -> QuestionItem | None:
    """From a question with its context; None: it is none."""
    return QuestionItem(value.question, value.context) if isinstance(value, Question) else None


def _native_item(value: Any) -> QuestionItem | InvalidInput:
    return item_of(value) or InvalidInput("should be an object with `question` and `context`: the model answers questions")


NATIVE = NativeItems((Question,), _native_item, ({"inputs": QUESTION, "method": "occlusion"},))


# Hugging Face


def _hub_options(parameters: Any) -> AnswerOptions:
    if parameters.top_k is not None and parameters.top_k > MAX_TOP_K:
        raise InvalidInput(f"should be less than or equal to {MAX_TOP_K}", "parameters.top_k")
    options = {
        "top_k": parameters.top_k,
        "max_answer_tokens": parameters.max_answer_len,
        "allow_no_answer": parameters.handle_impossible_answer,
        "stride": parameters.doc_stride,
        "max_window_tokens": parameters.max_seq_len,
        "max_question_tokens": parameters.max_question_len,
        "align_to_words": parameters.align_to_words,
    }
    return AnswerOptions(**{name: value for name, value in options.items() if value is not None})


def _for_hub_client(answer: Any, parameters: Any) -> Any:
    """The hosted API sends an answer out of its list unless more than one was asked for."""
    wants_one = parameters is None or parameters.top_k in (None, 1)
    return answer[0] if wants_one and answer else answer


HUGGING_FACE = HuggingFaceCodec(
    inputs="question answering: a question with its context",
    wanted="an object with `question` and `context`",
    item=item_of,
    parameters=hub_parameters(
        "Question answering",
        top_k=(Count, f"how many answers, at most {MAX_TOP_K}; null: 1"),
        doc_stride=(
            Annotated[int, Field(ge=0, strict=True)],
            "tokens that two neighbouring windows of a long context share; null: 128",
        ),
        max_answer_len=(
            Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS, strict=True)],
            "longest answer in tokens, before it is widened to whole words; null: 30",
        ),
        max_seq_len=(
            Annotated[int, Field(ge=MIN_WINDOW, strict=True)],
            "longest window in tokens, question included; null, or more: what the model reads",
        ),
        max_question_len=(Count, "tokens of the question that are read; null, or more: half of a window"),
        handle_impossible_answer=(Flag, "whether the empty answer may win; null: no"),
        align_to_words=(
            Flag,
            (
                "whether answers are widened to whole words, in scripts without blanks between them to whole characters;"
                " `false`: they are exactly the model's tokens; null: yes"
            ),
        ),
    ),
    options=_hub_options,
    answer=lambda result: [told(AnswerSpan, span) for span in result.answer.answers],
    answers=(list[AnswerSpan], AnswerSpan),
    example=BodyExample("qa", {"inputs": QUESTION, "parameters": {"max_answer_len": 15}}),
    for_hub_client=_for_hub_client,
)


# Open Inference Protocol

OUTPUTS: Mapping[str, Datatype] = {"answer": "BYTES", "score": "FP32", "start": "INT64", "end": "INT64"}


def _tensor_columns(results: Sequence[Result]) -> tuple[dict[str, list[Any]], list[int]]:
    best = [result.answer.answers[0] if result.answer.answers else NO_SPAN for result in results]
    return {name: [getattr(span, name) for span in best] for name in OUTPUTS}, [len(results)]


OPEN_INFERENCE = OpenInferenceCodec(
    inputs=("question", "context"),
    outputs=OUTPUTS,
    items=lambda texts: [QuestionItem(*fields) for fields in zip(texts["question"], texts["context"], strict=True)],
    columns=_tensor_columns,
    native_item={"question": "a", "context": "a"},
    excluded=("top_k",),
    description="Question answering: `question` and `context` to `answer`, `score`, `start` and `end`, (items,).",
    example=tensors_example("qa", question=[QUESTION["question"]], context=[QUESTION["context"]]),
)


# corrections


class AnsweredQuestion(Request):
    """A question, its context, and the words of the context that answer it."""

    question: str = Field(description="The question; one character or more that is not a space.")
    context: str = Field(description="The text that was asked.")
    answer: str = Field(description="The right answer, as it stands in the context; empty: the context does not answer it.")
    start: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="Its first character in the context, counted from 0; needed where it stands there more than once."
    )


def _gold(correction: AnsweredQuestion, item: QuestionItem, allows_new: bool, task_options: Mapping[str, Any]) -> Gold:
    if not correction.answer:
        return {"answer": "", "start": 0}
    error = refuse_text(correction.answer, "answer")
    if error is not None:
        raise error
    start = item.context.find(correction.answer) if correction.start is None else correction.start
    if item.context[start : start + len(correction.answer)] != correction.answer:
        where = "in the context" if correction.start is None else f"in the context at {correction.start}"
        raise InvalidInput(f"does not stand {where}", "answer")
    if correction.start is None and item.context.find(correction.answer, start + 1) >= 0:
        raise InvalidInput("stands in the context more than once; say which one is meant with `start`", "answer")
    return {"answer": correction.answer, "start": start}


def _agrees(answer: Answers, correction: AnsweredQuestion) -> bool:
    if not correction.answer:
        return not answer.answers or answer.no_answer_score > answer.answers[0].score
    return bool(answer.answers) and answer.answers[0].answer == correction.answer


def _training_row(item: Mapping[str, Any], gold: Gold) -> dict[str, Any]:
    """In the form of SQuAD."""
    answers: dict[str, Any] = {"text": [gold["answer"]], "answer_start": [gold["start"]]}
    return {**item, "answers": answers if gold["answer"] else {"text": [], "answer_start": []}}


CORRECTION = CorrectionCodec(
    schema=AnsweredQuestion,
    marks=frozenset({"question", "answer"}),
    wanted="`question`, `context` and `answer`",
    item=lambda sent: QuestionItem(sent.question, sent.context),
    gold=_gold,
    agrees=_agrees,
    training_row=_training_row,
    examples=({"inputs": {**QUESTION, "answer": "1903"}, "source": "support"},),
)
