"""A hand-driven engine of many steps, and cache slots: both fail the test where a slot is lost or used twice."""

from __future__ import annotations

from collections import abc

import numpy as np

from app.core.errors import TooLarge
from app.core.sequences import Batch, SamplingParams, Sequence, StepOutput
from app.core.types import Row, RowOutput
from tests.support.gated_engine import GatedBatch, GatedEngine, output_of


def prompt(first: int, num_steps: int, num_tokens: int = 10) -> Row:
    """A row from which so many outputs are generated before the sequence ends by itself."""
    return Row([first] + [0] * (num_tokens - 2) + [num_steps], [0] * num_tokens)


def step_output(first: int, step: int) -> RowOutput:
    """What the toy engine gives in a step, from 1, of a sequence: (1, 2)."""
    return {"token": np.array([[first, step]], np.float32)}


def generated(output: object) -> list[tuple[int, int]]:
    """The steps of an output."""
    assert isinstance(output, dict)
    return [(int(first), int(step)) for first, step in output["token"]]


class ToySlots:
    """Satisfies `SlotCache`."""

    num_prefix_bytes = 0

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._free = list(range(num_slots))
        self._others: dict[int, list[int]] = {}  # the rows of a slot beside the one that it is named for

    @property
    def num_rows(self) -> int:
        return self.num_slots

    @property
    def num_free(self) -> int:
        return len(self._free)

    def allocate(self, num_rows: int) -> int:
        slot, *others = [self._free.pop() for _ in range(num_rows)]
        self._others[slot] = others
        return slot

    def free(self, slot: int) -> None:
        assert 0 <= slot < self.num_slots
        assert slot not in self._free, "a slot was freed twice"
        self._free += [slot, *self._others.pop(slot)]

    def check(self, row: Row, sampling: SamplingParams) -> None:
        if sampling.num_beams > self.num_slots:
            raise TooLarge(f"{sampling.num_beams} beams, and {self.num_slots} rows")


class ToyBatch(GatedBatch):
    """A step in the engine, until one of its methods is called."""

    def _outputs(self) -> abc.Sequence[RowOutput]:
        if self.batch.phase == "encode":
            return [output_of(row) for row in self.rows]
        sequences = self.batch.sequences
        return [step_output(sequence.row.input_ids[0], len(sequence.outputs) + 1) for sequence in sequences]

    def _is_finished(self) -> abc.Sequence[bool]:
        if self.batch.phase == "encode":
            return ()
        return [len(sequence.outputs) + 1 >= sequence.row.input_ids[-1] for sequence in self.batch.sequences]


class ToyEngine(GatedEngine):
    """Invariant: a slot holds one sequence from its prefill to its release, and is not released under a step."""

    batch_type = ToyBatch

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, Sequence] = {}
        self._in_step: list[int] = []

    async def forward(self, batch: Batch) -> StepOutput:
        for sequence in batch.sequences:
            self._check(batch, sequence)
        self._in_step = [sequence.cache_slot for sequence in batch.sequences if sequence.cache_slot is not None]
        assert len(set(self._in_step)) == len(self._in_step), "two sequences of a batch have the same slot"
        try:
            return await super().forward(batch)
        finally:
            self._in_step = []

    def release(self, slots: abc.Sequence[int]) -> None:
        for slot in slots:
            assert slot not in self._in_step, "a slot was released under a step"
            sequence = self.held.pop(slot, None)  # None where its prefill never began
            assert sequence is None or sequence.state == "finished", "a slot was released before its sequence ended"

    def _check(self, batch: Batch, sequence: Sequence) -> None:
        slot = sequence.cache_slot
        if batch.phase == "encode":
            assert slot is None
            return
        assert slot is not None
        assert sequence.state == "running"
        if batch.phase == "decode":
            assert self.held[slot] is sequence, "a sequence goes on in a slot that is not its own"
            return
        assert slot not in self.held, "a slot was given to a sequence while another one had it"
        assert not sequence.outputs, "a sequence was begun twice"
        self.held[slot] = sequence
