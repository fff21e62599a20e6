"""The packed form of a transformers model: several rows share a tensor row under a block-diagonal mask."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from scripts.export.padded import head_logits
from scripts.export.positions import accepted_inputs, makes_token_types, position_table
from scripts.tasks.base import Axis

MASKED = -1e4
"""Added to forbidden attention scores. Far enough for a probability of exactly 0, and finite in fp16 and bf16, where
transformers' own constant, the least fp32 number, becomes -inf and then NaN."""


def is_packable(model: Any) -> bool:
    """Whether the model has the parts through which rows can be kept apart: an encoder that is given its attention mask, and
    positions that can be given too. Only numbers show whether it really keeps them apart: see `scripts.export.trial_export`."""
    base, config = model.base_model, model.config
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        return False
    if makes_token_types(model):
        return False  # out of the first of a tensor row's separators, of which each packed row has its own
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        return False  # a table of distances, which is no longer than the longest row: a tensor row of several can be
    if _is_distilbert(base):
        return True
    encoder = getattr(base, "encoder", None)
    if not isinstance(encoder, torch.nn.Module) or "attention_mask" not in accepted_inputs(encoder):
        return False
    return position_table(model) is None or "position_ids" in accepted_inputs(base)


class PackedModel(torch.nn.Module):
    """The model's own forward, with hooks around its encoder: attention is masked between rows, and for the axis `row` only the
    gathered tokens go on to the head.

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
        fed: dict[str, Any] = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        accepted = accepted_inputs(self.model)
        if "token_type_ids" in accepted:  # left to itself, the model would slice a buffer of fixed length
            fed["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        with _packing(self.model.base_model, mask, position_ids, gather if self.axis == "row" else None):
            if "position_ids" in accepted:
                fed["position_ids"] = position_ids
            logits = head_logits(self.model(**fed, return_dict=True))
        if self.axis == "marker" and gather is not None:
            logits = logits.reshape(-1, logits.shape[-1])[gather]  # (markers, labels)
        return {"logits": logits}


@contextmanager
def _packing(base: Any, mask: torch.Tensor, position_ids: torch.Tensor, gather: torch.Tensor | None) -> Iterator[None]:
    """Meanwhile the base model's encoder attends under this mask, and gives the gathered tokens only."""
    encoder = base.transformer if _is_distilbert(base) else base.encoder
    with ExitStack() as stack:
        if _is_distilbert(base):
            stack.enter_context(_replaced(encoder, "forward", lambda x, **_: _distilbert(encoder, x, mask)))
            table = base.embeddings.position_embeddings  # transformers' DistilBERT takes no position ids
            stack.callback(table.register_forward_pre_hook(lambda *_: (position_ids,)).remove)
        else:
            hook = encoder.register_forward_pre_hook(_masking(encoder, mask), with_kwargs=True)
            stack.callback(hook.remove)
        if gather is not None:
            stack.callback(encoder.register_forward_hook(_gathering(gather)).remove)
        yield


def _masking(encoder: Any, mask: torch.Tensor) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    signature = inspect.signature(encoder.forward)

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = signature.bind(*args, **kwargs)
        bound.arguments["attention_mask"] = mask
        return bound.args, bound.kwargs

    return hook


def _gathering(gather: torch.Tensor) -> Callable[..., Any]:
    def hook(_: Any, __: Any, output: Any) -> Any:
        hidden = output[0].reshape(-1, output[0].shape[-1])[gather][:, None]  # (rows, 1, hidden)
        if isinstance(output, tuple):
            return (hidden, *output[1:])
        output["last_hidden_state"] = hidden
        return output

    return hook


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name)


def _is_distilbert(base: Any) -> bool:
    return bool(base.config.model_type == "distilbert")


def _distilbert(transformer: Any, hidden: torch.Tensor, mask: torch.Tensor) -> BaseModelOutput:
    # transformers' own takes only masks of one line per row, so its modules are called here
    for layer in transformer.layer:
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
    return BaseModelOutput(last_hidden_state=hidden)  # type: ignore[arg-type]  # declared as a legacy tensor class
