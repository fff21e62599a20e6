"""Weights that several sessions have alike, held once in a process: ten heads on one frozen base take little more than one.

ONNX Runtime takes an initializer from its caller (`SessionOptions.add_initializer`), who then owns its memory. Which ones are
alike is decided by their bytes, whatever they are called in which file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime

from app.core.types import Ints
from app.runtime.onnx_file import model_type

MIN_BYTES = 16_384
"""Of a tensor: smaller ones are not worth a look-up."""
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    10: np.dtype(np.float16),
}
"""ONNX's numbers of element types to numpy's; tensors of others stay each session's own."""
EXTERNAL = 1
"""`TensorProto.data_location` of a tensor that lies in another file."""
WITHOUT_PREPACKING = ("session.disable_prepacking", "1")
"""A session's option: prepacked weights are copies in an order that suits a processor, one for each session."""


class SharedWeight:
    """A tensor, and what ONNX Runtime takes for it; both must live as long as a session that reads it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.value = onnxruntime.OrtValue.ortvalue_from_numpy(array)


class SharedWeights:
    """Of one process. A weight is gone when the last session that holds it is."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[bytes, SharedWeight] = WeakValueDictionary()

    @property
    def num_bytes(self) -> int:
        """Memory of all weights that are held."""
        return sum(weight.array.nbytes for weight in self._held.values())

    def of(self, file: Path) -> dict[str, SharedWeight]:
        """The large initializers of a graph by their names: those that are held already, and new ones.

        Args:
            file: an ONNX file; tensors may lie in files beside it.
        """
        return {name: self._shared(array) for name, array in _initializers(file)}

    def _shared(self, array: np.ndarray) -> SharedWeight:
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        digest.update(array.data)
        return self._held.setdefault(digest.digest(), SharedWeight(array))


SHARED_WEIGHTS = SharedWeights()
"""Of this process."""


class SharingSession:
    """An ONNX Runtime session, and the weights that it reads and does not own."""

    def __init__(self, session: Any, weights: Mapping[str, SharedWeight]) -> None:
        self._session, self.weights = session, weights

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: Any, /) -> Sequence[np.ndarray]:
        return self._session.run(outputs, tensors, options)  # type: ignore[no-any-return]

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any, /) -> None:
        self._session.run_with_iobinding(binding, options)

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        return self._session.get_outputs()

    def get_providers(self) -> list[str]:
        return self._session.get_providers()  # type: ignore[no-any-return]


def share(options: onnxruntime.SessionOptions, file: Path) -> dict[str, SharedWeight]:
    """Let a session that is opened with these options read the weights of a graph that are held.

    Returns:
        what must live as long as the session: see `SharingSession`.
    """
    weights = SHARED_WEIGHTS.of(file)
    for name, weight in weights.items():
        options.add_initializer(name, weight.value)
    options.add_session_config_entry(*WITHOUT_PREPACKING)
    return weights


def _initializers(file: Path) -> Iterable[tuple[str, np.ndarray]]:
    model = model_type()()
    model.ParseFromString(file.read_bytes())
    for tensor in model.graph.initializer:
        dtype = DTYPES.get(tensor.data_type)
        if dtype is None or math.prod(tensor.dims) * dtype.itemsize < MIN_BYTES:
            continue
        if tensor.data_location == EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}
            count = math.prod(tensor.dims)
            flat: np.ndarray = np.fromfile(file.parent / place["location"], dtype, count, offset=int(place.get("offset", 0)))
        elif tensor.raw_data:
            flat = np.frombuffer(tensor.raw_data, dtype)
        else:  # as a list of numbers, which nothing that Hooper publishes is
            continue
        yield tensor.name, flat.reshape(tuple(tensor.dims))
