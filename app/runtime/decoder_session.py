"""A decoder's graph, bound to the memory of a cache: a step reads and writes the rows of a range in place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from app.core.errors import InvalidArtefact
from app.core.manifest import Decoder
from app.core.types import Array, Ints
from app.runtime.kv_cache import KvCache
from app.runtime.onnx_session import InputInfo, open_bound_session
from app.runtime.providers import Provider

MAX_BINDINGS = 256
"""Ranges of rows whose bindings are kept: of each, the addresses of its inputs and outputs."""
CPU = "cpu", 0


class BoundSession(Protocol):
    """What a decoder needs of `onnxruntime.InferenceSession`."""

    def io_binding(self) -> Any: ...

    def run_with_iobinding(self, binding: Any, options: Any, /) -> None: ...

    def get_inputs(self) -> Sequence[InputInfo]: ...

    def get_outputs(self) -> Sequence[InputInfo]: ...

    def get_providers(self) -> list[str]: ...


DecoderFactory = Callable[[Path, Decoder, Provider, int], BoundSession]
"""From a decoder's file, its entry in the manifest, what to run it on, and a number of threads, to an engine."""


def open_decoder(file: Path, decoder: Decoder, provider: Provider, num_threads: int) -> BoundSession:
    """
    Raises:
        InvalidArtefact: the graph cannot be loaded.
    """
    is_stored_small = decoder.storage != "fp32" and decoder.file_for(provider.precision) == decoder.file
    return open_bound_session(file, provider, num_threads, folds=is_stored_small)  # type: ignore[no-any-return]


class DecoderSession:
    """Runs one step of ranges of the cache's rows."""

    def __init__(self, file: Path, decoder: Decoder, session: BoundSession, cache: KvCache) -> None:
        """
        Raises:
            InvalidArtefact: the graph's inputs or outputs are not those that `Decoder` says.
        """
        self._session, self.cache, self._has_encoder = session, cache, decoder.has_encoder
        self._total_length = np.zeros((), np.int32)
        self.logits = np.zeros((len(cache.input_ids), decoder.vocab_size), np.float32)
        """(rows, vocabulary): of each row those of its last step."""
        inputs = {entry.name for entry in session.get_inputs()}
        expected = {"input_ids", "past_lengths", "total_length", *self._buffers()}
        expected |= {"source_lengths"} if decoder.has_encoder else set()
        if inputs != expected:
            raise InvalidArtefact(f"{file} takes {sorted(inputs)}, where a decoder of its manifest takes {sorted(expected)}")
        self._written = [entry.name for entry in session.get_outputs() if entry.name != "logits"]
        if not all(name.startswith("new_") and name.removeprefix("new_") in expected for name in self._written):
            raise InvalidArtefact(f"{file} gives {sorted(self._written)} beside the logits, not parts of its cache")
        self._bindings: OrderedDict[range, Any] = OrderedDict()

    def step(self, rows: range, options: Any) -> None:
        """Read each row's `input_ids`, and write logits, and keys and values into the cache, whose lengths stay as they are."""
        binding = self._bindings.pop(rows, None) or self._bound(rows, self.cache.input_ids[rows.start : rows.stop])
        self._bindings[rows] = binding
        if len(self._bindings) > MAX_BINDINGS:
            self._bindings.popitem(last=False)
        self._total_length[()] = self.cache.past_lengths[rows.start : rows.stop].max() + 1
        self._session.run_with_iobinding(binding, options)

    def read(self, row: int, token_ids: Sequence[int] | Ints, options: Any) -> None:
        """Read several tokens of one row at once: as so many steps, whose last one's logits are kept."""
        given = np.array([token_ids], np.int64)
        self._total_length[()] = self.cache.past_lengths[row] + len(token_ids)
        self._session.run_with_iobinding(self._bound(range(row, row + 1), given), options)

    def _bound(self, rows: range, input_ids: Ints) -> Any:
        binding, cache, span = self._session.io_binding(), self.cache, slice(rows.start, rows.stop)
        inputs: dict[str, np.ndarray] = {
            "input_ids": input_ids,
            "past_lengths": cache.past_lengths[span],
            "total_length": self._total_length,
            **{name: buffer[span] for name, buffer in self._buffers().items()},
        }
        if self._has_encoder:
            inputs["source_lengths"] = cache.source_lengths[span]
        for name, array in inputs.items():
            binding.bind_input(name, *CPU, array.dtype.type, array.shape, array.ctypes.data)
        outputs = {"logits": self.logits[span], **{name: inputs[name.removeprefix("new_")] for name in self._written}}
        for name, array in outputs.items():
            binding.bind_output(name, *CPU, array.dtype.type, array.shape, array.ctypes.data)
        return binding

    def _buffers(self) -> dict[str, Array]:
        """The cache's parts by the names of the inputs, each (rows, heads, tokens, head_size) and one piece of memory."""
        cache = self.cache
        parts = {"past_key": cache.past[:, 0], "past_value": cache.past[:, 1]}
        if self._has_encoder:
            parts |= {"cross_key": cache.cross[:, 0], "cross_value": cache.cross[:, 1]}
        return {f"{name}.{layer}": buffer for name, by_layer in parts.items() for layer, buffer in enumerate(by_layer)}
