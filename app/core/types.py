"""The values that travel between layers: rows on the way in, row outputs on the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TaskName = str
"""Name of a task, as manifests have it; which ones there are depends on what is installed."""
DEFAULT_MAX_ITEMS = 256
"""Items that one request may hold where the settings do not say otherwise."""
DEFAULT_MAX_BODY_BYTES = 2_097_152
"""Bytes that a request's body may have where the settings do not say otherwise."""
LayoutName = Literal["padded", "packed"]
Truncation = Literal["error", "truncate", "window"]
Priority = Literal["interactive", "bulk"]
"""Interactive rows run first; bulk rows take what those leave, and are never left out for long."""

Array = NDArray[np.float32]
Ints = NDArray[np.int64]
Tensors = Mapping[str, Ints]
RowOutput = Mapping[str, NDArray[Any]]
"""Output name to the part of it that belongs to one row; the axes depend on the output's `axis`:
`row` -> (features,), `token` -> (num_tokens, features), `position` -> (num_positions, features). Of a sequence that is
generated: see `GenerationEngine.forward`."""


RoleName = Literal["main", "share", "shadow"]
"""The part that a loaded version plays for its name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of tokens for the model, special tokens included."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int]
    output_positions: Sequence[int] = (0,)
    """Tokens whose outputs are read where an output's axis is `position`, counted from 0."""
    extra_outputs: Sequence[str] = ()
    """Names of optional outputs of the graph that it wants, too."""

    @property
    def num_tokens(self) -> int:
        return len(self.input_ids)


Device = Literal["cpu", "openvino", "cuda", "tensorrt"]
Precision = Literal["fp32", "bf16", "fp16", "int8", "int7", "int4"]
"""Arithmetic of the matrix products."""
