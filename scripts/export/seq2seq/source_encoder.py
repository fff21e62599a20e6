"""The encoder of a model that writes, with the projections that its decoder's layers read the source by."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from scripts.export.seq2seq.families import family_of

OUTPUT = "cross"
"""Name of its one output."""
KNOWN = "known_tokens"
"""Where a config keeps `Known`, so that a copy of the model has it, too."""
Known = tuple[int, int] | None
"""Ids from the first number on stand for pieces that the vocabulary lacks, and are read as the second one; None: there are
none."""


class SourceEncoder(torch.nn.Module):
    """Gives for each token of the source the keys and values of every layer of the decoder: what is exported as any encoder."""

    def __init__(self, model: Any, known: Known = None) -> None:
        """
        Args:
            model: an encoder-decoder model of transformers with its head.
            known: which tokens it knows.
        """
        super().__init__()
        self.config = model.config
        if not hasattr(model.config, "vocab_size"):  # of two models in one: what is read is the encoder's
            model.config.vocab_size = model.config.encoder.vocab_size
            model.config.pad_token_id = model.config.encoder.pad_token_id
        if known is not None:
            setattr(model.config, KNOWN, known)
        self.model = model
        self.train(model.training)  # a new module is in training, whatever it holds

    @classmethod
    def _from_config(cls, config: Any, **options: Any) -> SourceEncoder:
        return cls(transformers.AutoModelForSeq2SeqLM.from_config(config, **options))

    @property
    def base_model(self) -> Any:
        return self.model.get_encoder()

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, return_dict: bool = True
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            input_ids, attention_mask: (rows, tokens).

        Returns:
            `logits`, as the exporter calls what is read: (rows, tokens, layers x 2 x heads x head size), key before value.
        """
        known: Known = getattr(self.config, KNOWN, None)
        if known is not None:
            input_ids = torch.where(input_ids < known[0], input_ids, known[1])
        encoder = self.model.get_encoder()
        hidden = encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)["last_hidden_state"]
        bridge = getattr(self.model, "enc_to_dec_proj", None)
        if bridge is not None:
            hidden = bridge(hidden)
        pairs = family_of(self.model).cross_projections(self.model)
        return {"logits": torch.cat([projection(hidden) for pair in pairs for projection in pair], -1)}
