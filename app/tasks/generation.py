"""What tasks that write share: the options, how the decoder is to follow them, and the text that comes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StringConstraints

from app.core.errors import HooperError, InvalidArtefact, InvalidInput
from app.core.manifest import Decoder
from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from app.tasks.base import Decision, Detokenizer, Encoded, Result
from app.tasks.constraints import GrammarCompiler, OutputFormat
from app.tasks.detokenizer import RowsDetokenizer, SilentDetokenizer, first_stop, without_blanks
from app.tasks.golden_tokens import ROWS, are_as_published
from app.tasks.schemas import MANY, ItemOrError, ModelField, Request, as_list
from app.tasks.tokenizer import Tokenizer

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
MAX_TOKENS_PER_CHARACTER = 4
"""Bytes of a character, each of which may be a token."""
ANY_WORD = "a"
"""What stands before a continuation while it is decoded."""
SHOWN = 80
"""Characters of a text that an error repeats."""
SAMPLING_NAMES = frozenset(field.name for field in fields(SamplingParams)) - {
    "constraint", "decoder_input_ids", "ends", "num_logprobs", "seed",
}  # fmt: skip


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
    num_logprobs: int | None = None
    """Of so many of the likeliest tokens of each step it is told how likely they were; None: of none."""
    output_format: OutputFormat | None = None
    """What the text must be."""


OPTION_NAMES = tuple(field.name for field in fields(GenerationOptions))
NOT_COMMON = frozenset({"presence_penalty", "frequency_penalty", "num_logprobs", "output_format"})
"""Options that native requests do not have in common."""
GenerationOptionsT = TypeVar("GenerationOptionsT", bound=GenerationOptions)
_String = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]


@dataclass(frozen=True, slots=True)
class SourceText:
    """A text that another is written from."""

    text: str

    def __len__(self) -> int:
        """Characters: what tokenizing costs."""
        return len(self.text)


def native_item(value: Any) -> SourceText | InvalidInput:
    """As `NativeItems.item` wants it."""
    if isinstance(value, str):
        return SourceText(value)
    if isinstance(getattr(value, "text", None), str) and getattr(value, "text_pair", None) is None:
        return SourceText(value.text)
    return InvalidInput("should be one text: the model writes another from it")


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
        return kind(**{name: _frozen(getattr(self, name)) for name in OPTION_NAMES if name not in NOT_COMMON}, **own)


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


# what the tasks do alike


@dataclass(frozen=True, slots=True)
class SourceReading:
    """How the texts of an item's rows become one."""

    separators: Sequence[str]
    """Before the first piece, between any two, and behind the last."""


class TextGenerator:
    """The decoder of a model, as far as its task has to know it: how options are followed, and tokens read."""

    _newline = ""

    def __init__(self, tokenizer: Tokenizer, decoder: Decoder, target: Tokenizer | None = None) -> None:
        """
        Args:
            tokenizer: of the sources.
            decoder: of the manifest.
            target: of what is written, where it is another.

        Raises:
            InvalidArtefact: what the manifest says of generation is nonsense.
        """
        self.tokenizer, self.decoder, self.target = tokenizer, decoder, target or tokenizer
        self._pieces = self.target.pieces()
        self._grammars = GrammarCompiler(self.target, decoder.vocab_size, decoder.eos_token_ids, decoder.has_encoder)
        # decoders leave out a blank before the first token that they are given
        self._before = () if decoder.has_encoder else tuple(self._pieces.encode([ANY_WORD])[0].ids)
        self._num_before = len(self.target.decode(self._before, skip_special_tokens=True))
        try:
            self.sampling(GenerationOptions())
        except (TypeError, ValueError, HooperError) as error:
            raise InvalidArtefact(f"decoder.generation: {error}") from error

    def sampling(self, options: GenerationOptions, **changes: Any) -> SamplingParams:
        """What the engine is to do.

        Args:
            options: the caller's.
            changes: what the task decides, by the names of `SamplingParams`.

        Raises:
            InvalidInput: the options contradict each other or the model.
        """
        own = self.decoder.generation
        values = {name: _frozen(value) for name, value in own.items() if name in SAMPLING_NAMES}
        first = (self.decoder.start_token_id,) if self.decoder.has_encoder else ()
        values |= {"eos_token_ids": self.decoder.eos_token_ids, "decoder_input_ids": first}
        values |= {
            name: value for name in OPTION_NAMES if name in SAMPLING_NAMES and (value := getattr(options, name)) is not None
        }
        values |= changes
        values |= self._search(options)
        values |= self._form(options, values["num_beams"])
        values |= self._lengths(options, values)
        values["bad_words_ids"] = (*values.get("bad_words_ids", ()), *self._bad_words(options.bad_words))
        values["seed"] = random.getrandbits(32) if options.seed is None else options.seed
        values["ends"] = self._ends(options.stop) if options.stop else None
        return SamplingParams(**values)

    def num_rows(self, options: GenerationOptions) -> int:
        """Rows for each source: several texts are drawn one by one, and beams give them together."""
        return 1 if self._num_beams(options) > 1 else options.num_return_sequences

    def generated(self, encoded: Encoded, outputs: Sequence[RowOutput], options: GenerationOptions) -> GeneratedText:
        """What was written for an item whose state is a `SourceReading`."""
        reading: SourceReading = encoded.state
        num_pieces = len(reading.separators) - 1
        by_row = [list(self._hypotheses(output, options)) for output in outputs]
        rows_per_piece = len(by_row) // num_pieces
        pieces = [  # of each piece its texts, best first
            [hypothesis for row in by_row[start : start + rows_per_piece] for hypothesis in row]
            for start in range(0, len(by_row), rows_per_piece)
        ]
        texts = [_joined(reading.separators, column) for column in zip(*pieces, strict=True)]
        best = [piece[0] for piece in pieces]
        return GeneratedText(
            texts[0],
            "stop" if all(hypothesis.is_stopped for hypothesis in best) else "length",
            sum(hypothesis.num_tokens for hypothesis in best),
            best[-1].has_stop_string,
            tuple(texts[1:]) if options.num_return_sequences > 1 else None,
            tuple(pieces[0]) if num_pieces == 1 else (),
        )

    def detokenizer(self, encoded: Encoded, options: GenerationOptions) -> Detokenizer:
        """Of an item whose state is a `SourceReading`; of beams nothing is certain before their end."""
        if self._num_beams(options) > 1:
            return SilentDetokenizer()
        separators = encoded.state.separators
        rows_per_piece, removes_blanks = len(encoded.rows) // (len(separators) - 1), self.decoder.clean_up_tokenization_spaces
        return RowsDetokenizer(self._decoded, options.stop, separators, rows_per_piece, removes_blanks)

    def reading(self, newline: str) -> TextGenerator:
        """The same, for a model that writes this for the end of a line; empty: nothing of its own."""
        generator = copy(self)
        generator._newline = newline
        return generator

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Without special tokens, and the blanks that the checkpoint's tokenizer leaves out. Of a text that is continued, the
        blank that it may begin with belongs to it."""
        text = self._decoded(token_ids)
        return without_blanks(text) if self.decoder.clean_up_tokenization_spaces else text

    def _decoded(self, token_ids: Sequence[int]) -> str:
        text = self.target.decode([*self._before, *token_ids], skip_special_tokens=True)[self._num_before :]
        return text.replace(self._newline, "\n") if self._newline else text

    def _hypotheses(self, output: RowOutput, options: GenerationOptions) -> Iterator[Hypothesis]:
        token_ids, places = output["token_ids"], output["sequence_index"]
        limit = options.max_new_tokens or self._usual_new_tokens(self._room(1))
        for place in range(int(places.max()) + 1 if len(places) else 1):
            tokens = [int(token) for token in token_ids[places == place]]
            text = self.text_of(tokens)
            cut = first_stop(text, options.stop)
            is_forced = self.decoder.generation.get("forced_eos_token_id") is not None and len(tokens) >= limit
            has_ended = bool(tokens) and tokens[-1] in self.decoder.eos_token_ids and not is_forced
            is_cut = cut is not None
            yield Hypothesis(text[:cut], len(tokens), has_ended or is_cut, is_cut, self._scores(output))

    def _scores(self, output: RowOutput) -> tuple[TokenScore, ...] | None:
        """Of the tokens of a row without beams."""
        if "logprobs" not in output:
            return None
        tops = zip(output["top_token_ids"].tolist(), output["top_logprobs"].tolist(), strict=True)
        return tuple(
            TokenScore(self._token_text(token), logprob, tuple(zip(map(self._token_text, others), of_others, strict=True)))
            for token, logprob, (others, of_others) in zip(
                output["token_ids"].tolist(), output["logprobs"].tolist(), tops, strict=True
            )
        )

    def _token_text(self, token_id: int) -> str:
        """As it stands behind another: decoders leave out what the first one begins with."""
        before = [0]
        return self.target.decode([*before, token_id])[len(self.target.decode(before)) :]

    def _num_beams(self, options: GenerationOptions) -> int:
        if options.num_beams is not None:
            return options.num_beams
        is_stepwise = options.temperature or options.output_format is not None or options.num_logprobs is not None
        return 1 if is_stepwise else int(self.decoder.generation.get("num_beams", 1))

    def _search(self, options: GenerationOptions) -> dict[str, Any]:
        """Whether tokens are drawn, beams searched, or neither."""
        num_beams, temperature = self._num_beams(options), options.temperature
        if num_beams > 1 and temperature:
            raise InvalidInput("with beams nothing is drawn; leave it out, or num_beams", "temperature")
        if temperature is None:
            does_sample = self.decoder.generation.get("do_sample") and num_beams == 1
            temperature = float(self.decoder.generation.get("temperature", 1.0)) if does_sample else 0.0
        for name, is_used, condition in (
            *((name, temperature > 0, "a temperature above 0") for name in ("top_k", "top_p", "min_p")),
            *((name, num_beams > 1, "num_beams above 1") for name in ("early_stopping", "length_penalty")),
        ):
            if getattr(options, name) is not None and not is_used:
                raise InvalidInput(f"counts only with {condition}", name)
        if num_beams > 1 and options.stop:
            raise InvalidInput(f"does not go with beams, of which there are {num_beams}; send num_beams: 1", "stop")
        num_texts = options.num_return_sequences
        if num_beams > 1 and num_texts > num_beams:
            raise InvalidInput(f"should be at most {num_beams}, which is num_beams", "num_return_sequences")
        if num_beams == 1 and num_texts > 1 and not temperature:
            raise InvalidInput("several texts come of num_beams above 1, or a temperature above 0", "num_return_sequences")
        returned = num_texts if num_beams > 1 else 1
        return {"num_beams": num_beams, "temperature": temperature, "num_return_sequences": returned}

    def _form(self, options: GenerationOptions, num_beams: int) -> dict[str, Any]:
        """What holds a text to its form, and what of the checkpoint would not let it come to its end in it."""
        if options.num_logprobs is not None and num_beams > 1:
            raise InvalidInput(f"are not told of beams, of which there are {num_beams}", "logprobs")
        form, values = options.output_format, {"num_logprobs": options.num_logprobs}
        if form is None:
            return values
        for name in ("stop", "min_new_tokens"):
            if getattr(options, name):
                raise InvalidInput(f"does not go with {form.field}, which says where the text ends", name)
        if num_beams > 1:
            raise InvalidInput(f"does not go with beams, of which there are {num_beams}; send num_beams: 1", form.field)
        freed = {"no_repeat_ngram_size": options.no_repeat_ngram_size or 0, "min_new_tokens": 0, "forced_eos_token_id": None}
        return {**values, **freed, "constraint": self._grammars.compiled(form)}

    def _lengths(self, options: GenerationOptions, values: Mapping[str, Any]) -> dict[str, int]:
        room = self._room(max(1, len(values["decoder_input_ids"])))  # a text that is continued has one token at least
        if options.max_new_tokens is not None and options.max_new_tokens > room:
            raise InvalidInput(f"should be at most {room}, which is what the model can write", "max_new_tokens")
        max_new_tokens = options.max_new_tokens or self._usual_new_tokens(room)
        min_new_tokens = values.get("min_new_tokens", 0)
        if options.min_new_tokens is not None and min_new_tokens > max_new_tokens:
            raise InvalidInput(f"should be at most {max_new_tokens}, which is max_new_tokens", "min_new_tokens")
        return {"max_new_tokens": max_new_tokens, "min_new_tokens": min(min_new_tokens, max_new_tokens)}

    def _room(self, num_first: int) -> int:
        return self.decoder.max_length - num_first

    def _usual_new_tokens(self, room: int) -> int:
        return min(int(self.decoder.generation.get("max_new_tokens", USUAL_NEW_TOKENS)), room)

    def _bad_words(self, words: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """Tokens of each word as it stands at the beginning of a text and behind a blank."""
        if words:
            forms = self._pieces.encode([form for word in words for form in (word, f" {word}")])
            yield from dict.fromkeys(tuple(form.ids) for form in forms if form.ids)

    def _ends(self, stop: Sequence[str]) -> Callable[[Sequence[int]], bool]:
        """Whether the last token completes a stop string: of a long text only its end is decoded."""
        num_looked_at = MAX_TOKENS_PER_CHARACTER * max(map(len, stop)) + MAX_TOKENS_PER_CHARACTER

        def ends(token_ids: Sequence[int]) -> bool:
            if len(token_ids) <= num_looked_at:
                return first_stop(self.text_of(token_ids), stop) is not None
            tail = token_ids[-num_looked_at:]  # how its first token is decoded alone says nothing of the text
            return first_stop(self.text_of(tail), stop, len(self.text_of(tail[:1]))) is not None

        return ends


def _frozen(value: Any) -> Any:
    """Of JSON, lists as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _joined(separators: Sequence[str], hypotheses: Sequence[Hypothesis]) -> str:
    return separators[0] + "".join(
        hypothesis.text + behind for hypothesis, behind in zip(hypotheses, separators[1:], strict=True)
    )


class GenerativeTask:
    """What `Task` and `Generative` want and all tasks that write do alike; a task adds `encode` and its options."""

    def __init__(self, generator: TextGenerator, newline: str = "") -> None:
        """
        Args:
            generator: of the model.
            newline: what it writes for the end of a line; empty: nothing of its own.
        """
        self.generator = generator.reading(newline)
        self.pieces = generator.tokenizer.pieces()

    def sampling(self, options: Any) -> SamplingParams:
        return self.generator.sampling(options)

    def detokenizer(self, encoded: Encoded, options: Any) -> Detokenizer:
        return self.generator.detokenizer(encoded, options)

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: Any) -> GeneratedText:
        return self.generator.generated(encoded, outputs, options)

    def decision(self, answer: GeneratedText, options: Any) -> Decision | None:
        """None: a text comes with no score."""
        return None

    def same_decision(self, answer: GeneratedText, other: GeneratedText, options: Any) -> bool:
        """Whether the same text was written."""
        return answer.text == other.text

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """Each row's tokens are those published, up to the first whose score was less than `tolerance` above the next best
        one's: behind a near tie another text may follow. Where no tokens were published, the text must be the same."""
        text, published = self.decode(encoded, outputs, self.golden_options()).text, str(expected["text"])
        is_same = are_as_published(outputs, expected[ROWS], tolerance) if ROWS in expected else text == published
        return "" if is_same else f"{text[:SHOWN]!r} is written, was {published[:SHOWN]!r}"

    def golden_options(self) -> Any:
        raise NotImplementedError

    @property
    def max_source_tokens(self) -> int:
        """Of a row, without special tokens."""
        return self.generator.tokenizer.max_tokens - self.pieces.single.num_special_tokens

    def encoded(self, rows: Sequence[Row], separators: Sequence[str], is_cut: bool, options: GenerationOptions) -> Encoded:
        """An item of these pieces, each as often as texts are drawn of it."""
        repeated = [row for row in rows for _ in range(self.generator.num_rows(options))]
        return Encoded(repeated, sum(row.num_tokens for row in repeated), is_cut, SourceReading(separators))


class PrefixedTask(GenerativeTask):
    """One that writes from a text behind a prefix that says what to do, as T5's tasks are named."""

    def __init__(self, generator: TextGenerator, prefix: str = "", newline: str = "") -> None:
        super().__init__(generator, newline)
        self._prefix = prefix
        (self._prefix_tokens,) = self.pieces.encode([prefix.rstrip()])
        if len(self._prefix_tokens) >= self.max_source_tokens:
            raise InvalidArtefact("task_options.prefix: leaves no room for a text")

    @property
    def num_prefix_tokens(self) -> int:
        return len(self._prefix_tokens)

    def token_ids(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Of each behind the prefix."""
        return [tokens.ids for tokens in self.pieces.encode([self._prefix + text for text in texts])]

    def rows(self, token_ids: Sequence[int]) -> Iterator[Row]:
        """All of what `token_ids` gave, in as many rows as it takes, each with the prefix."""
        first, size = len(self._prefix_tokens), self.max_source_tokens
        yield self.pieces.single.row(token_ids[:size])
        for start in range(size, len(token_ids), size - first):
            yield self.pieces.single.row([*self._prefix_tokens.ids, *token_ids[start : start + size - first]])


def golden(options: type[GenerationOptionsT], **own: Any) -> GenerationOptionsT:
    """With which golden requests are answered."""
    return options(max_new_tokens=GOLDEN_NEW_TOKENS, num_beams=1, temperature=0.0, **own)
