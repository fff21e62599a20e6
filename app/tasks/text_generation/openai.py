"""Texts that are continued in the words of OpenAI's API, and what conversations there have in common with them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.core.errors import EmptyBatch, InvalidInput
from app.tasks.base import Result
from app.tasks.generation import MAX_BEAMS, MAX_CHARACTERS, MAX_NEW_TOKENS, MAX_STRINGS, Hypothesis, TokenScore
from app.tasks.schemas import Request
from app.tasks.spec import WritingCodec
from app.tasks.text_generation.task import ContinueOptions, Prompt, TextGeneration

MAX_TOP_LOGPROBS = 20
USUAL_COMPLETION_TOKENS = 16
"""Of a completion, where nobody says: OpenAI's own number."""
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
        None, description="The same, as often as the token was written, -2 to 2."
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = Field(
        None, description="Where tokens are drawn: the same seed gives the same text."
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STRINGS, fail_fast=True)] | None = Field(
        None, description=f"A string, or up to {MAX_STRINGS}, at which the text ends; they are left out of it."
    )
    n: Annotated[int, Field(ge=1, le=MAX_BEAMS, strict=True)] | None = Field(
        None, description="How many texts to write of each prompt; several where they are drawn, and not of a stream."
    )
    stream: Annotated[bool, Field(strict=True)] | None = Field(None, description="Whether the text is sent as it is written.")
    stream_options: StreamOptions | None = Field(None, description="What a stream tells besides.")

    def generation_options(self, default_tokens: int | None = None, **own: Any) -> ContinueOptions:
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
    total_tokens: int = Field(description="Tokens of both.")

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


class AnswerHead:
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
        many: Sequence[Any] = self.prompt if self._is_list else [self.prompt]
        items = [Prompt(entry) if isinstance(entry, str) else Prompt("", tuple(entry)) for entry in many]
        return items, self.generation_options(USUAL_COMPLETION_TOKENS, num_logprobs=self.logprobs)

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
        head = AnswerHead("cmpl", "text_completion", model)
        return Completion.model_validate(head(choices, usage=CompletionUsage.of(results)))

    def pieces(self, model: str) -> CompletionPieces:
        return CompletionPieces(self, model)


class CompletionPieces:
    """What is streamed of a completion."""

    def __init__(self, request: CompletionRequest, model: str) -> None:
        self._request, self._head = request, AnswerHead("cmpl", "text_completion", model)

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


COMPLETIONS = WritingCodec(
    path="v1/completions",
    request=CompletionRequest,
    answer=Completion,
    summary="Continue texts",
    description="""What the model writes behind each prompt, as OpenAI's API has it: point its client's `base_url` at `/v1`.

With `stream: true` as server-sent events.""",
)
