"""Mean pooling: a classifier whose head reads the mean over a text's tokens, in place of its first token.

transformers' heads for texts read the first token alone. Sentence encoders were trained by the mean over all tokens (Reimers
and Gurevych 2019), so that until much was trained, their first token says less.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import transformers

from app.core.errors import InvalidSettings

Pooling = Literal["first", "mean"]
KEY = "hooper_pooling"
"""Where a model's config says that its head reads the mean: it is saved with the model, and noted here when that is loaded."""
SENTENCE_ENCODER = "1_Pooling/config.json"
"""Where sentence-transformers keeps how a model's token vectors become that of the text."""


class RowPooling(Protocol):
    """What makes the vector of a row of its tokens' vectors, also where several rows share a tensor row."""

    def packed(self, same: torch.Tensor, gather: torch.Tensor) -> AbstractContextManager[None]:
        """Meanwhile they do; see `MeanPooling.packed`."""
        ...


def row_pooling(model: Any) -> RowPooling | None:
    """A model's own pooling: that of its body, or the model itself. None: its head reads the first token."""
    if hasattr(model, "packed"):
        own: RowPooling = model
        return own
    mean: RowPooling | None = getattr(model.base_model, KEY, None)
    return mean


def pooling_of(model: Any) -> Pooling:
    """What the head of this model reads."""
    return "mean" if hasattr(model.base_model, KEY) else "first"


def is_pooled_by_mean(location: str) -> bool:
    """Whether a base model is a sentence encoder that was trained by the mean over its tokens, and by nothing beside it.

    Args:
        location: a folder or a hub id, as transformers takes it.
    """
    try:
        file: Any = transformers.utils.hub.cached_file(
            location,
            SENTENCE_ENCODER,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        settings: Mapping[str, Any] = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):  # no sentence encoder, or none that can be read: its weights say more when they are loaded
        return False
    modes = [name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True]
    return modes == ["pooling_mode_mean_tokens"] or settings.get("pooling_mode") == "mean"


def pool_by_mean(model: Any) -> None:
    """Let the head read the mean over the tokens, from now on and when the model is loaded again.

    Args:
        model: a transformers model with a head for texts; padded and packed rows, see `scripts.export.layouts`.

    Raises:
        InvalidSettings: its architecture has no encoder in which this can be done.
    """
    if pooling_of(model) == "mean":
        return
    encoder = encoder_of(model.base_model)
    if encoder is None or model.config.is_encoder_decoder or getattr(model.config, "is_decoder", False):
        raise InvalidSettings(
            f"{type(model).__name__} reads texts in a way of its own: mean pooling is for encoders such as BERT; leave it out"
        )
    setattr(model.config, KEY, "mean")
    pooling = MeanPooling()
    setattr(model.base_model, KEY, pooling)  # found by `pooling_of`, and copied with the model
    model.base_model.register_forward_pre_hook(pooling.before_body, with_kwargs=True)
    encoder.register_forward_hook(pooling.after_encoder)


def restore_pooling(model: Any) -> None:
    """Pool as the config of a model says that was just made from it; transformers itself reads nothing of this."""
    if getattr(model.config, KEY, "first") == "mean":
        pool_by_mean(model)


def encoder_of(body: Any) -> Any | None:
    """The module that gives the last hidden states of a body, or None where it is not known."""
    for name in ("encoder", "transformer"):  # the second is DistilBERT's
        module = getattr(body, name, None)
        if isinstance(module, torch.nn.Module) and not isinstance(module, torch.nn.ModuleList):
            return module
    return None


class MeanPooling:
    """Hooks that hand one vector a row on from the encoder; what lies behind it reads the first of one."""

    def __init__(self) -> None:
        self._mask: torch.Tensor | None = None
        self._packed: tuple[torch.Tensor, torch.Tensor] | None = None

    @contextmanager
    def packed(self, same: torch.Tensor, gather: torch.Tensor) -> Iterator[None]:
        """Meanwhile several rows share a tensor row.

        Args:
            same: whether two tokens are of one row. (lines, tokens, tokens)
            gather: flat indices of the rows' first tokens. (rows,)
        """
        self._packed = same, gather
        try:
            yield
        finally:
            self._packed = None

    def before_body(self, body: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(body.forward).bind_partial(*args, **kwargs).arguments
        self._mask = bound.get("attention_mask")  # (rows, tokens)

    def after_encoder(self, encoder: Any, args: Any, output: Any) -> Any:
        hidden = output[0]  # (lines, tokens, hidden)
        if self._packed is not None:
            same, gather = self._packed
            weights = same.to(hidden.dtype)
            means = weights @ hidden / weights.sum(-1, keepdim=True)  # of each token's row: (lines, tokens, hidden)
            pooled = means.reshape(-1, hidden.shape[-1])[gather][:, None]
        elif self._mask is None:
            pooled = hidden.mean(1, keepdim=True)
        else:
            weights = self._mask.to(hidden.dtype)[:, None]  # (rows, 1, tokens)
            pooled = weights @ hidden / weights.sum(-1, keepdim=True)
        return with_hidden(output, pooled)  # (rows, 1, hidden)


def with_hidden(output: Any, hidden: torch.Tensor) -> Any:
    """An encoder's output with other last hidden states."""
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    output["last_hidden_state"] = hidden
    return output
