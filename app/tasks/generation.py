"""What tasks that write share: their items, the options, and what is told of a text that was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StringConstraints

from app.core.errors import HooperError
from app.tasks.base import Result, TextItem
from app.tasks.constraints import OutputFormat
from app.tasks.schemas import MANY, ItemOrError, ModelField, Request, as_list

FinishReason = Literal["stop", "length"]
USUAL_NEW_TOKENS = 256
"""At most so many are written where neither the caller nor the checkpoint says."""
MAX_NEW_TOKENS = 8192
MAX_BEAMS = 16
MAX_STRINGS = 16
"""Of `stop`."""
MAX_BAD_WORDS = 64
MAX_CHARACTERS = 256
"""Of one of them."""
GOLDEN_NEW_TOKENS = 20


# options


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How a text is written; None: as the checkpoint says, else as `SamplingParams` does."""

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    num_beams: int | None = None
    early_stopping: bool | Literal["never"] | None = None
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    repetition_penalty: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    """None: another text each time, where it is drawn."""
    stop: tuple[str, ...] = ()
    bad_words: tuple[str, ...] = ()
    num_return_sequences: int = 1
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Tokens, and what is added to the logit of each."""
    streams_alternatives: bool = False
    """Of a stream: whether each of several texts is told while it is written, and not the first one alone."""
    num_logprobs: int | None = None
    """Of so many of the likeliest tokens of each step it is told how likely they were; None: of none."""
    output_format: OutputFormat | None = None
    """What the text must be."""


OPTION_NAMES = tuple(field.name for field in fields(GenerationOptions))
NOT_COMMON = frozenset({
    "presence_penalty", "frequency_penalty", "logit_bias", "streams_alternatives", "num_logprobs", "output_format",
})  # fmt: skip
"""Options that native requests do not have in common."""
GenerationOptionsT = TypeVar("GenerationOptionsT", bound=GenerationOptions)
_String = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]


@dataclass(frozen=True, slots=True)
class SourceText(TextItem):
    """A text that another is written from."""


class TextsRequest(Request):
    """One text or a list of them."""

    inputs: str | Annotated[list[Annotated[str, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A text, or a list of them. {MANY}"
    )
    model: ModelField = None

    def items(self) -> Sequence[Any]:
        return [entry if isinstance(entry, HooperError) else SourceText(entry) for entry in as_list(self.inputs)]


class GenerationRequest(TextsRequest):
    """Texts, and how others are written from them."""

    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS, strict=True)] | None = Field(
        None,
        description=f"How many tokens to write at most, 1 to {MAX_NEW_TOKENS}, as far as the model can; null: as the checkpoint"
        f" says, else {USUAL_NEW_TOKENS}.",
    )
    min_new_tokens: Annotated[int, Field(ge=0, le=MAX_NEW_TOKENS, strict=True)] | None = Field(
        None, description="How many tokens to write at least; null: as the checkpoint says, else 0."
    )
    num_beams: Annotated[int, Field(ge=1, le=MAX_BEAMS, strict=True)] | None = Field(
        None,
        description=f"Beams of the beam search, 1 to {MAX_BEAMS}; 1: none; null: as the checkpoint says, and 1 with a"
        " `temperature` above 0.",
    )
    early_stopping: Annotated[bool, Field(strict=True)] | Literal["never"] | None = Field(
        None,
        description="With beams: `true` ends as soon as `num_beams` texts are finished, `false` where no better one is likely,"
        " `never` where none is possible; null: as the checkpoint says.",
    )
    length_penalty: Annotated[float, Field(ge=-10, le=10, strict=True)] | None = Field(
        None,
        description="With beams: above 0 favours longer texts, below 0 shorter ones, -10 to 10; null: as the checkpoint says.",
    )
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=64, strict=True)] | None = Field(
        None, description="No run of so many tokens is written twice; 0: any may be; null: as the checkpoint says."
    )
    repetition_penalty: Annotated[float, Field(gt=0, le=10, strict=True)] | None = Field(
        None,
        description="Above 1 makes tokens that were written less likely, below 1 more, up to 10; null: as the checkpoint says.",
    )
    temperature: Annotated[float, Field(ge=0, le=100, strict=True)] | None = Field(
        None,
        description="Above 0 the tokens are drawn, the more freely the higher it is; 0: always the likeliest; null: as the"
        " checkpoint says, which is mostly that.",
    )
    top_k: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] | None = Field(
        None, description="Where tokens are drawn: from so many of the likeliest; 0: from all; null: as the checkpoint says."
    )
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = Field(
        None,
        description="Where tokens are drawn: from the likeliest that together have this probability; null: as the checkpoint"
        " says.",
    )
    min_p: Annotated[float, Field(ge=0, le=1, strict=True)] | None = Field(
        None,
        description="Where tokens are drawn: from those that have this share of the likeliest one's probability at least; null:"
        " as the checkpoint says.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] | None = Field(
        None, description="Where tokens are drawn: the same seed gives the same text; null: another one each time."
    )
    stop: Annotated[list[_String], Field(max_length=MAX_STRINGS, fail_fast=True)] = Field(
        [],
        description=f"Up to {MAX_STRINGS} strings of at most {MAX_CHARACTERS} characters at which a text ends; they are left"
        " out of it, and their tokens are counted. Without beams.",
    )
    bad_words: Annotated[list[_String], Field(max_length=MAX_BAD_WORDS, fail_fast=True)] = Field(
        [],
        description=f"Up to {MAX_BAD_WORDS} words of at most {MAX_CHARACTERS} characters that are not written, spelled as they"
        " are here.",
    )
    num_return_sequences: Annotated[int, Field(ge=1, le=MAX_BEAMS, strict=True)] = Field(
        1,
        description="How many texts to return; with beams at most `num_beams`, else only where they are drawn. Those behind the"
        " best are `alternatives`.",
    )
    stream: Annotated[bool, Field(strict=True)] = Field(
        False,
        description="Whether the text is sent while it is written, as server-sent events: `token` for each piece of it, then"
        " `done` with what is answered without `stream`, or `error` with the problem. For one item; with beams there is only"
        " `done`.",
    )

    def generation(self, kind: type[GenerationOptionsT], **own: Any) -> GenerationOptionsT:
        """The task's options: these, and its own."""
        return kind(**{name: frozen(getattr(self, name)) for name in OPTION_NAMES if name not in NOT_COMMON}, **own)


def frozen(value: Any) -> Any:
    """Of JSON, lists as tuples."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


# results


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token that was written, and how likely the model found it."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]
    """The likeliest ones of that step with theirs, best first."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that was written from one row."""

    text: str
    num_tokens: int
    is_stopped: bool
    has_stop_string: bool
    scores: tuple[TokenScore, ...] | None = None
    """Of its tokens, those of a stop string included, where that was asked for."""

    @property
    def finish_reason(self) -> FinishReason:
        return "stop" if self.is_stopped else "length"


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """What was written for one item."""

    text: str
    finish_reason: FinishReason
    """`length`: a part of it ended because as many tokens were written as may be."""
    num_new_tokens: int
    """Of the text, those included that end it, and those of a stop string."""
    has_stop_string: bool = False
    """Whether it was a stop string that ended it."""
    alternatives: tuple[str, ...] | None = None
    """The other texts, best first, where more than one was asked for."""
    hypotheses: tuple[Hypothesis, ...] = ()
    """All of them one by one, of an item that was read in one piece."""


class GenerationResult(BaseModel):
    """What every written result tells beside its text."""

    alternatives: list[str] | None = Field(
        description="The other texts, best first, where `num_return_sequences` asks for more than one; else null.",
        examples=[None],
    )
    finish_reason: FinishReason = Field(
        description="`stop`: the model ended the text, or wrote a stop string; `length`: it, or a part of it, has as many"
        " tokens as it may have.",
        examples=["stop"],
    )
    num_new_tokens: int = Field(description="Tokens that were written, those that end a text included.", examples=[12])
    num_tokens: int = Field(
        description="Tokens that the model read for this item, special tokens and all of its pieces included.", examples=[14]
    )
    truncated: bool = Field(description="Whether a part of the text was not read.", examples=[False])


def generation_fields(result: Result) -> dict[str, Any]:
    """What is told of an answer beside its text."""
    answer: GeneratedText = result.answer
    return {
        "alternatives": None if answer.alternatives is None else list(answer.alternatives),
        "finish_reason": answer.finish_reason,
        "num_new_tokens": answer.num_new_tokens,
        "num_tokens": result.num_tokens,
        "truncated": result.truncated,
    }
