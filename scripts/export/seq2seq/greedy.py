"""The plainest loop over a published pair of graphs: a batch of sources, the best token at every step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.core.manifest import Decoder, Graph
from app.core.types import Row
from app.runtime.decoder_session import BoundSession, open_decoder
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import available_cores, choose_provider

Logits = NDArray[np.float32]
KINDS = ("key", "value")


class GreedyWriter:
    """Writes with the graphs alone, to compare them with transformers: no scheduler, and a cache as long as the limit."""

    def __init__(self, encoder_file: Path, graph: Graph, decoder_file: Path, decoder: Decoder) -> None:
        provider = choose_provider("cpu")
        self._encoder = EncoderEngine(encoder_file, graph, provider) if decoder.has_encoder else None
        self._session = open_decoder(decoder_file, decoder, provider, available_cores())
        self._decoder = decoder

    def write(self, rows: Sequence[Row], max_new_tokens: int) -> list[list[int]]:
        """What is written for each row by a model with an encoder, without the start token, up to the end-of-text token that
        ends it.

        Args:
            rows: sources.
            max_new_tokens: steps after which all end.
        """
        if self._encoder is None:
            raise TypeError("a model without an encoder goes on from its rows")
        step = _BoundStep(self._session, self._decoder, self._sources(self._encoder, rows), max_new_tokens)
        written: list[list[int]] = [[] for _ in rows]
        tokens = np.full(len(rows), self._decoder.start_token_id, np.int64)
        ended = np.zeros(len(rows), bool)
        for _ in range(max_new_tokens):
            logits = step.run(tokens[:, None])
            tokens = logits.argmax(-1)
            for index in np.flatnonzero(~ended):
                written[index].append(int(tokens[index]))
                ended[index] = tokens[index] in self._decoder.eos_token_ids
            if ended.all():
                break
        return written

    def logits_after(self, row: Row, tokens: Sequence[int], first: Sequence[int] = ()) -> Logits:
        """What the decoder gives while it is made to write these tokens: (tokens, vocabulary).

        Args:
            row: the source, or without an encoder what is continued.
            tokens: that are written.
            first: what a decoder behind an encoder reads before them; empty: the start token.
        """
        if self._encoder is None:
            step = _BoundStep(self._session, self._decoder, None, row.num_tokens + len(tokens))
            reads = [list(row.input_ids), *([token] for token in tokens[:-1])]
        else:
            reads = [[token] for token in (*(first or [self._decoder.start_token_id]), *tokens[:-1])]
            step = _BoundStep(self._session, self._decoder, self._sources(self._encoder, [row]), len(reads))
        return np.concatenate([step.run(np.array([read])).copy() for read in reads])[-len(tokens) :]

    def _sources(self, encoder: EncoderEngine, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """What the encoder gives for each row, (tokens, layers x 2, heads, head size)."""
        name, decoder = encoder.graph.outputs[0].name, self._decoder
        shape = (-1, decoder.num_layers * 2, decoder.num_heads, decoder.head_size)
        return [output[name].reshape(shape) for output in encoder.run_rows(rows)]


class _BoundStep:
    """The step's graph with its cache bound to memory that stays."""

    def __init__(
        self,
        session: BoundSession,
        decoder: Decoder,
        sources: Sequence[NDArray[np.float32]] | None,
        capacity: int,
    ) -> None:
        self._session, self._binding = session, session.io_binding()
        self._num_rows, self._past = 1 if sources is None else len(sources), 0
        self._bound: dict[str, onnxruntime.OrtValue] = {}  # the binding itself does not keep an array alive
        self._binding.bind_output("logits")
        if sources is not None:
            self._bind_sources(decoder, sources)
        shape = (self._num_rows, decoder.num_heads, capacity, decoder.head_size)
        for layer in range(decoder.num_layers):
            for kind in KINDS:
                past = self._bind(f"past_{kind}.{layer}", np.zeros(shape, np.float32))
                self._binding.bind_ortvalue_output(f"new_past_{kind}.{layer}", past)

    def _bind_sources(self, decoder: Decoder, sources: Sequence[NDArray[np.float32]]) -> None:
        self._bind("source_lengths", np.array([len(source) for source in sources], np.int32))
        longest = max(len(source) for source in sources)
        cross = np.zeros((decoder.num_layers * 2, len(sources), decoder.num_heads, longest, decoder.head_size), np.float32)
        for row, source in enumerate(sources):
            cross[:, row, :, : len(source)] = source.transpose(1, 2, 0, 3)
        for layer in range(decoder.num_layers):
            for place, kind in enumerate(KINDS):
                self._bind(f"cross_{kind}.{layer}", cross[2 * layer + place])

    def run(self, tokens: NDArray[np.int64]) -> Logits:
        """Logits after the last of these tokens, (rows, tokens), of each row: (rows, vocabulary)."""
        self._bind("input_ids", tokens)
        self._bind("past_lengths", np.full(self._num_rows, self._past, np.int32))
        self._past += tokens.shape[1]
        self._bind("total_length", np.array(self._past, np.int32))
        self._session.run_with_iobinding(self._binding, onnxruntime.RunOptions())
        logits: Logits = self._binding.get_outputs()[0].numpy()
        return logits

    def _bind(self, name: str, array: NDArray[np.generic]) -> onnxruntime.OrtValue:
        value = self._bound[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        self._binding.bind_ortvalue_input(name, value)
        return value
