"""Texts that are continued in the words of OpenAI's API, and what conversations there have in common with them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.core.errors import EmptyBatch, InvalidInput
from app.tasks.base import Result, StreamedText
from app.tasks.generation import MAX_BEAMS, MAX_CHARACTERS, MAX_NEW_TOKENS, MAX_STRINGS, Hypothesis, TokenScore
from app.tasks.schemas import Request
from app.tasks.spec import WritingCodec
from app.tasks.text_generation.task import ContinueOptions, Prompt, TextGeneration

MAX_TOP_LOGPROBS = 20
MAX_BIASES = 300
"""As many fields as an object of a body may have."""
MAX_TOKEN_ID = 2**31 - 1
USUAL_COMPLETION_TOKENS = 16
"""Of a completion, where nobody says: OpenAI's own number."""
UNUSED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "reasoning_effort", "verbosity",
})  # fmt: skip
"""Of OpenAI's API; taken, and without effect."""
SAY_NOTHING: Mapping[str, Sequence[Any]] = {
    "modalities": (None, ["text"]), "functions": (None, []), "function_call": (None, "none"), "audio": (None,),
    "prediction": (None,), "web_search_options": (None,),
}  # fmt: skip
"""Of OpenAI's API; taken with these values, with which they say nothing, and refused with others."""
Number = Annotated[float, Field(strict=True)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
Tokens = Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS, strict=True)]
Whole = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID, strict=True)]
Bias = Annotated[float, Field(ge=-100, le=100)]
RENAMED = {"num_return_sequences": "n", "schema": "response_format", "regex": "response_format", "inputs": "prompt"}
"""Fields by the names that the other routes have for them."""


class StreamOptions(Request):
    """What a stream tells besides."""

    include_usage: bool = Field(False, description="Whether a last piece tells what the request cost.")
    continuous_usage_stats: bool = Field(
        False, description="Whether every piece tells it, as far as it is known by then; counts only with `include_usage`."
    )
    include_obfuscation: bool = Field(False, description="Changes nothing.")


class WritingRequest(Request):
    """What completions and conversations have in common."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name, known in SAY_NOTHING.items():
            if name in value and value[name] not in known:
                allowed = " or ".join(json.dumps(entry) for entry in known)
                raise InvalidInput(f"nothing is done by it here: it may be {allowed} alone", name)
        return {name: entry for name, entry in value.items() if name not in UNUSED and name not in SAY_NOTHING}

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
        None, description="How many texts to write of each prompt; several where they are drawn."
    )
    logit_bias: Annotated[dict[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)], Bias], Field(max_length=MAX_BIASES)] | None = (
        Field(
            None,
            description=f"What is added to the logits of up to {MAX_BIASES} tokens, -100 to 100 each, by the token's id.",
            examples=[None],
        )
    )
    stream: Annotated[bool, Field(strict=True)] | None = Field(None, description="Whether the text is sent as it is written.")
    stream_options: StreamOptions | None = Field(None, description="What a stream tells besides.")

    def generation_options(self, default_tokens: int | None = None, **own: Any) -> ContinueOptions:
        return ContinueOptions(
            max_new_tokens=self.max_tokens or default_tokens,
            temperature=self.temperature,
            # what clients send where nothing is meant, and what changes nothing: the likeliest token is always among them
            top_p=None if self.top_p == 1 or self.temperature == 0 else self.top_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=None if self.seed is None else self.seed % 2**32,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            logit_bias=tuple((self.logit_bias or {}).items()),
            num_return_sequences=self.n or 1,
            streams_alternatives=True,
            num_beams=1,
            **own,
        )

    def check(self) -> None:
        """
        Raises:
            InvalidInput: something is asked for that there is not.
        """
        if self.stream_options is not None and not self.stream:
            raise InvalidInput("counts only with stream: true", "stream_options")

    def usage_so_far(self, usage: CompletionUsage) -> dict[str, Any]:
        """What a piece of a stream tells of it: nothing, or what is known, or that a last piece will."""
        options = self.stream_options
        if options is None or not options.include_usage:
            return {}
        return {"usage": usage.model_dump() if options.continuous_usage_stats else None}

    def usage_at_end(self, head: AnswerHead, results: Sequence[Result]) -> list[dict[str, Any]]:
        """The last piece of a stream, where one is wanted."""
        options = self.stream_options
        is_told = options is not None and options.include_usage
        return [head([], usage=CompletionUsage.of(results).model_dump())] if is_told else []


# completions


class PromptTokensDetails(BaseModel):
    """What the tokens of the prompts were."""

    cached_tokens: int = Field(
        description="Tokens that were not read again, since a text that was asked about before began with them."
    )


class CompletionUsage(BaseModel):
    """What a request cost."""

    prompt_tokens: int = Field(description="Tokens of what was asked, special tokens included.")
    completion_tokens: int = Field(description="Tokens that were written, those that end a text included.")
    total_tokens: int = Field(description="Tokens of both.")
    prompt_tokens_details: PromptTokensDetails | None = Field(
        None, description="What the tokens of the prompts were; null before a stream's end."
    )

    @classmethod
    def of(cls, results: Sequence[Result]) -> CompletionUsage:
        prompt = sum(result.num_tokens // max(1, len(result.answer.hypotheses)) for result in results)
        written = sum(hypothesis.num_tokens for result in results for hypothesis in result.answer.hypotheses)
        details = PromptTokensDetails(cached_tokens=sum(result.num_reused for result in results))
        total = prompt + written
        return cls(prompt_tokens=prompt, completion_tokens=written, total_tokens=total, prompt_tokens_details=details)

    @classmethod
    def sum(cls, parts: Collection[CompletionUsage]) -> CompletionUsage:
        """Of several prompts; what was not read again is told of one alone, or at a stream's end."""
        prompt, written = sum(part.prompt_tokens for part in parts), sum(part.completion_tokens for part in parts)
        details = next(iter(parts)).prompt_tokens_details if len(parts) == 1 else None
        total = prompt + written
        return cls(prompt_tokens=prompt, completion_tokens=written, total_tokens=total, prompt_tokens_details=details)

    @classmethod
    def so_far(cls, piece: StreamedText) -> CompletionUsage:
        prompt, written = piece.num_tokens, piece.num_new_tokens
        total = prompt + written
        return cls(prompt_tokens=prompt, completion_tokens=written, total_tokens=total, prompt_tokens_details=None)


class WritingAnswer(BaseModel):
    """What answers to completions and to conversations have in common."""

    id: str = Field(description="Of the answer.")
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="Who answered, as name/version.")
    usage: CompletionUsage = Field(description="What the request cost.")


class Completion(WritingAnswer):
    """Texts that continue the prompts."""

    object: Literal["text_completion"] = Field("text_completion", description="What it is.")
    choices: list[dict[str, Any]] = Field(
        description="A text each: `index`, `text`, `finish_reason` (`stop`, `length`) and `logprobs`."
    )


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
        None, description="Of so many of the likeliest tokens of each step it is told how likely they were."
    )
    echo: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Whether the prompt stands before the text. Without `logprobs`: of a prompt's tokens none are told."
    )
    best_of: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        None, description="How many texts to choose from: refused unless it is `n`, as every text that is written is returned."
    )
    truncation: Literal["error", "truncate"] | None = Field(
        None,
        description="Not OpenAI's: what becomes of a prompt that is longer than the model reads; null: it is refused, and with "
        "`truncate` its beginning is left out.",
    )
    suffix: str | None = Field(None, description="Refused unless it is empty: what stands behind a text is not read.")

    def check(self) -> None:
        super().check()
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InvalidInput("no text is written that is not returned; leave it out, and send n for several", "best_of")
        if self.suffix:
            raise InvalidInput("models here continue a text, and read nothing that stands behind it; leave it out", "suffix")
        if self.echo and self.logprobs is not None:
            raise InvalidInput("of a prompt's own tokens it is not told how likely they were; leave out one of the two", "echo")

    def prepared(self, task: TextGeneration) -> tuple[Sequence[Any], Any]:
        self.check()
        if not self.prompt:
            raise EmptyBatch("must not be empty", "prompt")
        many: Sequence[Any] = self.prompt if self._is_list else [self.prompt]
        text_of = task.generator.text_of if self.echo else lambda token_ids: ""
        items = [Prompt(entry) if isinstance(entry, str) else Prompt(text_of(entry), tuple(entry)) for entry in many]
        own = {"num_logprobs": self.logprobs, "return_full_text": bool(self.echo), "truncation": self.truncation or "error"}
        return items, self.generation_options(USUAL_COMPLETION_TOKENS, **own)

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

    def pieces(self, task: TextGeneration, model: str) -> CompletionPieces:
        return CompletionPieces(self, task, model)


class CompletionPieces:
    """What is streamed of a completion."""

    def __init__(self, request: CompletionRequest, task: TextGeneration, model: str) -> None:
        self._request, self._task, self._head = request, task, AnswerHead("cmpl", "text_completion", model)
        self._num_characters: Counter[int] = Counter()  # of the tokens that were told of each text
        self._so_far: dict[int, CompletionUsage] = {}  # of each prompt

    def text(self, number: int, piece: StreamedText) -> list[dict[str, Any]]:
        """Of a piece of a text."""
        index = self._first(number) + piece.index
        choice: dict[str, Any] = {"index": index, "text": piece.text, "finish_reason": None, "logprobs": None}
        if scores := self._task.scores(piece.steps):
            choice["logprobs"] = _completion_logprobs(scores, self._num_characters[index])
            self._num_characters[index] += sum(len(score.text) for score in scores)
        return [self._head([choice], **self._usage(number, CompletionUsage.so_far(piece)))]

    def end(self, number: int, result: Result) -> list[dict[str, Any]]:
        """Once all texts of a prompt are finished."""
        usage = self._usage(number, CompletionUsage.of([result]))
        ends = [
            _completion_choice(index, replace(text, text="", scores=None))
            for index, text in enumerate(result.answer.hypotheses, start=self._first(number))
        ]
        return [self._head([choice], **usage) for choice in ends]

    def last(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        """Once all prompts are finished."""
        return self._request.usage_at_end(self._head, results)

    def _first(self, number: int) -> int:
        """Index of the first text of a prompt."""
        return number * (self._request.n or 1)

    def _usage(self, number: int, usage: CompletionUsage) -> dict[str, Any]:
        self._so_far[number] = usage
        return self._request.usage_so_far(CompletionUsage.sum(self._so_far.values()))


def _completion_choice(index: int, hypothesis: Hypothesis) -> dict[str, Any]:
    return {
        "index": index,
        "text": hypothesis.text,
        "finish_reason": hypothesis.finish_reason,
        "logprobs": None if hypothesis.scores is None else _completion_logprobs(hypothesis.scores),
    }


def _completion_logprobs(scores: Sequence[TokenScore], first: int = 0) -> dict[str, Any]:
    """`first`: characters of the tokens before them."""
    return {
        "tokens": [score.text for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [dict(score.top) for score in scores],
        "text_offset": list(accumulate((len(score.text) for score in scores[:-1]), initial=first)),
    }


COMPLETIONS = WritingCodec(
    path="v1/completions",
    request=CompletionRequest,
    answer=Completion,
    summary="Continue texts",
    description="""What the model writes behind each prompt, as OpenAI's API has it: point its client's `base_url` at `/v1`.

With `stream: true` as server-sent events.""",
)
