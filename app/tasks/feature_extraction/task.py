"""Feature extraction: a text's vector, which the graph pools, cut and normalized as the caller wishes.

What sentence-transformers' `encode` does to a text before the model reads it is done here: prompts, blanks at its ends, lower
case. A longer text than the model reads becomes the mean of its windows, each weighed by its own tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.core.errors import HooperError, InvalidInput, TooManyTokens
from app.core.types import Array, Row, RowOutput, Truncation
from app.tasks.base import Decision, Encoded, TextItem, refuse_text
from app.tasks.tokenizer import Side, Tokenizer, Tokens

Floats = NDArray[np.float64]
VectorEncoding = Literal["float", "base64"]
OUTPUT = "logits"
"""What the graph calls its vector: an export names the output of every head so."""
TOKEN_OUTPUT = "token_embeddings"  # noqa: S105  # the name of a tensor
"""What a graph calls the vectors of single tokens, before they are pooled: (tokens, token_dimensions)."""
SAME_COSINE = 0.995
"""Two models' vectors of a text that are so near to each other are the same: what the parity gate and a shadow count."""
DECIMALS = 8
"""Of a component: float32 holds no more of a vector of length 1, and a number that is short costs less on the line."""
SAME_TOKENS = 0.6
"""Share of tokens that come again where their text is tokenized: all of a whole text's, most of one that was cut within a word,
and few of another tokenizer's numbers, many of which fall on tokens that no text has."""
NUM_LOOKED_AT = 64
SEND_TEXTS = "send texts, which are tokenized here"
NUM_NAMED = 10
"""Prompts or sizes of the model that an error names."""


@dataclass(frozen=True, slots=True)
class EmbedItem(TextItem):
    """A text, or the tokens that another program made of one with the model's own tokenizer."""

    token_ids: tuple[int, ...] = ()
    """Without special tokens; where there are any, the text is empty, and no prompt stands before them."""


@dataclass(frozen=True, slots=True)
class SimilarityItem:
    """A text, and others that are compared with it."""

    source_sentence: str
    sentences: tuple[str, ...]
    source_prompt: str | None = None
    """In place of the options' prompt, for the first text alone; a text or a name, as there."""
    sentence_prompt: str | None = None
    """The same for each of the others."""

    def __len__(self) -> int:
        return len(self.source_sentence) + sum(map(len, self.sentences))

    @property
    def num_texts(self) -> int:
        return 1 + len(self.sentences)


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    normalize: bool = True
    """Whether the vector has the length 1; else it is the model's own."""
    dimensions: int | None = None
    """How many of its first components; None: all."""
    prompt: str | None = None
    """What stands before each text: a text, or the name of one of the model's prompts; None: the model's default."""
    prompt_name: str | None = None
    """The same, by its name alone."""
    truncation: Truncation = "window"
    truncation_side: Side | None = None
    """Which end of a longer text `truncate` cuts off; None: the one that the model's tokenizer cuts off."""
    vector_encoding: VectorEncoding = "float"
    """How the vector is written down."""
    of_tokens: bool = False
    """Whether the vectors of a text's single tokens are wished, as the transformer gives them; no window is read then."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text's vector."""

    vector: Sequence[float]
    encoding: VectorEncoding = "float"


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """The vectors of a text's tokens, special ones and those of a prompt included."""

    vectors: Array
    """(tokens, token_dimensions)"""


@dataclass(frozen=True, slots=True)
class Similarities:
    """Cosines of a text's vector with those of others, in their order."""

    scores: Sequence[float]
    vectors: Floats
    """Of all texts, the first one's first: (texts, dimensions)."""
    num_tokens: Sequence[int] = ()
    """That were read of each of the others, special tokens and prompts included."""
    truncated: Sequence[bool] = ()
    """Whether a part of it was cut off unread."""


@dataclass(frozen=True, slots=True)
class PromptedText:
    """What the model reads of a text."""

    text: str
    prompt_characters: int
    """At its beginning."""
    num_skipped: int
    """Tokens at the row's beginning that its vector is not made of."""


@dataclass(frozen=True, slots=True)
class EmbeddedRows:
    """The rows of one text."""

    rows: Sequence[Row]
    weights: Sequence[int]
    """Tokens of the text in each row, special ones and those of a prompt left out."""
    truncated: bool


Reading = PromptedText | Sequence[int] | HooperError
"""A text as the model is to read it: prompted, as token ids, or why not at all."""


class FeatureExtraction:
    """Satisfies `Task`. Reads an output `logits` of axis `row`: (dimensions,)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        dimensions: Annotated[int, Field(ge=1, le=65_536)],
        prompts: Mapping[str, str] | None = None,
        default_prompt: str | None = None,
        include_prompt: bool = True,
        lower_case: bool = False,
        is_normalized: bool = False,
        is_matryoshka: bool = False,
        matryoshka_dimensions: Sequence[Annotated[int, Field(ge=1)]] = (),
        pooling: str = "mean",
        token_dimensions: Annotated[int, Field(ge=0, le=65_536)] = 0,
    ) -> None:
        """
        Args:
            tokenizer: with the longest input.
            dimensions: of a vector.
            prompts: texts that stand before others, by their names.
            default_prompt: name of the one that is taken where none is wished.
            include_prompt: whether a vector is made of the prompt's tokens, too.
            lower_case: whether texts are put in lower case before they are tokenized.
            is_normalized: whether the graph gives vectors of length 1.
            is_matryoshka: whether the model was trained so that a vector's beginning is a vector, too.
            matryoshka_dimensions: how many components its makers cut to; empty: any number.
            pooling: how the graph makes a vector of those of the tokens, for whoever asks.
            token_dimensions: of a token's vector; 0: the graph gives none, as those that were published before it could.
        """
        self.dimensions, self.prompts = dimensions, dict(prompts or {})
        self._default_prompt = default_prompt
        self._include_prompt, self._lower_case = include_prompt, lower_case
        self._is_normalized = is_normalized
        self._token_dimensions = token_dimensions
        self._sizes = tuple(matryoshka_dimensions)
        self._can_cut = is_matryoshka or bool(matryoshka_dimensions)
        self._max_tokens, self._vocabulary_size = tokenizer.max_tokens, tokenizer.vocabulary_size()
        self._tokenizer, self._pieces = tokenizer, tokenizer.pieces()

    # rows

    def encode(self, items: Sequence[EmbedItem | SimilarityItem], options: EmbedOptions) -> list[Encoded | HooperError]:
        """One row per text, or one per window of it."""
        refusal = self._refuse_options(options)
        if refusal is not None:
            return [refusal] * len(items)
        readings = [self._read(item, options) for item in items]
        texts = [text.text for reading in readings for text in reading if isinstance(text, PromptedText)]
        tokens = iter(self._pieces.encode(texts) if texts else [])  # all at once: several threads share them
        return [self._encoded(reading, tokens, options) for reading in readings]

    def _encoded(self, reading: Sequence[Reading], tokens: Iterator[Tokens], options: EmbedOptions) -> Encoded | HooperError:
        pairs = [(text, next(tokens) if isinstance(text, PromptedText) else None) for text in reading]
        parts: list[EmbeddedRows] = []
        for text, tokens_of_text in pairs:
            part = text if isinstance(text, HooperError) else self._rows(text, tokens_of_text, options)
            if isinstance(part, HooperError):
                return part
            parts.append(part)
        rows = [row for part in parts for row in part.rows]
        return Encoded(rows, sum(row.num_tokens for row in rows), any(part.truncated for part in parts), parts)

    def _read(self, item: EmbedItem | SimilarityItem, options: EmbedOptions) -> list[Reading]:
        """Each of an item's texts as the model is to read it."""
        if isinstance(item, SimilarityItem):
            return list(self._compared(item, options))
        if not item.token_ids:
            return [refuse_text(item.text, "text") or self._prompted(item.text, self._prompt(options))]
        wrong = next((number for number in item.token_ids if not 0 <= number < self._vocabulary_size), None)
        if wrong is not None:
            reason = f"{wrong} is no token of this model, whose own tokenizer knows {self._vocabulary_size}; {SEND_TEXTS}"
            return [InvalidInput(reason, "text")]
        if not self._are_own(item.token_ids[:NUM_LOOKED_AT]):
            return [
                InvalidInput(f"the model's own tokenizer makes other tokens of the text that these are; {SEND_TEXTS}", "text")
            ]
        return [item.token_ids]

    def _are_own(self, token_ids: Sequence[int]) -> bool:
        """Whether the text of these tokens is made of much the same again: of other tokenizers' numbers it is not."""
        text = self._tokenizer.decode(token_ids, skip_special_tokens=False)
        (again,) = self._pieces.encode([text])
        return SequenceMatcher(None, token_ids, again.ids, autojunk=False).ratio() >= SAME_TOKENS

    def _compared(self, item: SimilarityItem, options: EmbedOptions) -> Iterator[Reading]:
        fields = [("source_sentence", item.source_sentence, item.source_prompt)]
        fields += [(f"sentences.{number}", text, item.sentence_prompt) for number, text in enumerate(item.sentences)]
        for field, text, own_prompt in fields:
            prompt = self._prompt(options) if own_prompt is None else self.prompts.get(own_prompt, own_prompt)
            yield refuse_text(text, field) or self._prompted(text, prompt)

    def _prompt(self, options: EmbedOptions) -> str:
        if options.prompt_name is not None:
            return self.prompts[options.prompt_name]
        if options.prompt is not None:
            return self.prompts.get(options.prompt, options.prompt)
        return self.prompts.get(self._default_prompt or "", "")

    def _prompted(self, text: str, prompt: str) -> PromptedText:
        """As sentence-transformers' `encode` hands it to the tokenizer."""
        if self._lower_case:
            text, prompt = text.lower(), prompt.lower()
        joined = prompt + text
        stripped = joined.strip()
        num_characters = max(0, len(prompt) - (len(joined) - len(joined.lstrip())))
        if self._include_prompt or not prompt:
            return PromptedText(stripped, num_characters, 0)
        (alone,) = self._pieces.encode([prompt.strip()])  # as there: its length is that of the prompt by itself
        return PromptedText(stripped, num_characters, self._pieces.single.start() + len(alone))

    def _rows(
        self, text: PromptedText | Sequence[int], tokens: Tokens | None, options: EmbedOptions
    ) -> EmbeddedRows | HooperError:
        size = max(1, self._max_tokens - self._pieces.single.num_special_tokens)
        if isinstance(text, PromptedText) and tokens is not None:
            ids, num_prompt, num_skipped = tokens.ids, _num_before(tokens, text.prompt_characters), text.num_skipped
        else:
            ids, num_prompt, num_skipped = text, 0, 0  # type: ignore[assignment]  # token ids
        if len(ids) <= size:
            return EmbeddedRows([self._row(ids, num_skipped, options)], [len(ids)], False)
        if options.truncation == "error":
            return TooManyTokens(
                f"the text has more than {self._max_tokens} tokens, the longest this model reads", ("truncate", "window")
            )
        prompt, own = ids[:num_prompt], ids[num_prompt:]
        room = size - num_prompt
        if room < max(1, size // 4):
            return InvalidInput(f"has {num_prompt} tokens, which leave no room for a text: the model reads {size}", "prompt")
        if options.truncation == "truncate":
            is_left = (options.truncation_side or self._pieces.side) == "left"
            kept = [*prompt, *(own[-room:] if is_left else own[:room])]
            return EmbeddedRows([self._row(kept, num_skipped, options)], [room], True)
        windows = [own[start : start + room] for start in range(0, len(own), room)]
        rows = [self._row([*prompt, *window], num_skipped, options) for window in windows]
        return EmbeddedRows(rows, [len(window) for window in windows], False)

    def _row(self, ids: Sequence[int], num_skipped: int, options: EmbedOptions) -> Row:
        row = self._pieces.single.row(ids)
        # the graph pools from here on to the row's end: see `docs/adr/0069-embeddings-are-pooled-in-the-graph.md`
        begin = min(num_skipped, row.num_tokens - 1)
        return Row(row.input_ids, row.token_type_ids, (begin,), (TOKEN_OUTPUT,) if options.of_tokens else ())

    def _refuse_options(self, options: EmbedOptions) -> InvalidInput | None:
        if options.prompt_name is not None and options.prompt_name not in self.prompts:
            names = ", ".join(map(repr, list(self.prompts)[:NUM_NAMED])) or "none"
            return InvalidInput(f"{options.prompt_name!r} is no prompt of this model, which has {names}", "prompt_name")
        if options.of_tokens and not self._token_dimensions:
            return InvalidInput("no vectors of single tokens come from this model: it was published without them", "text")
        wished = options.dimensions
        if wished is None or wished == self.dimensions:
            return None
        if wished > self.dimensions:
            return InvalidInput(f"is {wished}, but the vectors of this model have {self.dimensions}", "dimensions")
        if not self._can_cut:
            reason = f"the vectors of this model have {self.dimensions}, and it was not trained for shorter ones; leave it out"
            return InvalidInput(reason, "dimensions")
        if self._sizes and wished not in self._sizes:
            sizes = ", ".join(map(str, self._sizes[:NUM_NAMED]))
            return InvalidInput(f"is {wished}; this model was trained for {sizes} and {self.dimensions}", "dimensions")
        return None

    # answers

    def decode(
        self, encoded: Encoded, outputs: Sequence[RowOutput], options: EmbedOptions
    ) -> Embedding | TokenVectors | Similarities:
        """A text's vector, or those of its tokens; of a `SimilarityItem` the cosines of its texts."""
        if options.of_tokens:
            return TokenVectors(outputs[0][TOKEN_OUTPUT])
        vectors = self._vectors(encoded, outputs, options)
        if len(vectors) == 1:
            return Embedding(np.round(vectors[0], DECIMALS).tolist(), options.vector_encoding)
        scaled = np.array([unit(vector) for vector in vectors])
        parts: Sequence[EmbeddedRows] = encoded.state[1:]
        num_tokens = [sum(row.num_tokens for row in part.rows) for part in parts]
        scores = np.clip(scaled[1:] @ scaled[0], -1.0, 1.0)  # rounding may pass the ends
        return Similarities(scores.tolist(), scaled, num_tokens, [part.truncated for part in parts])

    def _vectors(self, encoded: Encoded, outputs: Sequence[RowOutput], options: EmbedOptions) -> list[Floats]:
        """Of each of an item's texts: (dimensions,)."""
        remaining = iter(outputs)
        vectors = []
        for part in encoded.state:
            windows = [next(remaining)[OUTPUT].astype(np.float64) for _ in part.rows]
            vector = windows[0] if len(windows) == 1 else np.average(windows, axis=0, weights=part.weights)
            is_changed = len(windows) > 1 or options.dimensions is not None
            vector = vector[: options.dimensions]
            # a model whose vectors have the length 1 keeps to that, also where the vector is a mean or a beginning
            vectors.append(unit(vector) if options.normalize or (self._is_normalized and is_changed) else vector)
        return vectors

    def decision(self, answer: Any, options: EmbedOptions) -> Decision | None:
        """A vector decides nothing."""
        return None

    def same_decision(self, answer: Any, other: Any, options: EmbedOptions) -> bool:
        """Whether the vectors point the same way, of similarities those of each text."""
        if isinstance(answer, TokenVectors):
            return cosine(*(vectors.astype(np.float64).ravel() for vectors in (answer.vectors, other.vectors))) >= SAME_COSINE
        if isinstance(answer, Similarities):
            return all(cosine(*pair) >= SAME_COSINE for pair in zip(answer.vectors, other.vectors, strict=True))
        return cosine(answer.vector, other.vector) >= SAME_COSINE

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        vector = self.decode(encoded, outputs, EmbedOptions()).vector  # type: ignore[union-attr]  # golden items are texts
        if len(vector) != len(expected["vector"]):
            return f"its vector has {len(vector)} components, had {len(expected['vector'])}"
        similarity = cosine(vector, expected["vector"])
        # a hundredth of what scores may move by moves a vector by as much as rounding does
        if not similarity >= 1 - tolerance / 10:  # "not": NaN is no cosine
            return f"the cosine of its vector with the published one is {similarity:.4f}"
        return ""


def unit(vector: Floats) -> Floats:
    """The vector with the length 1; one that is 0 as it is."""
    scaled: Floats = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled


def cosine(vector: Sequence[float] | Floats, other: Sequence[float] | Floats) -> float:
    """Of two vectors of as many components."""
    return float(unit(np.asarray(vector, np.float64)) @ unit(np.asarray(other, np.float64)))


def _num_before(tokens: Tokens, place: int) -> int:
    """How many of a text's tokens begin before a character."""
    if place <= 0:
        return 0
    return next((number for number, (start, end) in enumerate(tokens.offsets) if start >= place), len(tokens))
