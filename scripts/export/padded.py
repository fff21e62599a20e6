"""The padded form of a transformers model: a tensor row for each row, filled up with padding."""

from __future__ import annotations

from typing import Any

import torch

from scripts.export.positions import accepted_inputs, takes_token_types
from scripts.tasks.base import Axis


class PaddedModel(torch.nn.Module):
    """The model's own forward, with what is read of its outputs."""

    def __init__(self, model: Any, axis: Axis) -> None:
        super().__init__()
        self.config = model.config  # the exporter reads it
        self.model = model
        self.axis = axis

    @property
    def inputs(self) -> list[str]:
        """What its graph takes."""
        accepted = accepted_inputs(self.model)
        names: list[str] = [name for name in ("input_ids", "attention_mask") if name in accepted]
        names += ["token_type_ids"] * takes_token_types(self.model)
        return [*names, *(["gather"] if self.axis == "marker" else [])]

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
            gather: (markers,): flat indices of the tokens whose outputs are read.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        fed = {name: tensor for name, tensor in given.items() if tensor is not None}
        if self.axis == "row" and is_read_at_its_end(self.model):
            return {"logits": _read_at_the_end(self.model, fed)}
        logits = head_logits(self.model(**fed, return_dict=True))
        if gather is not None:
            logits = logits.reshape(-1, logits.shape[-1])[gather]  # (markers, labels)
        return {"logits": logits}


def is_read_at_its_end(model: Any) -> bool:
    """Whether it is an encoder-decoder that classifies a text by what its decoder gives for the last end-of-text token."""
    return bool(model.config.is_encoder_decoder) and hasattr(model, "classification_head")


def _read_at_the_end(model: Any, fed: dict[str, Any]) -> torch.Tensor:
    # transformers' own forward wants as many end tokens in every row of a batch, and a pair has more of them than a text
    input_ids = fed["input_ids"]
    body = model.base_model if hasattr(model.base_model, "decoder") else model.transformer
    if hasattr(model, "_shift_right"):  # T5 leaves it to the caller
        fed = {**fed, "decoder_input_ids": model._shift_right(input_ids)}
    hidden = body(**fed, use_cache=False, return_dict=True)["last_hidden_state"]
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = ((input_ids == model.config.eos_token_id) * places).argmax(-1)  # (rows,)
    read = hidden[torch.arange(input_ids.shape[0], device=input_ids.device), last]
    logits: torch.Tensor = model.classification_head(read)
    return logits


def head_logits(outputs: Any) -> torch.Tensor:
    """What the head gave, whatever transformers calls it."""
    if "logits" in outputs:
        logits: torch.Tensor = outputs["logits"]
        return logits
    return torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1)  # question answering: (rows, tokens, 2)
