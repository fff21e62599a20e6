"""The torch model of a text's vector: a transformer, the pooling of its token vectors, and what lies behind that.

Pooling is written once, for rows that share a tensor row and for those that have one each: a row is the tokens that are of one
kind with its first, from a place on. So the graph that is exported pools packed rows, and may leave out what stands before the
place, as models want that do not read their prompt into the vector.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers

from app.core.errors import InvalidSettings
from app.tasks.feature_extraction.task import TOKEN_OUTPUT
from scripts.tasks.feature_extraction.modules import LayerSpec, SentenceModules, write_modules

LOWEST = -1e4
"""Below any component of a token's vector, and finite in fp16."""
KEY = "hooper_modules"
"""Where the config of a body keeps what lies behind it, so that the model can be made again of its config."""
BODIES = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
"""Of model types that have a decoder, which a vector needs not."""


class SentenceEncoder(torch.nn.Module):
    """A text's vector, as what an export calls logits: (rows, dimensions)."""

    base_model_prefix = "body"
    """Where its transformer is, as models of transformers say it."""
    token_outputs = (TOKEN_OUTPUT,)
    """What an export adds to the logits, for each token: what its transformer gives, as sentence-transformers calls it."""

    def __init__(self, body: Any, pooling: Sequence[str], layers: Sequence[LayerSpec]) -> None:
        """
        Args:
            body: what transformers loads, without a head.
            pooling: modes whose vectors stand side by side; see `modules.MODES`.
            layers: what lies behind the pooling, without weights.
        """
        super().__init__()
        self.body, self.pooling = body, tuple(pooling)
        pooler = getattr(body, "pooler", None)
        if isinstance(pooler, torch.nn.Module):  # nothing reads it: several processes would wait for its gradients
            pooler.requires_grad_(False)
        self.modules_read: SentenceModules | None = None
        """What was read beside the transformer it was made from."""
        self.layers = torch.nn.Sequential(*map(_layer, layers))
        self._takes = set(inspect.signature(body.forward).parameters)
        self._packed: tuple[torch.Tensor, torch.Tensor] | None = None
        setattr(body.config, KEY, {"pooling": list(pooling), "layers": [asdict(layer) for layer in layers]})

    @classmethod
    def _from_config(cls, config: Any, **options: Any) -> SentenceEncoder:
        """As models of transformers are made of their config, with weights that mean nothing."""
        parts: Mapping[str, Any] = getattr(config, KEY)
        body = body_class(config)._from_config(config, **options)
        return cls(body, parts["pooling"], [LayerSpec(**layer) for layer in parts["layers"]])

    @property
    def config(self) -> Any:
        return self.body.config

    @property
    def base_model(self) -> Any:
        return self.body

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        sizes = [layer.out_features for layer in self.layers if isinstance(layer, _Dense)]
        return sizes[-1] if sizes else len(self.pooling) * self.token_dimensions

    @property
    def token_dimensions(self) -> int:
        """Of a token's vector."""
        return hidden_size(self.config)

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def get_input_embeddings(self) -> Any:
        return self.body.get_input_embeddings()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `modules.find_modules` and sentence-transformers read; tokenizers are kept elsewhere."""
        self.body.save_pretrained(folder)
        layers = tuple(_spec_of(layer) for layer in self.layers)
        modules = self.modules_read or SentenceModules("", self.pooling)
        folders = write_modules(Path(folder), replace(modules, pooling=self.pooling, layers=layers), hidden_size(self.config))
        for layer, place in zip(self.layers, folders, strict=True):
            if layer.state_dict():
                prefix = "norm." if isinstance(layer, torch.nn.LayerNorm) else ""
                weights = {f"{prefix}{name}": tensor.contiguous() for name, tensor in layer.state_dict().items()}
                safetensors.torch.save_file(weights, place / "model.safetensors")

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        gather: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            input_ids, attention_mask, token_type_ids, position_ids: (rows, tokens).
            gather: (rows,): flat index of the first token of each row that its vector is made of; None: its first.
        """
        tensors = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
        }
        inputs = {name: tensor for name, tensor in tensors.items() if tensor is not None and name in self._takes}
        hidden = self.body(**inputs, return_dict=True)["last_hidden_state"]  # (lines, tokens, hidden)
        same, starts = self._packed or _padded_rows(input_ids, attention_mask, gather)
        vectors: torch.Tensor = self.layers(pooled(hidden, same, starts, self.pooling))
        return {"logits": vectors, TOKEN_OUTPUT: hidden}

    @contextmanager
    def packed(self, same: torch.Tensor, gather: torch.Tensor) -> Iterator[None]:
        """Meanwhile several rows share a tensor row.

        Args:
            same: whether two tokens are of one row. (lines, tokens, tokens)
            gather: as for `forward`.
        """
        self._packed = same, gather
        try:
            yield
        finally:
            self._packed = None


def pooled(hidden: torch.Tensor, same: torch.Tensor, starts: torch.Tensor, modes: Sequence[str]) -> torch.Tensor:
    """The vectors of rows, those of several modes side by side: (rows, modes x hidden).

    Source: sentence_transformers.models.Pooling, for one row at a time.

    Args:
        hidden: of each token. (lines, tokens, hidden)
        same: whether two tokens are of one row. (lines, tokens, tokens)
        starts: flat index of the first token that each row's vector is made of. (rows,)
        modes: of `modules.MODES`.
    """
    num_tokens, width = hidden.shape[1], hidden.shape[2]
    places = torch.arange(num_tokens, device=hidden.device)
    rest = same & (places[None, None, :] >= places[None, :, None])  # of its row, from each token on
    flat = hidden.reshape(-1, width)

    def weighted(weights: torch.Tensor) -> torch.Tensor:
        return (weights @ hidden).reshape(-1, width)[starts]

    def at_starts(values: torch.Tensor) -> torch.Tensor:
        """Of the sums over the last axis, those of the rows' first tokens. (rows,)"""
        return values.sum(-1).reshape(-1)[starts]

    def vector(mode: str) -> torch.Tensor:
        if mode == "cls":  # the row's own first token, wherever its vector begins
            return flat[starts - at_starts((same & ~rest).long())]
        if mode == "lasttoken":
            return flat[starts + at_starts(rest.long()) - 1]
        if mode == "max":
            inside = rest.reshape(-1, num_tokens)[starts]  # (rows, tokens)
            lines = torch.div(starts, num_tokens, rounding_mode="floor")
            return torch.where(inside[:, :, None], hidden[lines], LOWEST).amax(1)
        weights = rest.to(hidden.dtype)
        if mode == "weightedmean":  # by the place in the row, counted from 1
            weights = weights * same.long().cumsum(-1).to(hidden.dtype)
        sums = at_starts(weights)[:, None]
        return weighted(weights) / (sums.sqrt() if mode == "mean_sqrt_len" else sums)

    return torch.cat([vector(mode) for mode in modes], dim=-1)


def _padded_rows(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, gather: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens are of one row, and where each begins, of rows that have a tensor row each."""
    mask = (torch.ones_like(input_ids) if attention_mask is None else attention_mask) > 0  # (rows, tokens)
    if gather is None:
        lines = torch.arange(input_ids.shape[0], device=input_ids.device)
        gather = lines * input_ids.shape[1] + mask.long().argmax(-1)
    return mask[:, :, None] & mask[:, None, :], gather


class _Normalize(torch.nn.Module):
    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vectors, p=2.0, dim=-1)


def _layer(spec: LayerSpec) -> torch.nn.Module:
    if spec.kind == "Normalize":
        return _Normalize()
    if spec.kind == "LayerNorm":
        return torch.nn.LayerNorm(spec.num_inputs)
    return _Dense(spec)


class _Dense(torch.nn.Module):
    """A linear layer and what follows it, with its weights under the name that sentence-transformers gives them."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.out_features = spec.num_outputs
        self.linear = torch.nn.Linear(spec.num_inputs, spec.num_outputs, bias=spec.has_bias)
        self.activation = getattr(torch.nn, spec.activation)()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.activation(self.linear(vectors))
        return activated


def _spec_of(layer: Any) -> LayerSpec:
    """What `_layer` makes it of."""
    if isinstance(layer, torch.nn.LayerNorm):
        size = int(layer.normalized_shape[0])
        return LayerSpec("LayerNorm", "", size, size, True)
    if not isinstance(layer, _Dense):
        return LayerSpec("Normalize")
    linear = layer.linear
    activation = type(layer.activation).__name__
    return LayerSpec("Dense", "", linear.in_features, linear.out_features, linear.bias is not None, activation)


def assemble(body: Any, modules: SentenceModules) -> SentenceEncoder:
    """The model, with the weights of what lies behind the pooling.

    Raises:
        InvalidSettings: weights are missing, are a pickle, or do not fit.
    """
    model = SentenceEncoder(body, modules.pooling, modules.layers)
    width = len(modules.pooling) * hidden_size(body.config)
    for module, spec in zip(model.layers, modules.layers, strict=True):
        if spec.folder:
            if spec.num_inputs != width:
                raise InvalidSettings(f"{spec.folder} takes vectors of {spec.num_inputs} components, but is given {width}")
            _load_layer(module, spec)
            width = spec.num_outputs
    model.modules_read = modules
    return model


def _load_layer(module: torch.nn.Module, spec: LayerSpec) -> None:
    file = Path(spec.folder) / "model.safetensors"
    if not file.is_file():
        raise InvalidSettings(
            f"{spec.folder} holds no weights as safetensors, and a pickle could run any code when it is read; save the model"
            " again with a newer sentence-transformers"
        )
    weights = safetensors.torch.load_file(file)
    if isinstance(module, torch.nn.LayerNorm):
        weights = {name.removeprefix("norm."): tensor for name, tensor in weights.items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InvalidSettings(f"{file} does not fit its config.json: {str(error).splitlines()[-1].strip()}") from error


def body_class(config: Any) -> Any:
    """The class of transformers that is a text's body."""
    name = BODIES.get(config.model_type)
    return getattr(transformers, name) if name else transformers.MODEL_MAPPING[type(config)]


def hidden_size(config: Any) -> int:
    """Components of a token's vector."""
    return int(getattr(config, "hidden_size", None) or config.dim)
