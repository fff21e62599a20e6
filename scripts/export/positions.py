"""What a transformers model's own modules say of its inputs: where it counts positions from, how far, and its token types."""

from __future__ import annotations

import inspect
from typing import Any

TABLE = "position_embeddings"
TYPE_WEIGHTS = ("token_type_embeddings", "seg_embed")


def position_table(model: Any) -> Any | None:
    """The module with a vector for each position, or None."""
    named = model.base_model.named_modules()
    return next((one for name, one in named if name.split(".")[-1] == TABLE and hasattr(one, "weight")), None)


def position_offset(model: Any) -> int:
    """Position id of a row's first token: models in RoBERTa's way number from the padding id + 1, some begin with 2."""
    table = position_table(model)
    if table is None:
        return 0
    if getattr(table, "padding_idx", None) is not None:
        return int(table.padding_idx) + 1
    numbered = next((one for name, one in model.base_model.named_buffers() if name.split(".")[-1] == "position_ids"), None)
    return 0 if numbered is None or numbered.is_meta or not numbered.numel() else int(numbered.flatten()[0])


def num_positions(model: Any) -> int | None:
    """Tokens of the longest row that the model has positions for; None where it has no end."""
    full = longest_full_attention(model.config)
    table = position_table(model)
    if table is not None:
        last = int(table.weight.shape[0]) - position_offset(model)
    else:
        last = int(getattr(model.config, "max_position_embeddings", None) or 0)
    limits = [limit for limit in (full, last) if limit and limit > 0]
    return min(limits, default=None)


def longest_full_attention(config: Any) -> int | None:
    """Of models in BigBird's way, how long a row may be for transformers to compute full attention; only that is exported."""
    if getattr(config, "attention_type", None) != "block_sparse":
        return None
    return int((5 + 2 * config.num_random_blocks) * config.block_size)


def accepted_inputs(model: Any) -> set[str]:
    """Names that the model's forward takes; adapters around a model take whatever it does."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(inner.forward).parameters)


def takes_token_types(model: Any) -> bool:
    """Whether token types make a difference: the model takes them, and has weights for more than one."""
    if "token_type_ids" not in accepted_inputs(model) or makes_token_types(model):
        return False
    return any(weights.shape[0] > 1 for name, weights in model.named_parameters() if any(kind in name for kind in TYPE_WEIGHTS))


def makes_token_types(model: Any) -> bool:
    """Whether the model tells question and context apart by itself, as BigBird's head for questions does where it is given no
    token types; its tokenizer has none."""
    return hasattr(model, "prepare_question_mask")


def padding_id(config: Any) -> int:
    """The token that fills a tensor up. Models without one, which are decoders, read a text at its last token that is none: so
    it is one with which texts do not end."""
    for one in (config.pad_token_id, *end_tokens(config), config.bos_token_id):
        if one is not None and 0 <= one < config.vocab_size:
            return int(one)
    return int(config.vocab_size) - 1


def end_tokens(config: Any) -> list[int]:
    """Those that may end a text."""
    end = config.eos_token_id
    known = end if isinstance(end, list) else [] if end is None else [end]
    return [token for token in known if token < config.vocab_size]
