"""Both forms of a transformers model: packed, where several rows share a tensor row, and padded, with a tensor row each."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from app.core.manifest import Graph, Output
from scripts.export import pooling
from scripts.tasks.spec import Axis

TABLE = "position_embeddings"
PADDING_SIDE = "padding_side"
"""Where a model's config keeps the side on which its rows are padded, once the trial export has found it."""
TYPE_WEIGHTS = ("token_type_embeddings", "seg_embed")


def position_table(model: Any) -> Any | None:
    """The module with a vector for each position, or None."""
    modules = model.base_model.named_modules()
    return next((module for name, module in modules if name.split(".")[-1] == TABLE and hasattr(module, "weight")), None)


def position_offset(model: Any) -> int:
    """Position id of a row's first token: models in RoBERTa's way number from the padding id + 1, some begin with 2."""
    table = position_table(model)
    if table is None:
        return 0
    if getattr(table, "padding_idx", None) is not None:
        return int(table.padding_idx) + 1
    buffers = model.base_model.named_buffers()
    ids = next((buffer for name, buffer in buffers if name.split(".")[-1] == "position_ids"), None)
    return 0 if ids is None or ids.is_meta or not ids.numel() else int(ids.flatten()[0])


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
    it is a token with which texts do not end."""
    for token in (config.pad_token_id, *end_tokens(config), config.bos_token_id):
        if token is not None and 0 <= token < config.vocab_size:
            return int(token)
    return int(config.vocab_size) - 1


def end_tokens(config: Any) -> list[int]:
    """Those that may end a text."""
    end = config.eos_token_id
    known = end if isinstance(end, list) else [] if end is None else [end]
    return [token for token in known if token < config.vocab_size]


def padded_graph(model: Any, axis: Axis) -> Graph:
    """The manifest entry of the padded form: what the torch model itself takes, and how its rows are padded."""
    accepted = accepted_inputs(model)
    inputs = [name for name in ("input_ids", "attention_mask") if name in accepted]
    reads_from = ["gather"] if axis == "row" and "gather" in accepted else []
    return Graph(
        file="model.onnx",
        layout="padded",
        inputs=(*inputs, *(["token_type_ids"] if takes_token_types(model) else []), *reads_from),
        outputs=graph_outputs(model, axis),
        pad_token_id=padding_id(model.config),
        padding_side=getattr(model.config, PADDING_SIDE, "right"),
        storage="fp32",
    )


def graph_outputs(model: Any, axis: Axis) -> tuple[Output, ...]:
    """The manifest entries of what a model gives: its logits, and for each token what the model says that it gives besides."""
    extra = tuple(Output(name=name, axis="token", is_optional=True) for name in token_outputs(model))
    return (Output(name="logits", axis=axis, pooling=pooling.pooling_of(model)), *extra)


def token_outputs(model: Any) -> Sequence[str]:
    """Names of the outputs that a model has for each token beside its logits."""
    names: Sequence[str] = getattr(model, "token_outputs", ())
    return names


class PaddedModel(torch.nn.Module):
    """The model's own forward, with what is read of its outputs."""

    def __init__(self, model: Any, axis: Axis) -> None:
        super().__init__()
        self.config = model.config  # the exporter reads it
        self.model = model
        self.axis = axis

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        gather: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            input_ids, attention_mask, token_type_ids: (rows, tokens).
            gather: (positions,): flat indices of the tokens whose outputs are read; of a model of the axis `row` that takes it,
                (rows,): where each row's vector begins.
        """
        tensors = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        if self.axis == "row":
            tensors["gather"] = gather
        inputs = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        if self.axis == "row" and is_read_at_its_end(self.model):
            return {"logits": _read_at_the_end(self.model, inputs)}
        outputs = all_outputs(self.model, self.model(**inputs, return_dict=True))
        if gather is not None and self.axis != "row":
            logits = outputs["logits"]
            outputs["logits"] = logits.reshape(-1, logits.shape[-1])[gather]  # (positions, labels)
        return outputs


def is_read_at_its_end(model: Any) -> bool:
    """Whether it is an encoder-decoder that classifies a text by what its decoder gives for the last end-of-text token."""
    return bool(model.config.is_encoder_decoder) and hasattr(model, "classification_head")


def _read_at_the_end(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    # transformers' own forward wants as many end tokens in every row of a batch, and a pair has more of them than a text
    input_ids = inputs["input_ids"]
    body = model.base_model if hasattr(model.base_model, "decoder") else model.transformer
    if hasattr(model, "_shift_right"):  # T5 leaves it to the caller
        inputs = {**inputs, "decoder_input_ids": model._shift_right(input_ids)}
    hidden = body(**inputs, use_cache=False, return_dict=True)["last_hidden_state"]
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = ((input_ids == model.config.eos_token_id) * places).argmax(-1)  # (rows,)
    read = hidden[torch.arange(input_ids.shape[0], device=input_ids.device), last]
    logits: torch.Tensor = model.classification_head(read)
    return logits


def all_outputs(model: Any, outputs: Any) -> dict[str, torch.Tensor]:
    """Those of `graph_outputs`, out of what the model's forward gave."""
    return {"logits": head_logits(outputs), **{name: outputs[name] for name in token_outputs(model)}}


def head_logits(outputs: Any) -> torch.Tensor:
    """What the head gave, whatever transformers calls it."""
    if "logits" in outputs:
        logits: torch.Tensor = outputs["logits"]
        return logits
    return torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1)  # question answering: (rows, tokens, 2)


MASKED = -1e4
"""Added to forbidden attention scores. Far enough for a probability of exactly 0, and finite in fp16 and bf16, where
transformers' own constant, the least fp32 number, becomes -inf and then NaN."""


def is_packable(model: Any) -> bool:
    """Whether the model has the parts through which rows can be kept apart: an encoder that is given its attention mask, and
    positions that can be given too. Only numbers show whether it really keeps them apart: see `scripts.export.export`."""
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
    """The model's own forward, with hooks around its encoder: attention is masked between rows, and for the axes `row` and
    `position` only the gathered tokens go on to the head.

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
            gather: (rows or positions,): flat indices of the tokens whose outputs are read.
        """
        same = segment_ids[:, :, None] == segment_ids[:, None, :]  # (lines, tokens, tokens)
        # padding attends to padding: a row of the mask is never empty, so that no softmax gives NaN
        mask = torch.where(same, 0.0, MASKED)[:, None]  # (lines, 1, tokens, tokens)
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        accepted = accepted_inputs(self.model)
        if "token_type_ids" in accepted:  # left to itself, the model would slice a buffer of fixed length
            inputs["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        with _packing(self.model.base_model, mask, position_ids), self._gathering(same, gather):
            if "position_ids" in accepted:
                inputs["position_ids"] = position_ids
            outputs = all_outputs(self.model, self.model(**inputs, return_dict=True))
        if self.axis == "position" and gather is not None:
            outputs["logits"] = outputs["logits"].flatten(0, -2)  # (positions, labels)
        return outputs

    @contextmanager
    def _gathering(self, same: torch.Tensor, gather: torch.Tensor | None) -> Iterator[None]:
        """Meanwhile a model of the axis `row` gives one vector a row: its first token's, or what its own pooling gives;
        the encoder of one of the axis `position` those of the tokens that are read: a head may give a number for each word."""
        base = self.model.base_model
        with ExitStack() as stack:
            if self.axis != "token" and gather is not None:
                pooled = pooling.row_pooling(self.model) if self.axis == "row" else None
                if pooled is not None:
                    stack.enter_context(pooled.packed(same, gather))
                else:
                    hook = pooling.encoder_of(base).register_forward_hook(_first_tokens(gather))  # type: ignore[union-attr]
                    stack.callback(hook.remove)
            yield


@contextmanager
def _packing(base: Any, mask: torch.Tensor, position_ids: torch.Tensor) -> Iterator[None]:
    """Meanwhile the base model's encoder attends under this mask."""
    encoder = base.transformer if _is_distilbert(base) else base.encoder
    with ExitStack() as stack:
        if _is_distilbert(base):
            stack.enter_context(_replaced(encoder, "forward", lambda x, **_: _distilbert(encoder, x, mask)))
            table = base.embeddings.position_embeddings  # transformers' DistilBERT takes no position ids
            stack.callback(table.register_forward_pre_hook(lambda *_: (position_ids,)).remove)
        else:
            hook = encoder.register_forward_pre_hook(_masking(encoder, mask), with_kwargs=True)
            stack.callback(hook.remove)
        yield


def _masking(encoder: Any, mask: torch.Tensor) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    signature = inspect.signature(encoder.forward)

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = signature.bind(*args, **kwargs)
        bound.arguments["attention_mask"] = mask
        return bound.args, bound.kwargs

    return hook


def _first_tokens(gather: torch.Tensor) -> Callable[..., Any]:
    def hook(_: Any, __: Any, output: Any) -> Any:
        hidden = output[0].reshape(-1, output[0].shape[-1])[gather][:, None]  # (rows, 1, hidden)
        return pooling.with_hidden(output, hidden)

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
