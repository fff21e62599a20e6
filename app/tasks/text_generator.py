"""How a decoder follows what is asked of it, the text that comes of it, and what all tasks that write do alike."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import Any

from app.core.errors import HooperError, InvalidArtefact, InvalidInput
from app.core.manifest import Decoder
from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from app.tasks.base import Decision, Detokenizer, Encoded
from app.tasks.constraints import GrammarCompiler
from app.tasks.detokenizer import RowsDetokenizer, SilentDetokenizer, first_stop, without_blanks
from app.tasks.generation import (
    GOLDEN_NEW_TOKENS,
    OPTION_NAMES,
    USUAL_NEW_TOKENS,
    GeneratedText,
    GenerationOptions,
    GenerationOptionsT,
    Hypothesis,
    TokenScore,
    frozen,
)
from app.tasks.golden_tokens import ROWS, are_as_published
from app.tasks.tokenizer import Tokenizer

MAX_TOKENS_PER_CHARACTER = 4
"""Bytes of a character, each of which may be a token."""
ANY_WORD = "a"
"""What stands before a continuation while it is decoded."""
SHOWN = 80
"""Characters of a text that an error repeats."""
SAMPLING_NAMES = frozenset(field.name for field in fields(SamplingParams)) - {
    "constraint", "decoder_input_ids", "ends", "num_logprobs", "prefix_owner", "seed",
}  # fmt: skip


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
            changes: what the task decides, by the names of `SamplingParams`.

        Raises:
            InvalidInput: the options contradict each other or the model.
        """
        own = self.decoder.generation
        values = {name: frozen(value) for name, value in own.items() if name in SAMPLING_NAMES}
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
        self._check_biases(options.logit_bias)
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
        whole = zip(pieces[0], texts, strict=True) if num_pieces == 1 else ()
        return GeneratedText(
            texts[0],
            "stop" if all(hypothesis.is_stopped for hypothesis in best) else "length",
            sum(hypothesis.num_tokens for hypothesis in best),
            best[-1].has_stop_string,
            tuple(texts[1:]) if options.num_return_sequences > 1 else None,
            tuple(replace(hypothesis, text=text) for hypothesis, text in whole),
        )

    def detokenizers(self, encoded: Encoded, options: GenerationOptions) -> list[Detokenizer]:
        """Of an item whose state is a `SourceReading`; of beams nothing is certain before their end."""
        if self._num_beams(options) > 1:
            return [SilentDetokenizer()]
        separators = encoded.state.separators
        num_pieces, removes_blanks = len(separators) - 1, self.decoder.clean_up_tokenization_spaces
        is_each_told = options.streams_alternatives and num_pieces == 1
        rows_per_piece = 1 if is_each_told else len(encoded.rows) // num_pieces
        return [
            RowsDetokenizer(self._decoded, options.stop, separators, rows_per_piece, removes_blanks)
            for _ in range(len(encoded.rows) if is_each_told else 1)
        ]

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
            yield Hypothesis(text[:cut], len(tokens), has_ended or is_cut, is_cut, self.scores(output))

    def scores(self, output: RowOutput) -> tuple[TokenScore, ...] | None:
        """Of the tokens of a row without beams, or of a step of it; None: they were not asked for."""
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

    def _check_biases(self, biases: Sequence[tuple[int, float]]) -> None:
        unknown = next((token_id for token_id, _ in biases if not 0 <= token_id < self.decoder.vocab_size), None)
        if unknown is not None:
            raise InvalidInput(f"the model has no token {unknown}", "logit_bias")

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


def _joined(separators: Sequence[str], hypotheses: Sequence[Hypothesis]) -> str:
    return separators[0] + "".join(
        hypothesis.text + behind for hypothesis, behind in zip(hypotheses, separators[1:], strict=True)
    )


class GenerativeTask(ABC):
    """What `Task` and `Generative` want and all tasks that write do alike; a task adds `encode` and its options."""

    def __init__(self, generator: TextGenerator, newline: str = "") -> None:
        """
        Args:
            newline: what it writes for the end of a line; empty: nothing of its own.
        """
        self.generator = generator.reading(newline)
        self.pieces = generator.tokenizer.pieces()

    def sampling(self, options: Any) -> SamplingParams:
        return self.generator.sampling(options)

    def detokenizers(self, encoded: Encoded, options: Any) -> list[Detokenizer]:
        return self.generator.detokenizers(encoded, options)

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

    @abstractmethod
    def golden_options(self) -> Any:
        """See `Generative`."""

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
