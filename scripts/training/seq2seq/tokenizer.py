"""The tokenizer of pairs, for a model that writes, with what its production task has to know of the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from app.core.manifest import Decoder
from app.core.types import Row
from app.tasks.tokenizer import Pieces, Tokenizer

if TYPE_CHECKING:
    from scripts.export.seq2seq.source_encoder import Known


class PairTokenizer(Tokenizer):
    """Tokenizes sources, as any other; and targets, which may have a vocabulary of their own."""

    def __init__(
        self,
        definition: str,
        max_tokens: int,
        decoder: Decoder,
        target: str = "",
        max_target_tokens: int = 0,
        known: Known = None,
        max_source_tokens: int = 0,
    ) -> None:
        """
        Args:
            definition: of the sources' tokenizer.
            target: definition of the targets' tokenizer; empty: the same.
            max_target_tokens: of a target in training; 0: what the decoder can write.
            known: tokens that the model has, and the one that all others are read as; None: it has all.
            max_source_tokens: of a source in training; 0: as many as ever.
        """
        super().__init__(definition, max_tokens)
        self.decoder, self.target_definition, self.known = decoder, target, known
        self.max_source_tokens = max_source_tokens
        room = decoder.max_length - 1
        self.max_target_tokens = min(room, max_target_tokens) if max_target_tokens else room

    def for_training(self) -> PairTokenizer:
        """The same, for sources as long as training reads them."""
        if not self.max_source_tokens:
            return self
        limit = min(self.max_tokens, self.max_source_tokens)
        return PairTokenizer(self.definition, limit, self.decoder, self.target_definition, self.max_target_tokens, self.known)

    @property
    def target(self) -> Tokenizer | None:
        """Of what is written, where it is another."""
        return Tokenizer(self.target_definition, self.decoder.max_length) if self.target_definition else None

    def labels(self, texts: Sequence[str], first: Sequence[int] = ()) -> list[list[int]]:
        """The tokens that a decoder is to write for each target. A longer target is cut, and then does not end: so no model
        learns to stop where a text was cut.

        Args:
            first: tokens before the target's own, as that of its language.
        """
        limit = self.max_target_tokens - len(first)
        return [
            [*first, *self.read(self._target_pieces.single.row(tokens.ids).input_ids[:limit])]
            for tokens in self._target_pieces.encode(list(texts))
        ]

    def read(self, ids: Sequence[int]) -> Sequence[int]:
        """The tokens as the model reads them."""
        if self.known is None:
            return ids
        count, unknown = self.known
        return [number if number < count else unknown for number in ids]

    def read_row(self, row: Row) -> Row:
        return row if self.known is None else Row(self.read(row.input_ids), row.token_type_ids, row.output_positions)

    @cached_property
    def _target_pieces(self) -> Pieces:
        return Pieces(self.target_definition or self.definition)
