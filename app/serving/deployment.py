"""A deployment: one live model, which is a task, a scheduler and a runner."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from app.batching.policy import offline_order
from app.batching.results import SubmissionResult
from app.core.errors import EngineFailed, HooperError, TooLarge
from app.core.manifest import Manifest
from app.core.sequences import Sampling
from app.core.types import Priority, Row, RowOutput
from app.observability.metrics import LiveModel, Metrics
from app.runtime.layout import PACKED_WIDTH
from app.runtime.providers import Provider
from app.serving.drift import Drift
from app.serving.interfaces import EngineInfo, RowQueue, RowsUnderWay
from app.tasks.base import Detokenizer, Encoded, Generative, Result, StreamedText, Task, telling_reused
from app.tasks.spec import TaskSpec

OnWritten = Callable[[int], None]
INLINE_CHARACTERS = 4_000
"""Shorter requests are tokenized on the event loop (under a millisecond): a thread would cost more than it saves."""

LONG_CHARACTERS = 100_000
"""Longer requests are tokenized one after the other, of all models: two megabytes can take a gigabyte and ten seconds, of which
there may not be as many as there are threads, nor should all threads be busy with them."""

_LONG_TEXTS = ThreadPoolExecutor(1, "long texts")

INLINE_ROWS = 32
"""Requests of more rows are decoded on a thread: a book's windows would hold up everybody else."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went, in seconds, and how much ran together."""

    tokenize_s: float
    queue_s: float
    inference_s: float
    batch_rows: int = 0
    batch_tokens: int = 0

    @classmethod
    def of(cls, tokenize_s: float, ran: SubmissionResult) -> Timings:
        """Of a request whose rows ran as one submission."""
        return cls(tokenize_s, ran.queue_s, ran.inference_s, ran.batch_rows, ran.batch_tokens)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A result or an error for every item, in order."""

    results: Sequence[Result | HooperError]
    timings: Timings

    @property
    def num_tokens(self) -> int:
        return sum(result.num_tokens for result in self.results if isinstance(result, Result))


class StreamingText:
    """What is certain of a text that is being written, with the steps that it was made of where they have log-probabilities."""

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._detokenizer = detokenizer
        self._steps: list[RowOutput] = []

    def push(self, row: int, output: RowOutput, is_last: bool) -> tuple[str, tuple[RowOutput, ...]] | None:
        """What may be told now; None: nothing."""
        self._steps += [output] if "logprobs" in output else []
        return self._told(self._detokenizer.push(row, output["token_ids"].tolist(), is_last), is_last)

    def end(self) -> tuple[str, tuple[RowOutput, ...]] | None:
        return self._told(self._detokenizer.end(), True)

    def _told(self, text: str, is_last: bool) -> tuple[str, tuple[RowOutput, ...]] | None:
        if not text and not (is_last and self._steps):
            return None
        steps, self._steps = tuple(self._steps), []
        return text, steps


class Deployment:
    """Answers items of one model. Closing it waits for what was accepted."""

    def __init__(
        self,
        manifest: Manifest,
        spec: TaskSpec,
        task: Task[Any, Any, Any],
        session: EngineInfo,
        scheduler: RowQueue,
        metrics: Metrics,
        tokenizers: Sequence[str] = (),
    ) -> None:
        """`tokenizers`: the texts of its tokenizer.json files, of which another process makes the same task."""
        self.manifest, self.spec, self.task = manifest, spec, task
        self.scheduler, self.tokenizers = scheduler, tokenizers
        self._session, self._metrics = session, metrics
        self._generative = task if isinstance(task, Generative) else None  # once: asking a protocol takes longer than decoding
        self._label = {"model": manifest.name}
        self._drift: Drift | None = None
        self.examples: Sequence[Mapping[str, Any]] = ()
        """Items of its own that it can be tried with, by their fields."""

    @property
    def provider(self) -> Provider:
        return self._session.provider

    @property
    def execution_providers(self) -> list[str]:
        return self._session.execution_providers

    @property
    def num_threads(self) -> int:
        return self._session.num_threads

    @property
    def decoder_provider(self) -> Provider | None:
        """Of the graph that writes; None: there is none."""
        return self._session.decoder_provider

    @property
    def decoder_execution_providers(self) -> list[str]:
        return self._session.decoder_execution_providers

    @property
    def is_alive(self) -> bool:
        return self.scheduler.is_alive

    async def wait_closed(self) -> bool:
        """Wait until nothing is answered any more; whether that is because the engine was lost, not because it was closed."""
        return await self.scheduler.wait_closed()

    def live_model(self, role: str = "main", share: float = 1.0) -> LiveModel:
        """What the metrics tell of it, with the part that it plays for its name."""
        manifest, provider, rows = self.manifest, self.provider, self.scheduler.cache_rows
        return LiveModel(
            manifest.name,
            str(manifest.version),
            provider.execution_provider,
            provider.precision,
            manifest.graph.layout,
            self.scheduler.num_waiting_rows,
            self.scheduler.max_batch_tokens_now,
            manifest.reference,
            role,
            share,
            None if rows is None else (rows.num_rows, rows.num_used, rows.num_prefix_bytes),
        )

    def watch(self, drift: Drift) -> None:
        """Count for drift what is answered from now on."""
        self._drift = drift

    async def predict(
        self,
        items: Sequence[Any],
        options: Any,
        deadline: float | None = None,
        priority: Priority = "interactive",
        is_repeated: bool = False,
        is_copy: bool = False,
        on_written: OnWritten | None = None,
        prefix_owner: str | None = None,
        max_tokens: int | None = None,
    ) -> Prediction:
        """Answer items; one that cannot be answered yields its error in its place.

        Args:
            items: the task's own item type; at least one.
            deadline: `time.monotonic()` seconds after which nobody wants the answer.
            priority: `bulk` waits until the engine has nothing interactive to do.
            is_repeated: the items were asked before, and are not counted for drift a second time.
            is_copy: nobody waits for the answer: the metrics of what callers wait for are not told.
            on_written: of a model that writes, called once with the tokens that were written, however it ends.
            prefix_owner: see `SamplingParams`.
            max_tokens: that the items may have together; None: any number.

        Raises:
            Overloaded, Unavailable, DeadlineExceeded, TooLarge: for the request as a whole.
        """
        self.scheduler.check_open(priority)
        encoded, tokenize_s = await self.timed_encode(items, options)
        _refuse_tokens(encoded, max_tokens)
        rows, sampling = rows_of(encoded), await self._sampling(num_rows_of(encoded), options, prefix_owner)
        ran = SubmissionResult([], 0.0, 0.0)
        if rows and sampling is None:
            ran = await self.scheduler.submit(rows, deadline, priority)
        elif rows:
            submission = self.scheduler.start(rows, deadline, priority, sampling)
            with _telling(on_written, submission):
                ran = await submission.result()
        return await self._prediction(encoded, ran, options, tokenize_s, is_repeated, is_copy)

    async def stream(
        self,
        item: Any,
        options: Any,
        deadline: float | None = None,
        priority: Priority = "interactive",
        on_written: OnWritten | None = None,
        prefix_owner: str | None = None,
    ) -> AsyncGenerator[StreamedText | Prediction]:
        """The text of one item as it is written, in pieces, then the whole answer as `predict` gives it.

        Whoever closes the generator (`contextlib.aclosing`) before its end has left, and nothing more is written.

        Args:
            item, options, deadline, priority, on_written, prefix_owner: as for `predict`, of a model that writes.

        Raises:
            Overloaded, Unavailable, DeadlineExceeded, TooLarge: as `predict`.
        """
        self.scheduler.check_open(priority)
        encoded, tokenize_s = await self.timed_encode([item], options)
        ran = SubmissionResult([], 0.0, 0.0)
        if isinstance(encoded[0], Encoded):
            sampling = await self._sampling(num_rows_of(encoded), options, prefix_owner)
            submission = self.scheduler.start(encoded[0].rows, deadline, priority, sampling)
            with _telling(on_written, submission):
                async with contextlib.aclosing(self._pieces(encoded[0], submission, options)) as pieces:
                    async for piece in pieces:
                        yield piece
            ran = submission.future.result()
        yield await self._prediction(encoded, ran, options, tokenize_s)

    async def _prediction(
        self,
        encoded: Sequence[Encoded | HooperError],
        ran: SubmissionResult,
        options: Any,
        tokenize_s: float,
        is_repeated: bool = False,
        is_copy: bool = False,
    ) -> Prediction:
        """What came of the rows as the items' answers, told to the metrics."""
        results = telling_reused(encoded, await self.decode(encoded, ran.outputs, options, is_repeated), ran.num_reused)
        timings = Timings.of(tokenize_s, ran)
        if not is_copy:
            self.measure(results, timings)
        return Prediction(results, timings)

    def sampling(self, num_rows: Sequence[int], options: Any, prefix_owner: str | None = None) -> Sampling:
        """How each row is to be written; None where the model only reads.

        Args:
            num_rows: of each item that could be encoded.
            prefix_owner: see `SamplingParams`.
        """
        if self._generative is None:
            return None
        sampling = replace(self._generative.sampling(options), prefix_owner=prefix_owner)
        if not sampling.temperature:
            return sampling
        return [replace(sampling, seed=sampling.seed + number) for count in num_rows for number in range(count)]

    async def start(
        self,
        rows: Sequence[Row],
        num_rows: Sequence[int],
        options: Any,
        deadline: float | None,
        priority: Priority,
        prefix_owner: str | None,
    ) -> RowsUnderWay:
        """Rows of a model that writes, for another process that has encoded them and decodes what comes of them.

        Args:
            rows, num_rows: all of them, and how many each item has.
            options, deadline, priority, prefix_owner: as for `predict`.

        Raises:
            Overloaded, Unavailable, TooLarge, InvalidInput: as `predict`.
        """
        return self.scheduler.start(rows, deadline, priority, await self._sampling(num_rows, options, prefix_owner))

    async def _sampling(self, num_rows: Sequence[int], options: Any, prefix_owner: str | None) -> Any:
        """What the scheduler is told of how to write, found on a thread where a grammar may have to be made for it."""
        if getattr(options, "output_format", None) is None:
            return self.sampling(num_rows, options, prefix_owner)
        return await asyncio.to_thread(self.sampling, num_rows, options, prefix_owner)

    async def _pieces(self, encoded: Encoded, submission: RowsUnderWay, options: Any) -> AsyncGenerator[StreamedText]:
        if self._generative is None:
            raise TypeError(f"{self.manifest.task} writes nothing")
        texts, num_new_tokens = [StreamingText(each) for each in self._generative.detokenizers(encoded, options)], 0
        num_tokens = encoded.num_tokens // len(texts)  # each row reads the same
        async with contextlib.aclosing(submission.stream()) as steps:
            async for step in steps:
                if isinstance(step.output, HooperError):
                    continue  # the whole answer says so
                num_new_tokens += len(step.output["token_ids"])
                index, row = (step.index, 0) if len(texts) > 1 else (0, step.index)
                if told := texts[index].push(row, step.output, step.is_last):
                    yield StreamedText(told[0], num_new_tokens, num_tokens, index, told[1])
        for index, each in enumerate(texts):
            if told := each.end():
                yield StreamedText(told[0], num_new_tokens, num_tokens, index, told[1])

    async def aclose(self, drain_s: float) -> None:
        """Finish what was accepted within `drain_s` seconds, then give the engine back; one that was lost is not waited for."""
        await self.scheduler.aclose(drain_s)
        await self._session.aclose(0.0 if self.scheduler.has_died else None)

    async def timed_encode(self, items: Sequence[Any], options: Any) -> tuple[list[Encoded | HooperError], float]:
        """As `encode`, with the seconds that it took."""
        began = time.monotonic()
        return await self.encode(items, options), time.monotonic() - began

    async def encode(self, items: Sequence[Any], options: Any) -> list[Encoded | HooperError]:
        """Items as rows, on a thread where that would hold up everybody else."""
        num_characters = sum(len(item) for item in items)
        if num_characters <= INLINE_CHARACTERS:
            return self.task.encode(items, options)
        if num_characters <= LONG_CHARACTERS:
            return await asyncio.to_thread(self.task.encode, items, options)
        return await asyncio.get_running_loop().run_in_executor(_LONG_TEXTS, self.task.encode, items, options)

    async def decode(
        self,
        encoded: Sequence[Encoded | HooperError],
        outputs: Sequence[RowOutput | HooperError],
        options: Any,
        is_repeated: bool = False,
    ) -> list[Result | HooperError]:
        """Row outputs, in the order of the items' rows, as results; on a thread where there are many."""
        if len(outputs) <= INLINE_ROWS:
            return self._decode_all(encoded, outputs, options, is_repeated)
        return await asyncio.to_thread(self._decode_all, encoded, outputs, options, is_repeated)

    def _decode_all(
        self,
        encoded: Sequence[Encoded | HooperError],
        outputs: Sequence[RowOutput | HooperError],
        options: Any,
        is_repeated: bool,
    ) -> list[Result | HooperError]:
        coming = iter(outputs)
        results = [
            item if isinstance(item, HooperError) else self._decode(item, [next(coming) for _ in item.rows], options)
            for item in encoded
        ]
        if self._drift is not None and not is_repeated:
            pairs = zip(encoded, results, strict=True)
            answers = [(a, b.answer) for a, b in pairs if isinstance(a, Encoded) and isinstance(b, Result)]
            self._drift.count(answers, options)
        return results

    def _decode(self, encoded: Encoded, outputs: Sequence[RowOutput | HooperError], options: Any) -> Result | HooperError:
        good: list[RowOutput] = []
        for output in outputs:
            if isinstance(output, HooperError):
                return output
            good.append(output)
        try:
            answer = self.task.decode(encoded, good, options)
        except HooperError as error:
            return error
        except (ValueError, IndexError, KeyError) as error:  # one poisonous item must not fail its neighbours
            return EngineFailed(f"the model's output could not be read ({type(error).__name__})")
        return Result(answer, encoded.num_tokens, encoded.truncated)

    def measure(self, results: Sequence[Result | HooperError], timings: Timings) -> None:
        """Tell the metrics where a request's time went, and what was cut."""
        self._metrics.tokenize_seconds.labels(**self._label).observe(timings.tokenize_s)
        self._metrics.queue_seconds.labels(**self._label).observe(timings.queue_s)
        num_cut = sum(result.truncated for result in results if isinstance(result, Result))
        if num_cut:
            self._metrics.truncated.labels(**self._label).inc(num_cut)


@contextlib.contextmanager
def _telling(on_written: OnWritten | None, submission: RowsUnderWay) -> Iterator[None]:
    try:
        yield
    finally:
        if on_written is not None:
            on_written(submission.num_new_tokens)


def num_rows_of(encoded: Sequence[Encoded | HooperError]) -> list[int]:
    """Of each item that could be encoded."""
    return [len(item.rows) for item in encoded if isinstance(item, Encoded)]


def _refuse_tokens(encoded: Sequence[Encoded | HooperError], limit: int | None) -> None:
    num_tokens = sum(item.num_tokens for item in encoded if isinstance(item, Encoded))
    if limit is not None and num_tokens > limit:
        raise TooLarge(
            f"the answer would tell of each of {num_tokens} tokens, more than the {limit} that one may tell of; send the texts"
            " in several requests"
        )


def rows_of(encoded: Sequence[Encoded | HooperError]) -> list[Row]:
    """The rows of all items that could be encoded, in order."""
    return [row for item in encoded if isinstance(item, Encoded) for row in item.rows]


async def offline_predict(deployment: Deployment, items: Sequence[Any], options: Any) -> Prediction:
    """As `Deployment.predict`, for hundreds of items of which none is urgent.

    Raises:
        Unavailable, TooLarge: for the items as a whole.
    """
    encoded, tokenize_s = await deployment.timed_encode(items, options)
    rows = rows_of(encoded)
    order = offline_order([row.num_tokens for row in rows], deployment.scheduler.budget.layout, PACKED_WIDTH)
    sampling = deployment.sampling(num_rows_of(encoded), options)
    ordered = [sampling[index] for index in order] if isinstance(sampling, Sequence) else sampling
    sorted_rows = [rows[index] for index in order]
    ran = await deployment.scheduler.submit(sorted_rows, sampling=ordered) if rows else SubmissionResult([], 0.0, 0.0)
    outputs = dict(zip(order, ran.outputs, strict=True))
    results = await deployment.decode(encoded, [outputs[index] for index in range(len(rows))], options)
    timings = Timings(tokenize_s, ran.queue_s, ran.inference_s, ran.batch_rows)
    deployment.measure(results, timings)
    return Prediction(results, timings)
