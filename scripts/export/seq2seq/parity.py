"""The gate of models that write: the service's own engine must write, token by token, what transformers' `generate` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.core.manifest import Decoder, Graph, Manifest, Parity
from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from app.runtime.decoder_session import open_decoder
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.generation_engine import GenerationEngine
from app.runtime.providers import choose_provider
from scripts.export.seq2seq.greedy import GreedyWriter
from scripts.export.seq2seq.source_encoder import Known
from scripts.export.verify import LARGER_STORAGE, MAX_TIES, REACH, ParityFailed

NEAR = 1e-3
"""Two tokens whose scores differ by less are a tie, which summation order may decide."""
NUM_BEST = 8
"""Of each step, the tokens that transformers found best, among which another one's choice is looked up."""
MAX_ERROR = 1e-3
"""Of a logit of the exported graphs; in parts of the largest one where that is more than 1."""
AGREEMENT = 0.995
"""Share of the steps in which graphs with smaller weights must find the same token best, ties apart."""
NUM_CACHE_ROWS = 4


@dataclass(frozen=True)
class Graphs:
    """Both graphs as files, with what the manifest says of them."""

    encoder_file: Path
    graph: Graph
    decoder_file: Path
    decoder: Decoder


@dataclass(frozen=True)
class WrittenRow:
    """What transformers writes for one row, up to the end-of-text token."""

    row: Row
    tokens: Sequence[int]
    best: Sequence[Mapping[int, float]]
    """Of each step, the best tokens with their scores, once everything that the checkpoint asks for was done to them."""


@dataclass
class WriterReference:
    """The torch model, and what it writes for some rows."""

    model: Any
    known: Known
    written: list[WrittenRow] = field(default_factory=list)

    def write(self, row: Row, sampling: SamplingParams, eos_token_ids: Sequence[int]) -> WrittenRow:
        """Greedily, by `generate` of transformers and the checkpoint's own generation_config, alone.

        Args:
            row: the source.
            sampling: of which only the length, the token that the decoder starts with and a forced first one are told to
                transformers.
            eos_token_ids: what ends a text.
        """
        forced = sampling.forced_bos_token_id
        output = self.model.generate(
            **self.inputs(row),
            decoder_start_token_id=sampling.decoder_input_ids[0],  # transformers would put its own before any that are given
            max_new_tokens=sampling.max_new_tokens,
            num_beams=1,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
            **({} if forced is None else {"forced_bos_token_id": forced}),
        )
        tokens = output.sequences[0].tolist()[1:]
        end = next((place for place, token in enumerate(tokens) if token in eos_token_ids), len(tokens) - 1)
        best = [torch.topk(scores[0], min(NUM_BEST, scores.shape[-1])) for scores in output.scores[: end + 1]]
        pairs = [dict(zip(top.indices.tolist(), top.values.tolist(), strict=True)) for top in best]
        result = WrittenRow(row, tokens[: end + 1], pairs)
        self.written.append(result)
        return result

    def inputs(self, row: Row) -> dict[str, torch.Tensor]:
        ids = torch.tensor([list(row.input_ids)])
        if self.known is not None:
            ids = torch.where(ids < self.known[0], ids, self.known[1])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    @torch.no_grad()
    def logits_after(self, written: WrittenRow, start: int) -> np.ndarray:
        """As `GreedyWriter.logits_after`, of the tokens that transformers wrote."""
        before = torch.tensor([[start, *written.tokens[:-1]]])
        logits: np.ndarray = self.model(**self.inputs(written.row), decoder_input_ids=before).logits[0].float().numpy()
        return logits


def open_engine(graphs: Graphs, max_tokens: int) -> GenerationEngine:
    """The service's engine over both graphs, on the processor in fp32."""
    provider = choose_provider("cpu")
    encoder = EncoderEngine(graphs.encoder_file, graphs.graph, provider)
    session = open_decoder(graphs.decoder_file, graphs.decoder, provider, encoder.num_threads)
    manifest = Manifest(
        name="parity", version=1, task="", created="", base_model="", max_tokens=max_tokens, graph=graphs.graph,
        decoder=graphs.decoder, parity={}, files={},
    )  # fmt: skip
    return GenerationEngine(manifest, encoder, graphs.decoder_file, session, provider, NUM_CACHE_ROWS)


def verify_exported(reference: WriterReference, graphs: Graphs, outputs: Sequence[RowOutput]) -> Parity:
    """Compare what the service's engine wrote with what transformers writes, and the logits on the way.

    Args:
        reference: has written every row.
        graphs: in fp32, or stored smaller.
        outputs: of the engine, for the reference's rows in their order.

    Raises:
        ParityFailed: another token was written where transformers was sure, or a logit is too far off.
    """
    differing, ties = [], 0
    for number, (written, output) in enumerate(zip(reference.written, outputs, strict=True), start=1):
        tokens = [int(token) for token in output["token_ids"]]
        if tokens != list(written.tokens):
            is_tie = _is_near_tie(written, tokens)
            ties += is_tie
            differing += [] if is_tie else [number]
    _, error, scale = _steps(reference, graphs)
    count = len(reference.written)
    passed = not differing and error <= MAX_ERROR * scale
    agreement = 1 - (len(differing) + ties) / count
    if not passed:
        raise ParityFailed(
            f"the exported graphs do not write what the torch model writes: {len(differing)} of {count} texts differ"
            f"{f' (text {differing[0]} is the first)' if differing else ''}, largest logit error {error:.2g};"
            f" allowed: none where transformers is sure, and an error of {MAX_ERROR * scale:.2g}"
        )
    return Parity(rows=count, agreement=agreement, ties=ties, max_abs_error=error, passed=True)


def verify_stored(reference: WriterReference, graphs: Graphs) -> Parity:
    """Compare graphs whose weights are stored smaller: at each step of what transformers wrote, the best token.

    Raises:
        ParityFailed: too many steps go another way.
    """
    parity = compare_steps(reference, graphs)
    if not parity.passed:
        failure = ParityFailed(
            f"the graphs with quantized weights do not write what the torch model writes: {parity.num_differing} of"
            f" {parity.rows:,} tokens differ, {parity.ties} of them ties, largest logit error {parity.max_abs_error:.2g};"
            f" allowed: {1 - AGREEMENT:.1%}, ties left out"
        )
        failure.larger_storage = LARGER_STORAGE.get(graphs.decoder.storage, "")
        raise failure
    return parity


def compare_steps(reference: WriterReference, graphs: Graphs) -> Parity:
    """Agreement of the best token at each step of what transformers wrote; `rows` are steps."""
    steps, error, _ = _steps(reference, graphs)
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
class _ComparedStep:
    gap: float
    """By how much transformers prefers its own token to the one that was found best; 0: it is the same."""
    median_error: float


def _steps(reference: WriterReference, graphs: Graphs) -> tuple[list[_ComparedStep], float, float]:
    """Every step of what transformers wrote, the largest error of a logit, and the largest logit, at least 1."""
    writer = GreedyWriter(graphs.encoder_file, graphs.graph, graphs.decoder_file, graphs.decoder)
    steps, error, scale = [], 0.0, 1.0
    for written in reference.written:
        expected = reference.logits_after(written, graphs.decoder.start_token_id)
        logits = writer.logits_after(written.row, written.tokens)
        differences = np.abs(logits - expected)
        best, chosen = expected.argmax(-1), logits.argmax(-1)
        gaps = np.take_along_axis(expected, best[:, None], -1) - np.take_along_axis(expected, chosen[:, None], -1)
        medians = np.median(differences, axis=-1)
        steps += [_ComparedStep(float(gap), float(median)) for (gap,), median in zip(gaps, medians, strict=True)]
        error = max(error, float(differences.max())) if np.isfinite(differences).all() else float("inf")
        scale = max(scale, float(np.abs(expected).max()))
    return steps, error, scale


def _is_near_tie(written: WrittenRow, tokens: Sequence[int]) -> bool:
    """Whether transformers all but tied between its own token and the other one where the two part."""
    pairs = zip(written.tokens, [*tokens, -1], strict=False)
    place = next((place for place, (own, other) in enumerate(pairs) if own != other), None)
    if place is None or place >= len(tokens):
        return False
    best = written.best[place]
    return tokens[place] in best and best[written.tokens[place]] - best[tokens[place]] < NEAR
