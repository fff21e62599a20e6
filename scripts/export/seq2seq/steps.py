"""Graphs that write are compared step by step: the best token behind each that transformers, or other graphs, wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from app.core.manifest import Decoder, Graph, Manifest, Parity
from app.core.sequences import SamplingParams
from app.core.types import Row
from app.runtime.decoder_session import open_decoder
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.generation_engine import GenerationEngine
from app.runtime.providers import Provider, available_cores, choose_provider
from app.tasks.base import Encoded
from scripts.export.seq2seq.greedy import GreedyWriter
from scripts.export.verify import MAX_TIES, REACH

AGREEMENT = 0.995
"""Share of the steps in which graphs with smaller weights must find the same token best, ties apart."""
NUM_CACHE_ROWS = 4
"""Texts that are written together."""
NUM_TEXTS = 48
"""Texts that are compared, of more: transformers writes them one by one."""


@dataclass(frozen=True)
class Graphs:
    """Both graphs as files, with what the manifest says of them; without an encoder they are the same."""

    encoder_file: Path
    graph: Graph
    decoder_file: Path
    decoder: Decoder

    @property
    def has_encoder(self) -> bool:
        return self.decoder.has_encoder

    @property
    def files(self) -> Sequence[Path]:
        return [self.encoder_file, self.decoder_file] if self.has_encoder else [self.decoder_file]


@dataclass(frozen=True)
class WrittenRow:
    """What a reference writes for one row, up to the end-of-text token."""

    row: Row
    tokens: Sequence[int]
    best: Sequence[Mapping[int, float]] = ()
    """Of each step of transformers, the best tokens with their scores, once everything that the checkpoint asks for was done to
    them."""


class StepReference(Protocol):
    """What some rows go on with, and its own logits on the way."""

    @property
    def written(self) -> Sequence[WrittenRow]: ...

    def logits(self, start: int) -> Iterable[np.ndarray]:
        """Of each of them, as `GreedyWriter.logits_after` gives them behind the token `start`."""


@dataclass(frozen=True, slots=True)
class ComputedReference:
    """Logits that were computed already."""

    written: Sequence[WrittenRow]
    computed: Sequence[np.ndarray]

    def logits(self, start: int) -> Iterable[np.ndarray]:
        return self.computed


class GraphReference:
    """Graphs that are there already, and what they write for some rows."""

    def __init__(self, graphs: Graphs, max_tokens: int, rows: Sequence[Row], sampling: SamplingParams) -> None:
        """
        Args:
            graphs, max_tokens: of the version.
            rows: sources, which it writes from at once.
            sampling: greedy.
        """
        outputs = open_engine(graphs, max_tokens).generate(rows, sampling)
        self.written = [WrittenRow(row, output["token_ids"].tolist()) for row, output in zip(rows, outputs, strict=True)]
        self._writer = GreedyWriter(graphs.encoder_file, graphs.graph, graphs.decoder_file, graphs.decoder)

    def logits(self, start: int) -> Iterable[np.ndarray]:
        return logits_of(self._writer, self.written, (start,))


def logits_of(writer: GreedyWriter, written: Sequence[WrittenRow], first: Sequence[int] = ()) -> Iterator[np.ndarray]:
    return writer.logits_of_each([entry.row for entry in written], [entry.tokens for entry in written], first)


def different_rows(encoded: Iterable[Encoded]) -> list[Row]:
    """Different ones, the longest among them: joined texts repeat their sentences."""
    different = {tuple(row.input_ids): row for entry in encoded for row in entry.rows}
    rows = sorted(different.values(), key=lambda row: row.num_tokens)
    return [rows[round(place)] for place in np.linspace(0, len(rows) - 1, min(NUM_TEXTS, len(rows)))]


def open_engine_of(
    encoder_file: Path,
    decoder_file: Path,
    manifest: Manifest,
    provider: Provider,
    num_rows: int,
    num_threads: int = 0,
    stepping: Provider | None = None,
    keeps_prefixes: bool = False,
) -> GenerationEngine:
    """The service's engine over the graphs of a model that writes.

    Args:
        encoder_file, decoder_file: the graphs; without an encoder the first one is not read.
        manifest: has a decoder.
        provider: of the processor.
        num_rows: of the cache.
        num_threads: 0: all cores.
        stepping: what the decoder runs on; None: the same.
        keeps_prefixes: see `GenerationEngine`.

    Raises:
        TypeError: the model does not write.
    """
    decoder, stepping = manifest.decoder, stepping or provider
    if decoder is None:
        raise TypeError(f"{manifest.name} does not write")
    encoder = EncoderEngine(encoder_file, manifest.graph, provider, num_threads) if decoder.has_encoder else None
    threads = num_threads or available_cores()
    session = open_decoder(decoder_file, decoder, stepping, threads)
    return GenerationEngine(manifest, encoder, decoder_file, session, stepping, num_rows, threads, keeps_prefixes)


def open_engine(graphs: Graphs, max_tokens: int, num_cache_rows: int = NUM_CACHE_ROWS) -> GenerationEngine:
    """The service's engine over both graphs, on the processor in fp32."""
    manifest = Manifest(
        name="parity", version=1, task="", created="", base_model="", max_tokens=max_tokens, graph=graphs.graph,
        decoder=graphs.decoder, parity={}, files={},
    )  # fmt: skip
    return open_engine_of(graphs.encoder_file, graphs.decoder_file, manifest, choose_provider("cpu"), num_cache_rows)


def compare_steps(reference: StepReference, graphs: Graphs, kept: list[np.ndarray] | None = None) -> Parity:
    """Agreement of the best token at each step of what the reference wrote; `rows` are steps.

    Args:
        reference, graphs: what is compared.
        kept: is given the logits of the graphs.
    """
    steps, error, _ = compared_steps(reference, graphs, kept)
    reach = REACH * float(np.median([step.median_error for step in steps]))
    changed = [step for step in steps if step.gap > 0]
    count, ties = len(steps), sum(step.gap < reach for step in changed)
    counted = len(changed) - min(ties, int(MAX_TIES * count))
    passed = np.isfinite(error) and counted <= max(1, int(round(count * (1 - AGREEMENT), 6)))
    return Parity(
        rows=count,
        agreement=1 - len(changed) / count,
        ties=ties,
        max_abs_error=error if np.isfinite(error) else 0.0,
        passed=bool(passed),
    )


@dataclass(frozen=True, slots=True)
class ComparedStep:
    gap: float
    """By how much the reference prefers its own token to the one that was found best; 0: it is the same."""
    median_error: float


def compared_steps(
    reference: StepReference, graphs: Graphs, kept: list[np.ndarray] | None = None
) -> tuple[list[ComparedStep], float, float]:
    """Every step of what the reference wrote, the largest error of a logit, and the largest logit, at least 1; the arguments
    are those of `compare_steps`."""
    writer = GreedyWriter(graphs.encoder_file, graphs.graph, graphs.decoder_file, graphs.decoder)
    steps, error, scale = [], 0.0, 1.0
    pairs = zip(reference.logits(graphs.decoder.start_token_id), logits_of(writer, reference.written), strict=True)
    for expected, logits in pairs:
        if kept is not None:
            kept.append(logits)
        differences = np.abs(logits - expected)
        best, chosen = expected.argmax(-1), logits.argmax(-1)
        gaps = np.take_along_axis(expected, best[:, None], -1) - np.take_along_axis(expected, chosen[:, None], -1)
        medians = np.median(differences, axis=-1)
        steps += [ComparedStep(float(gap), float(median)) for (gap,), median in zip(gaps, medians, strict=True)]
        error = max(error, float(differences.max())) if np.isfinite(differences).all() else float("inf")
        scale = max(scale, float(np.abs(expected).max()))
    return steps, error, scale
