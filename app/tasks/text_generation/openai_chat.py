"""Conversations in the words of OpenAI's API: messages, tools, what an answer has to be, and what is streamed of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, StringConstraints, model_validator

from app.core.errors import InvalidInput
from app.tasks.base import Result, StreamedText
from app.tasks.chat_template import ChatTemplate
from app.tasks.constraints import OutputFormat
from app.tasks.detokenizer import REPLACEMENT
from app.tasks.generation import Hypothesis, TokenScore
from app.tasks.schemas import Request
from app.tasks.spec import WritingCodec
from app.tasks.text_generation.openai import (
    COMPLETIONS,
    MAX_TOP_LOGPROBS,
    RENAMED,
    AnswerHead,
    CompletionUsage,
    Tokens,
    WritingAnswer,
    WritingRequest,
)
from app.tasks.text_generation.task import Prompt, TextGeneration
from app.tasks.text_generation.tool_calls import MAX_CALLS, CallHolder, CallReader, WrittenCall, call_form, call_grammar

MAX_SHOWN = 40
"""Characters of what was sent that an error repeats."""
MAX_TOOLS = 128
"""OpenAI's own number."""


class ChatCompletion(WritingAnswer):
    """What an assistant says next."""

    object: Literal["chat.completion"] = Field("chat.completion", description="What it is.")
    choices: list[dict[str, Any]] = Field(
        description="A message each: `index`, `message`, `finish_reason` (`stop`, `length`, `tool_calls`) and `logprobs`."
    )


class TextPart(Request):
    """A part of a message."""

    type: Literal["text"] = Field(description="What it is: of other kinds, models here read nothing.")
    text: str = Field(description="The text.")

    @model_validator(mode="before")
    @classmethod
    def _of_no_other_kind(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise ValueError(f"models here read text alone, and nothing of a part of the type {kind[:MAX_SHOWN]!r}")
        return value


class CalledFunction(Request):
    """What a model called."""

    name: str = Field(description="Its name.")
    arguments: str | dict[str, Any] = Field(description="Its arguments, as JSON.")


class ToolCall(Request):
    """A call that an assistant made."""

    id: str | None = Field(None, description="By which its result names it.")
    type: Literal["function"] = Field("function", description="What it is.")
    function: CalledFunction = Field(description="What was called.")


EMPTY_PARTS = frozenset({"annotations", "audio", "function_call"})
"""Of messages that clients send back as they came from elsewhere; taken where nothing stands in them."""


class ChatMessage(Request):
    """What somebody said."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(description="Who said it.")
    content: str | Annotated[list[TextPart], Field(min_length=1, fail_fast=True)] | None = Field(
        None, description="What was said; nothing where an assistant called functions alone."
    )
    name: str | None = Field(None, description="What who said it is called, for templates that tell it.")
    tool_calls: list[ToolCall] | None = Field(None, description="Of an assistant: what was called.")
    tool_call_id: str | None = Field(None, description="Of a tool: which call it answers.")
    reasoning_content: str | None = Field(
        None, description="Of an assistant: what was thought before, for templates that tell it."
    )
    refusal: str | None = Field(None, description="Of an assistant: what was said in the place of `content`.")

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: entry for name, entry in value.items() if not (name in EMPTY_PARTS and entry in (None, []))}

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None:
            self.content = self.refusal
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError(f"content is required, of the role {self.role}")
        return self

    def as_template_reads_it(self) -> dict[str, Any]:
        """In the form that chat templates are written for."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content or ())
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        message |= {
            name: value for name in ("name", "tool_call_id", "reasoning_content") if (value := getattr(self, name)) is not None
        }
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump(exclude_none=True) for call in self.tool_calls]
            for call in message["tool_calls"]:
                call["function"]["arguments"] = _arguments(call["function"]["arguments"])
        return message


def _arguments(value: str | dict[str, Any]) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value  # as the model wrote it


class DescribedFunction(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(extra="allow")
    name: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(description="Its name.")
    description: str | None = Field(None, description="What it does.")
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of its arguments; null: it takes none.")
    strict: bool | None = Field(
        None,
        description="Changes nothing: of a call that is forced, the arguments obey the schema; of others nothing is promised.",
    )


class Tool(Request):
    """What the model may call."""

    type: Literal["function"] = Field(description="What it is.")
    function: DescribedFunction = Field(description="The function.")


class NamedFunction(Request):
    """A function that is to be called."""

    name: str = Field(description="Its name, as `tools` has it.")


class NamedToolChoice(Request):
    """That a function is to be called."""

    type: Literal["function"] = Field(description="What it is.")
    function: NamedFunction = Field(description="The function.")


def _choice_in_its_form(value: Any) -> Any:
    if isinstance(value, dict) and (value.keys() != {"type", "function"} or value["type"] != "function"):
        raise ValueError('should be a word, or {"type": "function", "function": {"name": …}}')
    return value


ToolChoice = Annotated[Literal["auto", "none", "required"] | NamedToolChoice, BeforeValidator(_choice_in_its_form)]


class JsonSchemaFormat(Request):
    """A schema with a name."""

    name: str | None = Field(None, description="Changes nothing.")
    description: str | None = Field(None, description="Changes nothing.")
    schema_: dict[str, Any] = Field(alias="schema", description="The JSON schema.")
    strict: bool | None = Field(None, description="Changes nothing: every answer obeys.")


class ResponseFormat(Request):
    """What the answer must be."""

    type: Literal["text", "json_object", "json_schema"] = Field(description="A text, a JSON object, or what a schema says.")
    json_schema: JsonSchemaFormat | None = Field(None, description="The schema.")

    def schema_of_answer(self) -> dict[str, Any] | None:
        """
        Raises:
            InvalidInput: the schema is missing, or is there where it is not meant.
        """
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise InvalidInput("goes with type: json_schema, and only with it", "response_format.json_schema")
        if self.json_schema is not None:
            return self.json_schema.schema_
        return {"type": "object"} if self.type == "json_object" else None


def _no_list(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise ValueError("should be a text, a number, true, false or null")
    return value


Scalar = Annotated[str | bool | float | None, BeforeValidator(_no_list)]


class ChatCompletionRequest(WritingRequest):
    """A conversation, and how its next message is written."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"messages": [{"role": "user", "content": "Good morning!"}], "model": "story", "max_tokens": 32}]
        },
    )
    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)] = Field(
        description="What was said so far; the model's own chat template makes a text of it."
    )
    max_completion_tokens: Tokens | None = Field(None, description="As `max_tokens`, and goes before it.")
    logprobs: bool | None = Field(None, description="Whether it is told how likely each token was.")
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS, strict=True)] | None = Field(
        None, description="With `logprobs`: of so many of the likeliest tokens of each step."
    )
    response_format: ResponseFormat | None = Field(None, description="What the answer must be.")
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = Field(
        None, description="Functions that the model may call, where its template knows of them."
    )
    tool_choice: ToolChoice | None = Field(
        None,
        description="`none`: the model is told of no functions. `required`, or a function: the answer is a call whose "
        "arguments obey the function's schema.",
    )
    parallel_tool_calls: bool | None = Field(None, description="Whether an answer may have several calls; null: it may.")
    chat_template_kwargs: dict[str, Scalar] | None = Field(
        None, description="Values for the model's chat template, such as `enable_thinking`."
    )

    _reader: CallReader | None = PrivateAttr(None)
    """Of calls in the answer."""

    def check(self) -> None:
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidInput("counts only with logprobs: true", "top_logprobs")
        if self.must_call and not self.tools:
            raise InvalidInput("counts only with tools", "tool_choice")
        name = self._called_name
        if name is not None and all(tool.function.name != name for tool in self.tools or ()):
            raise InvalidInput(f"there is no function {name[:MAX_SHOWN]!r} among the tools", "tool_choice.function.name")

    @property
    def must_call(self) -> bool:
        """Whether the answer is a call, and nothing else."""
        return self.tool_choice not in (None, "auto", "none")

    @property
    def _called_name(self) -> str | None:
        """Of the function that is to be called, where it is a certain one."""
        return self.tool_choice.function.name if isinstance(self.tool_choice, NamedToolChoice) else None

    @property
    def may_call(self) -> bool:
        """Whether the model is told of functions."""
        return bool(self.tools) and self.tool_choice != "none"

    def prepared(self, task: TextGeneration) -> tuple[Sequence[Any], Any]:
        self.check()
        chat = task.chat_template
        if chat is None:
            raise InvalidInput(
                "the model holds no conversations: its checkpoint has no chat template; ask /v1/completions", "model"
            )
        if self.may_call and not chat.knows_tools:
            raise InvalidInput("the model's chat template knows nothing of tools; leave them out", "tools")
        tools = [tool.model_dump(exclude_none=True) for tool in self.tools or ()] if self.may_call else None
        schema = None if self.response_format is None else self.response_format.schema_of_answer()
        form = self._form_of_calls(task, chat, schema) if tools else None if schema is None else OutputFormat.of_schema(schema)
        messages = [message.as_template_reads_it() for message in self.messages]
        text = chat.render(messages, tools, variables=self.chat_template_kwargs)
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        options = self.generation_options(num_logprobs=logprobs, output_format=form)
        if self.max_completion_tokens is not None:
            options = replace(options, max_new_tokens=self.max_completion_tokens)
        return [Prompt(text, has_special_tokens=True)], options

    def _form_of_calls(self, task: TextGeneration, chat: ChatTemplate, schema: dict[str, Any] | None) -> OutputFormat | None:
        """What an answer must be that may call functions, whose calls are looked for in it from now on."""
        tokenizer, variables = task.generator.tokenizer, self.chat_template_kwargs or {}
        eos_tokens = [tokenizer.token(number) for number in task.generator.decoder.eos_token_ids]
        form = call_form(chat, variables, eos_tokens)
        special_tokens = tokenizer.special_tokens()
        functions = {tool.function.name: tool.function.parameters for tool in self.tools or ()}
        max_calls = 1 if self.parallel_tool_calls is False or self._called_name is not None else MAX_CALLS
        self._reader = CallReader(form, list(functions), special_tokens, max_calls)
        if not self.must_call and schema is None:
            return None
        if not form.is_certain:
            field = "tool_choice" if self.must_call else "response_format"
            raise InvalidInput("does not go with the model's chat template, which does not show how calls are written", field)
        wanted = functions if self._called_name is None else {self._called_name: functions[self._called_name]}
        return OutputFormat.of_calls(
            call_grammar(form, list(wanted.items()), special_tokens, max_calls, None if self.must_call else schema)
        )

    def place(self, number: int, field: str) -> str:
        if field in ("", "text", "messages"):
            return "messages"
        most = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return RENAMED.get(field, most if field == "max_new_tokens" else field)

    def shaped(self, results: Sequence[Result], model: str) -> ChatCompletion:
        (result,) = results
        choices = [self._choice(index, hypothesis) for index, hypothesis in enumerate(result.answer.hypotheses)]
        head = AnswerHead("chatcmpl", "chat.completion", model)
        return ChatCompletion.model_validate(head(choices, usage=CompletionUsage.of(results)))

    def pieces(self, task: TextGeneration, model: str) -> ChatPieces:
        return ChatPieces(self, task, model)

    def calls_of(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """What an answer says before its calls, and these."""
        if self._reader is None:
            return text, []
        said, calls = ("", self._reader.written(text)) if self.must_call else self._reader.read(text)
        return said, [_told(call, self._reader.form.has_ids) for call in calls]

    def holder(self) -> CallHolder:
        """Of the text of an answer that is streamed."""
        return CallHolder(self._reader, self.must_call)

    def _choice(self, index: int, hypothesis: Hypothesis) -> dict[str, Any]:
        text, calls = self.calls_of(hypothesis.text)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = calls
        return {
            "index": index,
            "message": message,
            "finish_reason": _finish_reason(hypothesis, calls),
            "logprobs": _chat_logprobs(hypothesis.scores),
        }


def _told(call: WrittenCall, has_short_id: bool) -> dict[str, Any]:
    number = uuid4().hex[:9] if has_short_id else f"call_{uuid4().hex[:24]}"
    return {"id": number, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish_reason(hypothesis: Hypothesis, calls: Sequence[Any]) -> str:
    return "tool_calls" if calls and hypothesis.is_stopped else hypothesis.finish_reason


class ChatPieces:
    """What is streamed of messages."""

    def __init__(self, request: ChatCompletionRequest, task: TextGeneration, model: str) -> None:
        self._request, self._task, self._head = request, task, AnswerHead("chatcmpl", "chat.completion.chunk", model)
        self._messages = [StreamedMessage(index, request) for index in range(request.n or 1)]

    def text(self, number: int, piece: StreamedText) -> list[dict[str, Any]]:
        """Of a piece of one of them."""
        choices = self._messages[piece.index].text(piece.text, self._task.scores(piece.steps))
        return self._told(choices, CompletionUsage.so_far(piece))

    def end(self, number: int, result: Result) -> list[dict[str, Any]]:
        """Once all are finished."""
        pairs = zip(self._messages, result.answer.hypotheses, strict=True)
        choices = [choice for message, hypothesis in pairs for choice in message.end(hypothesis)]
        return self._told(choices, CompletionUsage.of([result]))

    def last(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        """What it cost."""
        return self._request.usage_at_end(self._head, results)

    def _told(self, choices: Sequence[dict[str, Any]], usage: CompletionUsage) -> list[dict[str, Any]]:
        return [self._head([choice], **self._request.usage_so_far(usage)) for choice in choices]


class StreamedMessage:
    """One of them. What may be the beginning of a call is held back; calls come whole, at the end."""

    def __init__(self, index: int, request: ChatCompletionRequest) -> None:
        self._index, self._request = index, request
        self._holder = request.holder()
        self._num_told = 0
        self._scores: list[TokenScore] = []  # of tokens whose text is held back
        self._has_begun = False

    def text(self, text: str, scores: Sequence[TokenScore]) -> list[dict[str, Any]]:
        self._scores += scores
        certain = self._holder.push(text)
        self._num_told += len(certain)
        return [self._choice({"content": certain})] if certain else []

    def end(self, hypothesis: Hypothesis) -> list[dict[str, Any]]:
        said, calls = self._request.calls_of(hypothesis.text)
        held = said[self._num_told :]
        deltas: list[dict[str, Any]] = [{"content": held}] if held else []
        deltas += [{"tool_calls": [{"index": number, **call} for number, call in enumerate(calls)]}] if calls else []
        return [*map(self._choice, deltas), self._choice({}, _finish_reason(hypothesis, calls))]

    def _choice(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        if not self._has_begun:
            self._has_begun, delta = True, {"role": "assistant", "content": None if "tool_calls" in delta else "", **delta}
        scores, self._scores = self._scores, []
        logprobs = _chat_logprobs(scores) if scores else None
        return {"index": self._index, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}


def _chat_logprobs(scores: Sequence[TokenScore] | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    content = [
        {**_scored(score.text, score.logprob), "top_logprobs": [_scored(text, logprob) for text, logprob in score.top]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def _scored(text: str, logprob: float) -> dict[str, Any]:
    is_whole = REPLACEMENT not in text  # else the token is a part of a character, and which bytes it has is not told
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if is_whole else None}


OPENAI_WRITING = (
    COMPLETIONS,
    WritingCodec(
        path="v1/chat/completions",
        request=ChatCompletionRequest,
        answer=ChatCompletion,
        summary="Hold a conversation",
        description="""The next message of a conversation, as OpenAI's API tells it: point its client's `base_url` at `/v1`.

The model's own chat template makes a text of the messages. With `stream: true` as server-sent events; with `response_format` a
document that obeys a schema.""",
    ),
)
