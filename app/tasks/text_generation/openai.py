"""Texts that are continued, and conversations, in the words of OpenAI's API: requests, answers, what is streamed of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.core.errors import EmptyBatch, InvalidInput
from app.tasks.base import Result
from app.tasks.constraints import OutputFormat
from app.tasks.detokenizer import REPLACEMENT, StopFinder
from app.tasks.generation import MAX_BEAMS, MAX_CHARACTERS, MAX_NEW_TOKENS, MAX_STRINGS, Hypothesis, TokenScore
from app.tasks.schemas import Request
from app.tasks.spec import WritingCodec
from app.tasks.text_generation.task import ContinueOptions, Prompt, TextGeneration

MAX_TOP_LOGPROBS = 20
USUAL_COMPLETION_TOKENS = 16
"""Of a completion, where nobody says: OpenAI's own number."""
CALL = "<tool_call>"
TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.DOTALL)
UNUSED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls", "reasoning_effort", "verbosity",
})  # fmt: skip
"""Of OpenAI's API; taken, and without effect."""
SAY_NOTHING: Mapping[str, Sequence[Any]] = {
    "best_of": (None, 1), "logit_bias": (None, {}), "suffix": (None, ""), "echo": (None, False), "modalities": (None, ["text"]),
    "functions": (None, []), "function_call": (None, "none"), "audio": (None,), "prediction": (None,),
    "web_search_options": (None,),
}  # fmt: skip
"""Of OpenAI's API; taken with these values, with which they say nothing, and refused as unknown with others."""
Number = Annotated[float, Field(strict=True)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
Tokens = Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]
RENAMED = {"num_return_sequences": "n", "schema": "response_format", "regex": "response_format", "inputs": "prompt"}
"""Fields by the names that the other routes have for them."""


class StreamOptions(Request):
    """What a stream tells besides."""

    include_usage: bool = Field(False, description="Whether a last piece tells what the request cost.")
    include_obfuscation: bool = Field(False, description="Changes nothing.")


class WritingRequest(Request):
    """What completions and conversations have in common."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: entry for name, entry in value.items() if name not in UNUSED and entry not in SAY_NOTHING.get(name, ())}

    model: Annotated[str, StringConstraints(max_length=96)] | None = Field(
        None, description="A loaded model, as `name` or `name/version`; null, which OpenAI's own does not take: the default."
    )
    max_tokens: Tokens | None = Field(None, description="How many tokens to write at most.")
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = Field(
        None, description="Above 0 tokens are drawn, the more freely the higher it is; null: as the checkpoint says, else 0."
    )
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = Field(
        None, description="Where tokens are drawn: from the likeliest that together have this probability."
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = Field(
        None, description="Taken from the logit of every token that was written before, -2 to 2."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = Field(
        None, description="The same, as often as it was written."
    )
    seed: int | None = Field(None, description="The same seed gives the same text.")
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STRINGS, fail_fast=True)] | None = Field(
        None, description=f"A string, or up to {MAX_STRINGS}, at which the text ends; they are left out of it."
    )
    n: Annotated[int, Field(ge=1, le=MAX_BEAMS, strict=True)] | None = Field(
        None, description="How many texts to write of each prompt; several where they are drawn, and not of a stream."
    )
    stream: Annotated[bool, Field(strict=True)] | None = Field(None, description="Whether the text is sent as it is written.")
    stream_options: StreamOptions | None = Field(None, description="What a stream tells besides.")

    def _options(self, default_tokens: int | None = None, **own: Any) -> ContinueOptions:
        return ContinueOptions(
            max_new_tokens=self.max_tokens or default_tokens,
            temperature=self.temperature,
            top_p=None if self.top_p == 1 else self.top_p,  # what clients send where nothing is meant
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=None if self.seed is None else self.seed % 2**32,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            num_return_sequences=self.n or 1,
            num_beams=1,
            **own,
        )

    def check(self) -> None:
        """
        Raises:
            InvalidInput: something is asked for that there is not.
        """
        if self.stream and (self.n or 1) > 1:
            raise InvalidInput("of a stream there is one text; send 1, or no stream", "n")
        if self.stream_options is not None and not self.stream:
            raise InvalidInput("counts only with stream: true", "stream_options")

    @property
    def tells_usage(self) -> bool:
        """Of a stream."""
        return self.stream_options is not None and self.stream_options.include_usage


# completions


class CompletionUsage(BaseModel):
    """What a request cost."""

    prompt_tokens: int = Field(description="Tokens that the model read, special tokens included.")
    completion_tokens: int = Field(description="Tokens that were written, those that end a text included.")
    total_tokens: int = Field(description="Both.")

    @classmethod
    def of(cls, results: Sequence[Result]) -> CompletionUsage:
        prompt = sum(result.num_tokens // max(1, len(result.answer.hypotheses)) for result in results)
        written = sum(hypothesis.num_tokens for result in results for hypothesis in result.answer.hypotheses)
        return cls(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


class Completion(BaseModel):
    """Texts that continue the prompts."""

    id: str = Field(description="Of the answer.")
    object: Literal["text_completion"] = Field("text_completion", description="What it is.")
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="Who answered, as name/version.")
    choices: list[dict[str, Any]] = Field(
        description="A text each: `index`, `text`, `finish_reason` (`stop`, `length`) and `logprobs`."
    )
    usage: CompletionUsage = Field(description="What the request cost.")


class ChatCompletion(BaseModel):
    """What an assistant says next."""

    id: str = Field(description="Of the answer.")
    object: Literal["chat.completion"] = Field("chat.completion", description="What it is.")
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="Who answered, as name/version.")
    choices: list[dict[str, Any]] = Field(
        description="A message each: `index`, `message`, `finish_reason` (`stop`, `length`, `tool_calls`) and `logprobs`."
    )
    usage: CompletionUsage = Field(description="What the request cost.")


class _Head:
    """What every piece of an answer begins with."""

    def __init__(self, prefix: str, kind: str, model: str) -> None:
        self._values = {"id": f"{prefix}-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}

    def __call__(self, choices: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
        return {**self._values, "choices": choices, **others}


class CompletionRequest(WritingRequest):
    """A prompt or several, and how they are continued."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"prompt": "Once upon a time", "model": "story", "max_tokens": 16}]},
    )
    prompt: str | list[str] | list[Whole] | list[list[Whole]] = Field(
        description="A text, a list of them, or the token ids of one or of several, as the model's own tokenizer has them."
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS, strict=True)] | None = Field(
        None, description="Of so many of the likeliest tokens of each step it is told how likely they were. Not of a stream."
    )

    def check(self) -> None:
        super().check()
        if self.logprobs is not None and self.stream:
            raise InvalidInput("are not told of a stream", "logprobs")
        if self.stream and self.prompt and self._is_list and len(self.prompt) > 1:
            raise InvalidInput("of a stream there is one prompt, not a list", "prompt")

    def prepared(self, task: TextGeneration) -> tuple[Sequence[Any], Any]:
        self.check()
        if not self.prompt:
            raise EmptyBatch("must not be empty", "prompt")
        many: Sequence[Any] = self.prompt if self._is_list else [self.prompt]  # type: ignore[assignment]
        items = [Prompt(entry) if isinstance(entry, str) else Prompt("", tuple(entry)) for entry in many]
        return items, self._options(USUAL_COMPLETION_TOKENS, num_logprobs=self.logprobs)

    def place(self, number: int, field: str) -> str:
        if field not in ("", "text"):
            return RENAMED.get(field, "max_tokens" if field == "max_new_tokens" else field)
        return f"prompt.{number}" if self._is_list else "prompt"

    @property
    def _is_list(self) -> bool:
        """Whether there are several prompts, as of one list of token ids there are not."""
        return isinstance(self.prompt, list) and not isinstance(self.prompt[0], int)

    def shaped(self, results: Sequence[Result], model: str) -> Completion:
        written = [hypothesis for result in results for hypothesis in result.answer.hypotheses]
        choices = [_completion_choice(index, hypothesis) for index, hypothesis in enumerate(written)]
        head = _Head("cmpl", "text_completion", model)
        return Completion.model_validate(head(choices, usage=CompletionUsage.of(results)))

    def pieces(self, model: str) -> CompletionPieces:
        return CompletionPieces(self, model)


class CompletionPieces:
    """What is streamed of a completion."""

    def __init__(self, request: CompletionRequest, model: str) -> None:
        self._request, self._head = request, _Head("cmpl", "text_completion", model)

    def text(self, text: str) -> list[dict[str, Any]]:
        """Of a piece of the text."""
        return [self._head([{"index": 0, "text": text, "finish_reason": None, "logprobs": None}])]

    def end(self, result: Result) -> list[dict[str, Any]]:
        """Once it is finished."""
        last = {"index": 0, "text": "", "finish_reason": result.answer.finish_reason, "logprobs": None}
        usage = [self._head([], usage=CompletionUsage.of([result]).model_dump())] if self._request.tells_usage else []
        return [self._head([last]), *usage]


def _completion_choice(index: int, hypothesis: Hypothesis) -> dict[str, Any]:
    return {
        "index": index,
        "text": hypothesis.text,
        "finish_reason": hypothesis.finish_reason,
        "logprobs": None if hypothesis.scores is None else _completion_logprobs(hypothesis.scores),
    }


def _completion_logprobs(scores: Sequence[TokenScore]) -> dict[str, Any]:
    offsets, place = [], 0
    for score in scores:
        offsets.append(place)
        place += len(score.text)
    return {
        "tokens": [score.text for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [dict(score.top) for score in scores],
        "text_offset": offsets,
    }


# conversations


class TextPart(Request):
    """A part of a message."""

    type: Literal["text"] = Field(description="What it is: of other kinds, models here read nothing.")
    text: str = Field(description="The text.")


class CalledFunction(Request):
    """What a model called."""

    name: str = Field(description="Its name.")
    arguments: str | dict[str, Any] = Field(description="Its arguments, as JSON.")


class ToolCall(Request):
    """A call that an assistant made."""

    id: str | None = Field(None, description="By which its result names it.")
    type: Literal["function"] = Field("function", description="What it is.")
    function: CalledFunction = Field(description="What was called.")


class ChatMessage(Request):
    """What somebody said."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(description="Who said it.")
    content: str | list[TextPart] | None = Field(None, description="What was said.")
    name: str | None = Field(None, description="What who said it is called, for templates that tell it.")
    tool_calls: list[ToolCall] | None = Field(None, description="Of an assistant: what was called.")
    tool_call_id: str | None = Field(None, description="Of a tool: which call it answers.")
    refusal: None = Field(None, description="Changes nothing.")

    def as_template_reads_it(self) -> dict[str, Any]:
        """In the form that chat templates are written for."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content or ())
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        message |= {name: value for name in ("name", "tool_call_id") if (value := getattr(self, name)) is not None}
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
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of its arguments.")


class Tool(Request):
    """What the model may call."""

    type: Literal["function"] = Field(description="What it is.")
    function: DescribedFunction = Field(description="The function.")


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

    def output_format(self) -> OutputFormat | None:
        """
        Raises:
            InvalidInput: the schema is missing, or is there where it is not meant.
        """
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise InvalidInput("goes with type: json_schema, and only with it", "response_format.json_schema")
        if self.json_schema is not None:
            return OutputFormat.of_schema(self.json_schema.schema_)
        return OutputFormat.of_schema({"type": "object"}) if self.type == "json_object" else None


Scalar = str | bool | int | float | None


class ChatCompletionRequest(WritingRequest):
    """A conversation, and how its next message is written."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"messages": [{"role": "user", "content": "Good morning!"}], "model": "chat", "max_tokens": 32}]
        },
    )
    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)] = Field(
        description="What was said so far; the model's own chat template makes a text of it."
    )
    max_completion_tokens: Tokens | None = Field(None, description="As `max_tokens`, and goes before it.")
    logprobs: bool | None = Field(None, description="Whether it is told how likely each token was. Not of a stream.")
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS, strict=True)] | None = Field(
        None, description="With `logprobs`: of so many of the likeliest tokens of each step."
    )
    response_format: ResponseFormat | None = Field(None, description="What the answer must be.")
    tools: list[Tool] | None = Field(None, description="Functions that the model may call, where its template knows of them.")
    tool_choice: Literal["auto", "none"] | None = Field(
        None, description="`none`: the model is told of no functions. To have it call one is not supported."
    )
    chat_template_kwargs: dict[str, Scalar] | None = Field(
        None, description="Values for the model's chat template, such as `enable_thinking`."
    )

    def check(self) -> None:
        super().check()
        if self.logprobs and self.stream:
            raise InvalidInput("are not told of a stream", "logprobs")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidInput("counts only with logprobs: true", "top_logprobs")

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
        form = None if self.response_format is None else self.response_format.output_format()
        if form is not None and tools:
            raise InvalidInput("does not go with tools, whose calls have another form", "response_format")
        messages = [message.as_template_reads_it() for message in self.messages]
        text = chat.render(messages, tools, variables=self.chat_template_kwargs)
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        options = self._options(num_logprobs=logprobs, output_format=form)
        if self.max_completion_tokens is not None:
            options = replace(options, max_new_tokens=self.max_completion_tokens)
        return [Prompt(text, has_special_tokens=True)], options

    def place(self, number: int, field: str) -> str:
        if field in ("", "text", "messages"):
            return "messages"
        most = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return RENAMED.get(field, most if field == "max_new_tokens" else field)

    def shaped(self, results: Sequence[Result], model: str) -> ChatCompletion:
        (result,) = results
        choices = [self._choice(index, hypothesis) for index, hypothesis in enumerate(result.answer.hypotheses)]
        head = _Head("chatcmpl", "chat.completion", model)
        return ChatCompletion.model_validate(head(choices, usage=CompletionUsage.of(results)))

    def pieces(self, model: str) -> ChatPieces:
        return ChatPieces(self, model)

    def _choice(self, index: int, hypothesis: Hypothesis) -> dict[str, Any]:
        text, calls = called(hypothesis.text) if self.may_call else (hypothesis.text, [])
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = calls
        scores = hypothesis.scores
        return {
            "index": index,
            "message": message,
            "finish_reason": "tool_calls" if calls else hypothesis.finish_reason,
            "logprobs": None if scores is None else {"content": [_chat_logprobs(score) for score in scores], "refusal": None},
        }


class ChatPieces:
    """What is streamed of a message. What may be the beginning of a call is held back; calls come whole, at the end."""

    def __init__(self, request: ChatCompletionRequest, model: str) -> None:
        self._request, self._head = request, _Head("chatcmpl", "chat.completion.chunk", model)
        self._calls = StopFinder([CALL] if request.may_call else [])
        self._has_begun = False

    def text(self, text: str) -> list[dict[str, Any]]:
        """Of a piece of the text."""
        certain = self._calls.push(text)
        return [self._piece({"content": certain})] if certain else []

    def end(self, result: Result) -> list[dict[str, Any]]:
        """Once it is finished."""
        held, calls = self._calls.end(), []
        if self._request.may_call:
            _, calls = called(result.answer.text)
            if not calls and self._calls.is_hit:  # what looked like a call was none, and is text
                held = result.answer.text[result.answer.text.index(CALL) :]
        told = [self._piece({"content": held})] if held else []
        told += [self._piece({"tool_calls": [{"index": number, **call} for number, call in enumerate(calls)]})] if calls else []
        told.append(self._piece({}, "tool_calls" if calls else result.answer.finish_reason))
        usage = [self._head([], usage=CompletionUsage.of([result]).model_dump())] if self._request.tells_usage else []
        return [*told, *usage]

    def _piece(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        if not self._has_begun:
            self._has_begun, delta = True, {"role": "assistant", "content": "", **delta}
        return self._head([{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}])


def called(text: str) -> tuple[str, list[dict[str, Any]]]:
    """The calls that a model wrote as `<tool_call>{"name": …, "arguments": …}</tool_call>`, and the text before them; where one
    of them is none, all of it is text."""
    calls = []
    for written in TOOL_CALL.findall(text):
        try:
            value = json.loads(written)
        except json.JSONDecodeError:
            return text, []
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return text, []
        arguments = json.dumps(value.get("arguments", {}), ensure_ascii=False)
        function = {"name": value["name"], "arguments": arguments}
        calls.append({"id": f"call_{uuid4().hex[:24]}", "type": "function", "function": function})
    return (text[: text.index(CALL)].rstrip(), calls) if calls else (text, [])


def _chat_logprobs(score: TokenScore) -> dict[str, Any]:
    return {**_scored(score.text, score.logprob), "top_logprobs": [_scored(text, logprob) for text, logprob in score.top]}


def _scored(text: str, logprob: float) -> dict[str, Any]:
    is_whole = REPLACEMENT not in text  # else the token is a part of a character, and which bytes it has is not told
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if is_whole else None}


OPENAI_WRITING = (
    WritingCodec(
        path="v1/completions",
        request=CompletionRequest,
        answer=Completion,
        summary="Continue texts",
        description="""What the model writes behind each prompt, as OpenAI's API has it: point its client's `base_url` at `/v1`.

With `stream: true` as server-sent events.""",
    ),
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
