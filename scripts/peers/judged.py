"""A published version as transformers' pipelines take it: its graph in place of a model, and its tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers

from app.core.types import Row, RowOutput
from app.tasks.base import Encoded
from scripts.export.published import OpenVersion

TINY: dict[str, int] = {
    "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
}  # fmt: skip
"""Sizes of a model of transformers whose weights are never used."""


class JudgedRows:
    """The published graph's answers to single rows; none of them is computed twice."""

    def __init__(self, version: OpenVersion) -> None:
        self._session = version.session
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], np.ndarray] = {}

    def read(self, input_ids: Sequence[int], token_type_ids: Sequence[int] | None = None) -> np.ndarray:
        """Logits of a row: (tokens, labels)."""
        types = [0] * len(input_ids) if token_type_ids is None else token_type_ids
        key = tuple(input_ids), tuple(types)
        if key not in self._known:
            (output,) = self._session.run_rows([Row(input_ids, types)])
            self._known[key] = np.array(output["logits"])
        return self._known[key]

    def remember(self, encoded: Encoded, outputs: Sequence[RowOutput]) -> None:
        """Keep what is known of this item's rows alone."""
        pairs = zip(encoded.rows, outputs, strict=True)
        self._known = {(tuple(row.input_ids), tuple(row.token_type_ids)): np.array(output["logits"]) for row, output in pairs}


def hub_tokenizer(version: OpenVersion) -> Any:
    """The version's tokenizer as transformers' own."""
    transformers.logging.set_verbosity(logging.CRITICAL)  # it would name all classes that it knows better
    tokens = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(version.folder / version.manifest.tokenizer), **tokens)
