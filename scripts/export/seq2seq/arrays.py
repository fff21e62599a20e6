"""Weights of torch modules as the parts of a step's graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.core.errors import InvalidSettings
from scripts.export.seq2seq.step_graph import Activation, Linear, Norm, Weights

ACTIVATIONS: Mapping[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""transformers' names to the graph's."""


def array_of(tensor: Any) -> Weights:
    """In fp32."""
    array: Weights = tensor.detach().float().cpu().numpy()
    return array


def linear_of(module: Any) -> Linear:
    """Of a module with a matrix and perhaps a bias."""
    return Linear(array_of(module.weight), None if module.bias is None else array_of(module.bias))


def stacked(*modules: Any) -> Linear:
    """The matrices of several modules, one below the other."""
    parts = [linear_of(module) for module in modules]
    biases = [part.bias for part in parts if part.bias is not None]
    return Linear(np.concatenate([part.weight for part in parts]), np.concatenate(biases) if biases else None)


def norm_of(module: Any) -> Norm:
    """Of LayerNorm or RMSNorm, whatever they call what they add to the variance."""
    bias = getattr(module, "bias", None)
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return Norm(array_of(module.weight), None if bias is None else array_of(bias), float(epsilon))


def activation_of(name: str) -> Activation:
    """
    Raises:
        InvalidSettings: the graph does not know it.
    """
    if name not in ACTIVATIONS:
        raise InvalidSettings(f"a decoder that activates by {name} cannot be published; {', '.join(ACTIVATIONS)} can")
    return ACTIVATIONS[name]
