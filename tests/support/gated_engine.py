"""A hand-driven engine: a test sees each batch arrive and decides how it ends. Nothing here waits for a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.core.errors import HooperError
from app.core.sequences import Batch, StepOutput
from app.core.types import Row, RowOutput
from app.observability.metrics import Metrics
from app.runtime.providers import Provider
from app.serving.deployment import Deployment


def output_of(row: Row) -> RowOutput:
    """What the gated engine answers: two logits that no other row has."""
    return {"logits": np.array([row.input_ids[0], row.num_tokens], np.float32)}


@dataclass(eq=False)
class GatedBatch:
    """A batch in the engine, until one of its methods is called."""

    batch: Batch
    _gate: asyncio.Future[StepOutput] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def rows(self) -> list[Row]:
        return [sequence.row for sequence in self.batch.sequences]

    @property
    def firsts(self) -> list[int]:
        """The first token of each row: how tests name rows."""
        return [row.input_ids[0] for row in self.rows]

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for its end any more."""
        return self._gate.cancelled()

    def finish(self, outputs: Sequence[RowOutput | HooperError] | None = None, inference_s: float = 0.5) -> None:
        num_tokens = sum(row.num_tokens for row in self.rows)
        self._settle(StepOutput(self._outputs() if outputs is None else outputs, num_tokens, inference_s, self._is_finished()))

    def _outputs(self) -> Sequence[RowOutput]:
        return [output_of(row) for row in self.rows]

    def _is_finished(self) -> Sequence[bool]:
        return ()

    def fail(self, error: BaseException) -> None:
        self._settle(error)

    def _settle(self, end: StepOutput | BaseException) -> None:
        if self._gate.done():  # the scheduler gave up on it
            return
        if isinstance(end, BaseException):
            self._gate.set_exception(end)
        else:
            self._gate.set_result(end)


class GatedEngine:
    """Stands in for `EncoderEngine`: satisfies `Engine`, and what a deployment asks of its engines."""

    provider = Provider("cpu", "fp32", "driven by hand")
    execution_providers = ("CPUExecutionProvider",)
    num_threads = 1
    decoder_provider = None
    decoder_execution_providers = ()
    batch_type = GatedBatch

    def __init__(self) -> None:
        self._batches: asyncio.Queue[GatedBatch] = asyncio.Queue()
        self.is_closed = False
        self.num_terminated = 0

    async def forward(self, batch: Batch) -> StepOutput:
        gated = self.batch_type(batch)
        self._batches.put_nowait(gated)
        return await gated._gate

    def release(self, slots: Sequence[int]) -> None:
        raise AssertionError("what is only encoded has no slots")

    async def batch(self) -> GatedBatch:
        """The next batch that reaches the engine."""
        return await self._batches.get()

    def terminate(self) -> None:
        self.num_terminated += 1

    @property
    def has_batch(self) -> bool:
        return not self._batches.empty()

    async def aclose(self, patience_s: float | None = None) -> None:
        self.is_closed = True


@dataclass(frozen=True)
class Gated:
    """A deployment over an engine that the test drives."""

    deployment: Deployment
    engine: GatedEngine
    metrics: Metrics


Deploy = Callable[..., Gated]
"""Makes one: see the fixture `deploy`."""


async def turn() -> None:
    """Let everything run that can run without the engine."""
    for _ in range(20):
        await asyncio.sleep(0)
