"""The model that training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.training.pretrained import Start, find_start


@dataclass(frozen=True)
class Model:
    """A pretrained model without a head: which head it gets follows from the data, when the trainer is made."""

    name: str
    """As it was asked for."""
    start: Start


def get_model(name: str | Path = "packaged") -> Model:
    """A pretrained model with a fast tokenizer.

    Args:
        name: hub id, folder, or `packaged`: the MiniLM that `make train-env` installs.

    Raises:
        InvalidSettings: there is no such model, or its tokenizer cannot serve.
    """
    return Model(str(name), find_start(str(name)))
