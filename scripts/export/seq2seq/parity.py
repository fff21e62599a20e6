"""The gate of models that write: the service's own engine must write, token by token, what transformers' `generate` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from app.core.manifest import Parity
from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from scripts.export.seq2seq.generation import is_plain
from scripts.export.seq2seq.source_encoder import Known
from scripts.export.seq2seq.steps import AGREEMENT, Graphs, WrittenRow, compare_steps, compared_steps
from scripts.export.verify import LARGER_STORAGE, ParityFailed

NEAR = 1e-3
"""Two tokens whose scores differ by less are a tie, which summation order may decide."""
NUM_BEST = 8
"""Of each step, the tokens that transformers found best, among which another one's choice is looked up."""
MAX_ERROR = 1e-3
"""Of a logit of the exported graphs; in parts of the largest one where that is more than 1."""


NUM_GENERATED = 4
"""Of the texts that are continued, so many are written by `generate` too, from the shortest to the longest."""


@dataclass
class WriterReference:
    """The torch model, and what it writes for some rows."""

    model: Any
    known: Known
    written: list[WrittenRow] = field(default_factory=list)
    computed: dict[int, np.ndarray] = field(default_factory=dict)
    """Of what was written, the logits that are known already, by its place."""

    @property
    def continues_rows(self) -> bool:
        """Whether the model has no encoder, and goes on from what it is given."""
        return not self.model.config.is_encoder_decoder

    def write(self, row: Row, sampling: SamplingParams, eos_token_ids: Sequence[int]) -> WrittenRow:
        """Greedily, by `generate` of transformers and the checkpoint's own generation_config, alone.

        Args:
            row: the source.
            sampling: of which only the length, the token that the decoder starts with and a forced first one are told to
                transformers.
            eos_token_ids: what ends a text.
        """
        forced = sampling.forced_bos_token_id
        # transformers would put its own before any that are given
        start = {} if self.continues_rows else {"decoder_start_token_id": sampling.decoder_input_ids[0]}
        output = self.model.generate(
            **self.inputs(row),
            **start,
            max_new_tokens=sampling.max_new_tokens,
            num_beams=1,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
            **({} if forced is None else {"forced_bos_token_id": forced}),
        )
        tokens = output.sequences[0].tolist()[row.num_tokens if self.continues_rows else 1 :]
        end = next((place for place, token in enumerate(tokens) if token in eos_token_ids), len(tokens) - 1)
        best = [torch.topk(scores[0], min(NUM_BEST, scores.shape[-1])) for scores in output.scores[: end + 1]]
        pairs = [dict(zip(top.indices.tolist(), top.values.tolist(), strict=True)) for top in best]
        result = WrittenRow(row, tokens[: end + 1], pairs)
        self.written.append(result)
        return result

    def write_each(
        self, rows: Sequence[Row], sampling: SamplingParams, eos_token_ids: Sequence[int], outputs: Sequence[RowOutput]
    ) -> None:
        """The same for all of these rows. Where the likeliest token of each step is all that is asked for, most of them follow
        what the service's engine wrote: in one pass over it shows what transformers would write at every step of it, since a
        greedy text is the one whose every token is the likeliest behind those before it.

        Args:
            rows, sampling, eos_token_ids: as for `write`.
            outputs: of the engine.
        """
        follows = self.continues_rows and is_plain(self.model.generation_config)
        generated = {round(place) for place in np.linspace(0, len(rows) - 1, NUM_GENERATED)}
        for place, (row, output) in enumerate(zip(rows, outputs, strict=True)):
            tokens = [int(token) for token in output["token_ids"]]
            ends = [token in eos_token_ids for token in tokens]
            is_whole = len(tokens) == sampling.max_new_tokens or any(ends[-1:])
            if follows and place not in generated and is_whole and not any(ends[:-1]):
                self.follow(row, tokens)
            else:
                self.write(row, sampling, eos_token_ids)

    def follow(self, row: Row, tokens: Sequence[int]) -> WrittenRow:
        """What a model without an encoder finds best at each step of these tokens."""
        result = WrittenRow(row, tokens)
        logits = self._logits_after(result, 0)
        best = torch.topk(torch.from_numpy(logits), min(NUM_BEST, logits.shape[-1]))
        steps = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        result = replace(result, best=[dict(zip(*step, strict=True)) for step in steps])
        self.computed[len(self.written)] = logits
        self.written.append(result)
        return result

    def inputs(self, row: Row) -> dict[str, torch.Tensor]:
        ids = torch.tensor([list(row.input_ids)])
        if self.known is not None:
            ids = torch.where(ids < self.known[0], ids, self.known[1])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def logits(self, start: int) -> Iterator[np.ndarray]:
        """As `StepReference` has it; they are kept, since exported and stored graphs are both compared with them."""
        for place, written in enumerate(self.written):
            if place not in self.computed:
                self.computed[place] = self._logits_after(written, start)
            yield self.computed[place]

    @torch.no_grad()
    def _logits_after(self, written: WrittenRow, start: int) -> np.ndarray:
        """As `GreedyWriter.logits_after`, of the tokens that transformers wrote."""
        logits: np.ndarray
        if self.continues_rows:
            read = torch.tensor([[*written.row.input_ids, *written.tokens[:-1]]])
            hidden = self.model(input_ids=read, logits_to_keep=len(written.tokens)).logits[0]
            logits = hidden.float().numpy()
            return logits
        before = torch.tensor([[start, *written.tokens[:-1]]])
        logits = self.model(**self.inputs(written.row), decoder_input_ids=before).logits[0].float().numpy()
        return logits


def verify_exported(
    reference: WriterReference, graphs: Graphs, outputs: Sequence[RowOutput], kept: list[np.ndarray] | None = None
) -> Parity:
    """Compare what the service's engine wrote with what transformers writes, and the logits on the way.

    Args:
        reference: has written every row.
        graphs: in fp32, or stored smaller.
        outputs: of the engine, for the reference's rows in their order.
        kept: is given the graphs' logits.

    Raises:
        ParityFailed: another token was written where transformers was sure, or a logit is too far off.
    """
    differing, ties = [], 0
    for number, (written, output) in enumerate(zip(reference.written, outputs, strict=True), start=1):
        tokens = [int(token) for token in output["token_ids"]]
        if tokens != list(written.tokens) or not _is_best(written):
            is_tie = _is_near_tie(written, tokens)
            ties += is_tie
            differing += [] if is_tie else [number]
    _, error, scale = compared_steps(reference, graphs, kept)
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


def verify_stored(reference: WriterReference, graphs: Graphs, kept: list[np.ndarray] | None = None) -> Parity:
    """Compare graphs whose weights are stored smaller: at each step of what transformers wrote, the best token.

    Args:
        reference: has written every row.
        graphs: stored so.
        kept: is given their logits.

    Raises:
        ParityFailed: too many steps go another way.
    """
    parity = compare_steps(reference, graphs, kept)
    if not parity.passed:
        failure = ParityFailed(
            f"the graphs with quantized weights do not write what the torch model writes: {parity.num_differing} of"
            f" {parity.rows:,} tokens differ, {parity.ties} of them ties, largest logit error {parity.max_abs_error:.2g};"
            f" allowed: {1 - AGREEMENT:.1%}, ties left out"
        )
        failure.larger_storage = LARGER_STORAGE.get(graphs.decoder.storage, "")
        raise failure
    return parity


def _is_best(written: WrittenRow) -> bool:
    """Whether transformers finds every token best that is taken to be its own, as of a text that it followed."""
    return all(max(best, key=lambda token: best[token]) == own for own, best in zip(written.tokens, written.best, strict=True))


def _is_near_tie(written: WrittenRow, tokens: Sequence[int]) -> bool:
    """Whether transformers all but tied between its own token and the other one where the two part."""
    if tokens == list(written.tokens):  # it was followed
        return all(max(best.values()) - best.get(own, -np.inf) < NEAR for own, best in zip(tokens, written.best, strict=True))
    pairs = zip(written.tokens, [*tokens, -1], strict=False)
    place = next((place for place, (own, other) in enumerate(pairs) if own != other), None)
    if place is None or place >= len(tokens):
        return False
    best = written.best[place]
    return tokens[place] in best and best[written.tokens[place]] - best[tokens[place]] < NEAR
