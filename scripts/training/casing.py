"""Capitals for a base model that reads none: cased pieces beside its uncased ones, and how their vectors are learnt.

A piece of the new vocabulary has the vector of its uncased piece plus one that all capitalised pieces share, or all upper-case
ones. So a word that training never saw knows its case too. Once trained, the sums are an ordinary table of vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from app.core.errors import InvalidSettings
from scripts.training.pretrained import Start

PREFIX = "##"
"""Of pieces that go on a word."""
UPPER_LETTERS, UPPER_PIECES = 4, 4000
"""Pieces of so few letters get an upper-case form, and the most frequent ones, which come first in BERT's vocabularies. All of
them would take a quarter more room; with these, four of five upper-case words in news split as in lower case."""
LOWER_CASE, CAPITALISED, UPPER_CASE = range(3)
CASE_PACE = 10
"""Times the learning rate at which the vectors of the cases learn, which begin with nothing."""
CASE_DROPOUT = 0.05
"""Share of training rows that are read as if in lower case: people write so, and names are to be found there too."""


def with_capitals(start: Start) -> Start:
    """The start with a tokenizer that keeps capitals.

    Capitalised words split as their lower-case forms do. Of upper-case words those do so whose pieces are frequent; others
    split into shorter pieces, never into unknown ones.

    Raises:
        InvalidSettings: its tokenizer is not of lower-case word pieces.
    """
    definition = json.loads(start.tokenizer)
    model, normalizer = definition["model"], definition.get("normalizer") or {}
    if model.get("type") != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        raise InvalidSettings(f"cased is for vocabularies of word pieces, as BERT has them, not for that of {start.base.name}")
    if not normalizer["lowercase"]:
        raise InvalidSettings(f"{start.base.name} reads capitals already: leave out cased")
    if model["continuing_subword_prefix"] != PREFIX:
        raise InvalidSettings(f"cased needs pieces that go on with {PREFIX}, and {start.base.name} has others")
    if normalizer["strip_accents"] is None:  # lower-casing would say so
        normalizer["strip_accents"] = True
    normalizer["lowercase"] = False
    vocabulary, added = model["vocab"], definition["added_tokens"]
    first = max([*vocabulary.values(), *(token["id"] for token in added)]) + 1
    cased = cased_pieces(vocabulary, {token["content"] for token in added})
    vocabulary.update({piece: number for number, piece in enumerate(cased, first)})
    return replace(start, tokenizer=json.dumps(definition, ensure_ascii=False))


def cased_pieces(vocabulary: Mapping[str, int], special: set[str]) -> list[str]:
    """The pieces that are added: capitalised beginnings of words, then upper-case pieces."""
    pieces = [piece for piece in sorted(vocabulary, key=lambda piece: vocabulary[piece]) if piece not in special]
    beginnings = [(piece, piece[:1].upper() + piece[1:]) for piece in pieces if not piece.startswith(PREFIX)]
    capitalised = dict.fromkeys(cased for piece, cased in beginnings if _is_case_of(cased, piece))
    upper = [piece.upper() for piece in pieces if _is_case_of(piece.upper(), piece) and piece.upper() not in capitalised]
    # single letters are among the short ones: without them a word that has one would be unknown as a whole
    short = [piece for piece in upper[UPPER_PIECES:] if len(piece.removeprefix(PREFIX)) <= UPPER_LETTERS]
    return [*capitalised, *upper[:UPPER_PIECES], *short]


def _is_case_of(cased: str, piece: str) -> bool:
    return cased != piece and cased.lower() == piece and len(cased) == len(piece)


def add_capitals(model: Any, definition: str) -> None:
    """Let a model with the vectors of the uncased pieces read the cased ones: as the uncased ones, until it has learnt.

    Args:
        definition: of the tokenizer that `with_capitals` made.

    Raises:
        InvalidSettings: the model's table is also its output, or it has no head.
    """
    if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is not None:
        raise InvalidSettings(
            f"cased is for models with a head for labels, sentences or answers, not for {type(model).__name__}"
        )
    pieces = json.loads(definition)["model"]["vocab"]
    table: Any = model.get_input_embeddings()
    num_pieces = max(table.num_embeddings, max(pieces.values()) + 1)
    lower, cases = torch.arange(num_pieces), torch.full((num_pieces,), LOWER_CASE)
    for piece, number in pieces.items():
        if piece != piece.lower() and piece.lower() in pieces:  # special tokens have no lower-case form
            lower[number] = pieces[piece.lower()]
            cases[number] = CAPITALISED if piece[1:] == piece[1:].lower() else UPPER_CASE
    model.set_input_embeddings(CasedEmbedding(table, lower, cases))
    model.config.vocab_size = num_pieces


def fold_capitals(model: Any) -> None:
    """Replace what `add_capitals` put there by an ordinary table of vectors."""
    model.set_input_embeddings(model.get_input_embeddings().folded())


@contextmanager
def folded_for_trial(model: Any, is_cased: bool) -> Iterator[None]:
    """For a while, a model that was given capitals is as it will be once it is trained; any other is left alone."""
    if not is_cased:
        yield
        return
    embedding = model.get_input_embeddings()
    fold_capitals(model)
    try:
        yield
    finally:
        model.set_input_embeddings(embedding)


class CasedEmbedding(torch.nn.Module):
    """Vectors of pieces: that of the lower-case piece, and one of its case.

    Args:
        table: of the lower-case pieces.
        lower: number of each piece's lower-case form. (pieces,)
        cases: of each piece. (pieces,)
    """

    def __init__(self, table: torch.nn.Embedding, lower: torch.Tensor, cases: torch.Tensor) -> None:
        super().__init__()
        self.table = table
        self.capitalised = torch.nn.Parameter(torch.zeros(table.embedding_dim, device=table.weight.device))
        self.upper_case = torch.nn.Parameter(torch.zeros(table.embedding_dim, device=table.weight.device))
        self.register_buffer("lower", lower.to(table.weight.device), persistent=False)
        self.register_buffer("cases", cases.to(table.weight.device), persistent=False)
        self.lower: torch.Tensor
        self.cases: torch.Tensor

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) to (rows, tokens, hidden)."""
        cases = self.cases[input_ids]
        if self.training:
            cases = cases * (torch.rand(len(cases), 1, device=cases.device) >= CASE_DROPOUT)
        vectors: torch.Tensor = self.table(self.lower[input_ids]) + self._of_cases(cases)
        return vectors

    def folded(self) -> torch.nn.Embedding:
        """The sums, as a table."""
        with torch.no_grad():
            vectors = self.table.weight[self.lower] + self._of_cases(self.cases)
        from_vectors: Any = torch.nn.Embedding.from_pretrained
        table: torch.nn.Embedding = from_vectors(vectors, freeze=False, padding_idx=self.table.padding_idx)
        return table

    def _of_cases(self, cases: torch.Tensor) -> torch.Tensor:
        is_capitalised, is_upper = (cases == case for case in (CAPITALISED, UPPER_CASE))
        # AdamW's steps are as long whatever the gradient's length: a factor here is one of the learning rate
        return CASE_PACE * (is_capitalised[..., None] * self.capitalised + is_upper[..., None] * self.upper_case)
