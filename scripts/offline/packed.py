"""The packed form of a transformers model: several rows share a tensor row under a block-diagonal mask."""

from __future__ import annotations

import math
from typing import Any

import torch

from app.core.errors import SetupError
from scripts.offline.tasks.base import Axis

PACKABLE = frozenset(
    ["bert", "camembert", "data2vec-text", "distilbert", "electra", "ernie", "roberta", "roberta-prelayernorm", "xlm-roberta"]
)
"""Model types whose forward takes position ids and whose attention sees positions only through them."""
OFFSET_POSITIONS = frozenset(["camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta"])
"""Model types that number positions from the padding id + 1."""
MASKED = -1e4
"""Added to forbidden attention scores. Far enough for a probability of exactly 0, and finite in fp16 and bf16, where
transformers' own constant, the least fp32 number, becomes -inf and then NaN."""


def is_packable(config: Any) -> bool:
    return config.model_type in PACKABLE and getattr(config, "position_embedding_type", "absolute") == "absolute"


def position_offset(config: Any) -> int:
    """Position id of a row's first token."""
    return config.pad_token_id + 1 if config.model_type in OFFSET_POSITIONS else 0


class PackedModel(torch.nn.Module):
    """Base model, then the model's own head on the gathered tokens (or on all of them, for the axis `token`).

    The wrapped model must use eager attention.
    """

    def __init__(self, model: Any, axis: Axis) -> None:
        super().__init__()
        self.config = model.config  # the exporter reads it
        self.model = model
        self.axis = axis

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segment_ids: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        gather: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            input_ids, position_ids, segment_ids, token_type_ids: (lines, tokens); segment 0 is padding.
            gather: (rows or markers,): flat indices of the tokens whose outputs are read.
        """
        same = segment_ids[:, :, None] == segment_ids[:, None, :]
        # padding attends to padding: a row of the mask is never empty, so that no softmax gives NaN
        mask = torch.where(same, 0.0, MASKED)[:, None]  # (lines, 1, tokens, tokens)
        if self.config.model_type == "distilbert":
            hidden = _distilbert(self.model.base_model, input_ids, position_ids, mask)
        else:
            hidden = _bert(self.model.base_model, input_ids, position_ids, mask, token_type_ids)
        if gather is not None:
            hidden = hidden.reshape(-1, hidden.shape[-1])[gather]  # (rows, hidden)
        return {"logits": _row_head(self.model, hidden[:, None]) if self.axis == "row" else _token_head(self.model)(hidden)}


def _bert(base: Any, input_ids: Any, position_ids: Any, mask: Any, token_type_ids: Any) -> torch.Tensor:
    if token_type_ids is None:  # left to itself, the model would slice a buffer of fixed length
        token_type_ids = torch.zeros_like(input_ids)
    own_mask = base.get_extended_attention_mask
    base.get_extended_attention_mask = lambda given, *rest, **named: given  # ours is extended already
    try:
        outputs = base(
            input_ids=input_ids, attention_mask=mask, position_ids=position_ids, token_type_ids=token_type_ids, return_dict=True
        )
    finally:
        base.get_extended_attention_mask = own_mask
    hidden: torch.Tensor = outputs["last_hidden_state"]
    return hidden


def _distilbert(base: Any, input_ids: Any, position_ids: Any, mask: Any) -> torch.Tensor:
    # transformers' DistilBERT takes no position ids and only masks of one line per row, so its modules are called here
    embeddings = base.embeddings
    hidden = embeddings.LayerNorm(embeddings.word_embeddings(input_ids) + embeddings.position_embeddings(position_ids))
    for layer in base.transformer.layer:
        attention = layer.attention
        size = attention.dim // attention.n_heads
        query, key, value = (
            linear(hidden).unflatten(-1, (attention.n_heads, size)).transpose(1, 2)
            for linear in (attention.q_lin, attention.k_lin, attention.v_lin)
        )  # (lines, heads, tokens, size)
        scores = query @ key.transpose(2, 3) / math.sqrt(size) + mask
        context = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        attended = layer.sa_layer_norm(attention.out_lin(context) + hidden)
        hidden = layer.output_layer_norm(layer.ffn(attended) + attended)
    return hidden  # type: ignore[no-any-return]


def _row_head(model: Any, first: torch.Tensor) -> torch.Tensor:
    """Logits (rows, labels) from the hidden state of each row's first token (rows, 1, hidden)."""
    pooler = getattr(model.base_model, "pooler", None)
    if hasattr(model, "pre_classifier"):  # DistilBERT
        pooled = torch.nn.functional.relu(model.pre_classifier(first[:, 0]))
    else:  # BERT pools before its classifier; RoBERTa's and ELECTRA's classifiers take the first token themselves
        pooled = first if pooler is None else pooler(first)
    logits: torch.Tensor = model.classifier(pooled)
    return logits


def _token_head(model: Any) -> Any:
    for name in ("qa_outputs", "classifier"):
        head = getattr(model, name, None)
        if isinstance(head, torch.nn.Linear):
            return head
    raise SetupError(f"{type(model).__name__} has no linear head per token")
