"""The plainest loop over a published pair of graphs: a batch of sources, the best token at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
TOGETHER = 8
"""Texts that are continued beside each other."""


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
        step = _BoundStep(self._session, self._decoder, max_new_tokens, len(rows), self._sources(self._encoder, rows))
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
        (logits,) = self.logits_of_each([row], [tokens], first)
        return logits

    def logits_of_each(
        self, rows: Sequence[Row], tokens: Sequence[Sequence[int]], first: Sequence[int] = ()
    ) -> Iterator[Logits]:
        """The same of each of several texts. Those without an encoder are read one by one, and continued a few together: a step
        of eight takes hardly longer than a step of one."""
        if self._encoder is None:
            for start in range(0, len(rows), TOGETHER):
                yield from self._continued(rows[start : start + TOGETHER], tokens[start : start + TOGETHER])
            return
        for row, written in zip(rows, tokens, strict=True):
            reads = [*(first or [self._decoder.start_token_id]), *written[:-1]]
            step = _BoundStep(self._session, self._decoder, len(reads), 1, self._sources(self._encoder, [row]))
            yield np.concatenate([step.run(np.array([[token]])).copy() for token in reads])[-len(written) :]

    def _continued(self, rows: Sequence[Row], tokens: Sequence[Sequence[int]]) -> list[Logits]:
        # those that go on longest come first, so that the others fall away from the end
        order = sorted(range(len(rows)), key=lambda place: -len(tokens[place]))
        capacity = max(row.num_tokens + len(written) for row, written in zip(rows, tokens, strict=True))
        step = _BoundStep(self._session, self._decoder, capacity, len(rows))
        logits: list[list[Logits]] = [[] for _ in rows]
        for slot, place in enumerate(order):
            logits[place].append(step.run(np.array([rows[place].input_ids]), slot).copy())
        for number in range(len(tokens[order[0]]) - 1):
            going_on = [place for place in order if len(tokens[place]) > number + 1]
            read = np.array([[tokens[place][number]] for place in going_on])
            for place, of_row in zip(going_on, step.run(read).copy(), strict=True):
                logits[place].append(of_row[None])
        return [np.concatenate(of_text) for of_text in logits]

    def _sources(self, encoder: EncoderEngine, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """What the encoder gives for each row, (tokens, layers x 2, heads, head size)."""
        name, decoder = encoder.graph.outputs[0].name, self._decoder
        shape = (-1, decoder.num_layers * 2, decoder.num_heads, decoder.head_size)
        return [output[name].reshape(shape) for output in encoder.run_rows(rows)]


class _BoundStep:
    """The step's graph with a cache of several rows that stays, of which any run of rows may take a step."""

    def __init__(
        self,
        session: BoundSession,
        decoder: Decoder,
        capacity: int,
        num_rows: int,
        sources: Sequence[NDArray[np.float32]] | None = None,
    ) -> None:
        self._session, self._binding = session, session.io_binding()
        self._past = np.zeros(num_rows, np.int32)
        self._bound: dict[str, onnxruntime.OrtValue] = {}  # the binding itself does not keep an array alive
        self._binding.bind_output("logits")  # the first of its outputs
        self._of_rows = {} if sources is None else self._cross(decoder, sources)
        shape = (num_rows, decoder.num_heads, capacity, decoder.head_size)
        self._cache = {f"{kind}.{layer}": np.zeros(shape, np.float32) for layer in range(decoder.num_layers) for kind in KINDS}

    def _cross(self, decoder: Decoder, sources: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
        """What is read of the sources, by the graph's names."""
        longest = max(len(source) for source in sources)
        cross = np.zeros((decoder.num_layers * 2, len(sources), decoder.num_heads, longest, decoder.head_size), np.float32)
        for row, source in enumerate(sources):
            cross[:, row, :, : len(source)] = source.transpose(1, 2, 0, 3)
        inputs: dict[str, NDArray[np.generic]] = {
            f"cross_{kind}.{layer}": cross[2 * layer + place]
            for layer in range(decoder.num_layers)
            for place, kind in enumerate(KINDS)
        }
        return {**inputs, "source_lengths": np.array([len(source) for source in sources], np.int32)}

    def run(self, tokens: NDArray[np.int64], first_row: int = 0) -> Logits:
        """Logits after the last of these tokens, (rows, tokens), of each row from the first one on: (rows, vocabulary)."""
        rows = slice(first_row, first_row + len(tokens))
        for name, array in self._of_rows.items():
            self._bind(name, array[rows])
        for name, array in self._cache.items():
            self._binding.bind_ortvalue_output(f"new_past_{name}", self._bind(f"past_{name}", array[rows]))
        self._bind("input_ids", tokens)
        self._bind("past_lengths", self._past[rows].copy())
        self._past[rows] += tokens.shape[1]
        self._bind("total_length", np.array(self._past[rows].max(), np.int32))
        self._binding.bind_output("logits")  # anew: what the last run gave may have had other rows
        self._session.run_with_iobinding(self._binding, onnxruntime.RunOptions())
        logits: Logits = self._binding.get_outputs()[0].numpy()
        return logits

    def _bind(self, name: str, array: NDArray[np.generic]) -> onnxruntime.OrtValue:
        value = self._bound[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        self._binding.bind_ortvalue_input(name, value)
        return value
