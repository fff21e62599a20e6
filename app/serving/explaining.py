"""Explaining: which words of an item made the model decide, asked of the engine at bulk priority."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from app.batching.admission import QueueLimit, check_size
from app.core.errors import HooperError, InvalidInput, TryLater, UnknownModel
from app.core.types import Priority, Row, RowOutput, Truncation
from app.serving.deployment import INLINE_CHARACTERS, INLINE_ROWS, Deployment, Prediction, Timings, rows_of
from app.tasks.attribution import METHODS, Attribution, Method, Spending
from app.tasks.base import Encoded, Result
from app.tasks.passage import Keep, Passage

DEFAULT_METHOD: Method = "shapley"
DEFAULT_BUDGET = 4_096
"""Tokens: some fifteen readings of a text of 200 words; see docs/explanations.md for what they buy."""
MAX_BUDGET = 131_072


@runtime_checkable
class Explainable(Protocol):
    """What explaining needs of a task beside `Task` itself."""

    def passage(self, item: Any, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """The part of the item that is explained, and how to read from the model's outputs what speaks for the target.

        Raises:
            InvalidInput: there is no such target.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """None stands for the best label, answer or sentence, the default method, and the task's own way with long texts."""

    target: str | None = None
    method: Method | None = None
    budget: int = DEFAULT_BUDGET
    """Tokens that the model may read for one item beyond reading it once."""
    truncation: Truncation | None = None
    language: str | None = None
    """Of documents to sum up, as a code; None: the model's own."""


@dataclass(frozen=True, slots=True)
class WordWeight:
    """`item.<field>[start:end] == text`; the weight is in log-odds of the target."""

    field: str
    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The words in the order of the item's fields, and the target's score with all of them and with none."""

    words: Sequence[WordWeight]
    target: str
    score: float
    base_score: float
    method: Method
    num_evaluations: int
    """Altered versions of the item that the model read."""


async def explain(
    deployment: Deployment,
    items: Sequence[Any],
    options: ExplainOptions = ExplainOptions(),
    deadline: float | None = None,
    priority: Priority = "bulk",
) -> Prediction:
    """Explain items; one that cannot be explained yields its error in its place. Each answer is an `Explanation`.

    Args:
        items: the task's own item type; at least one.
        options: what is explained, and how.
        deadline: `time.monotonic()` seconds after which nobody wants the answer.
        priority: in which rows wait for the engine.

    Raises:
        UnknownModel: the model's task cannot be explained.
        InvalidInput: it has no option that was given.
        Overloaded, Unavailable, DeadlineExceeded, TooLarge: for the request as a whole.
    """
    if not isinstance(deployment.task, Explainable):
        raise UnknownModel(f"{deployment.manifest.name!r} is for {deployment.manifest.task}, which cannot be explained")
    deployment.scheduler.check_open(priority)
    encoded, tokenize_s = await deployment.timed_encode(items, _task_options(deployment, options))
    rows = rows_of(encoded)
    check_size(len(rows), sum(row.num_tokens for row in rows), deployment.scheduler.limit)  # as for answers
    explanations = [_Explaining(deployment, deployment.task, deadline, priority) for _ in items]
    try:
        async with asyncio.TaskGroup() as group:  # beside each other: the rows of several items share batches
            answers = [
                group.create_task(explaining.result(item, item_rows, options))
                for explaining, item, item_rows in zip(explanations, items, encoded, strict=True)
            ]
    except* HooperError as errors:
        raise _first(errors) from None
    results = [answer.result() for answer in answers]
    timings = _timings(tokenize_s, explanations)
    deployment.measure(results, timings)
    return Prediction(results, timings)


def _task_options(deployment: Deployment, options: ExplainOptions) -> Any:
    """The task's own, by which items are read."""
    task_options = deployment.spec.options()
    if options.truncation is not None:
        task_options = replace(task_options, truncation=options.truncation)
    if options.language is not None:
        if not hasattr(task_options, "language"):
            raise InvalidInput(f"is for documents to sum up: {deployment.manifest.name!r} is for another task", "language")
        task_options = replace(task_options, language=options.language)
    return task_options


def _timings(tokenize_s: float, explanations: Sequence[_Explaining]) -> Timings:
    return Timings(
        tokenize_s,
        max(item.queue_s for item in explanations),
        sum(item.inference_s for item in explanations),
        max(item.batch_rows for item in explanations),
        max(item.batch_tokens for item in explanations),
    )


@dataclass(slots=True)
class _Explaining:
    """One item's questions to the engine, and what they cost."""

    deployment: Deployment
    task: Explainable
    deadline: float | None
    priority: Priority
    num_tokens: int = 0
    num_rows: int = 0
    queue_s: float = 0.0
    inference_s: float = 0.0
    batch_rows: int = 0
    batch_tokens: int = 0

    async def result(self, item: Any, encoded: Encoded | HooperError, options: ExplainOptions) -> Result | HooperError:
        """Its explanation, or what this item failed with; what fails the whole request is raised."""
        if isinstance(encoded, HooperError):
            return encoded
        try:
            passage = await self._passage(item, encoded, await self._run(encoded.rows), options.target)
            num_asked = self.num_rows
            method = options.method or DEFAULT_METHOD
            attribution = await self._search(passage, method, Spending(options.budget))
        except _ItemFailed as failure:
            return failure.error
        except HooperError as error:
            if isinstance(error, TryLater):
                raise
            return error
        answer = _explanation(passage, attribution, method, self.num_rows - num_asked)
        return Result(answer, self.num_tokens, encoded.truncated)

    async def _passage(self, item: Any, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """What is explained, looked for on a thread where that would hold up everybody else."""
        if len(item) <= INLINE_CHARACTERS and len(outputs) <= INLINE_ROWS:
            return self.task.passage(item, encoded, outputs, target)
        return await asyncio.to_thread(self.task.passage, item, encoded, outputs, target)

    async def _search(self, passage: Passage, method: Method, spending: Spending) -> Attribution:
        search = METHODS[method](passage, spending)
        wave: Sequence[Keep] = next(search)
        while True:
            outputs = await self._run([passage.without(keep) for keep in wave])
            try:
                wave = search.send([passage.log_odds(output) for output in outputs])
            except StopIteration as end:
                attribution: Attribution = end.value
                return attribution

    async def _run(self, rows: Sequence[Row]) -> list[RowOutput]:
        scheduler = self.deployment.scheduler
        outputs: list[RowOutput] = []
        for portion in portions(rows, scheduler.limit.of(self.priority)):
            ran = await scheduler.submit(portion, self.deadline, self.priority)
            self.num_tokens += sum(row.num_tokens for row in portion)
            self.num_rows += len(portion)
            self.queue_s += ran.queue_s
            self.inference_s += ran.inference_s
            self.batch_rows = max(self.batch_rows, ran.batch_rows)
            self.batch_tokens = max(self.batch_tokens, ran.batch_tokens)
            for output in ran.outputs:
                if isinstance(output, HooperError):
                    raise _ItemFailed(output)
                outputs.append(output)
        return outputs


class _ItemFailed(Exception):
    """The engine could not read one of the item's rows: the other items are not concerned."""

    def __init__(self, error: HooperError) -> None:
        super().__init__(error.detail)
        self.error = error


def portions(rows: Sequence[Row], limit: QueueLimit) -> Iterator[Sequence[Row]]:
    """Rows in order, as many at a time as may wait; a row that is too long by itself comes alone."""
    start = num_tokens = 0
    for index, row in enumerate(rows):
        if index > start and (index - start == limit.max_rows or num_tokens + row.num_tokens > limit.max_tokens):
            yield rows[start:index]
            start, num_tokens = index, 0
        num_tokens += row.num_tokens
    if rows:
        yield rows[start:]


def _explanation(passage: Passage, attribution: Attribution, method: Method, num_evaluations: int) -> Explanation:
    words = [
        WordWeight(word.field, word.text, word.start, word.end, float(weight))
        for word, weight in zip(passage.words, attribution.weights, strict=True)
    ]
    return Explanation(
        words, passage.target, passage.to_score(attribution.whole), passage.to_score(attribution.empty), method, num_evaluations
    )


def _first(errors: BaseExceptionGroup[HooperError]) -> HooperError:
    """What the first item failed with, of a group that may hold groups."""
    error = errors.exceptions[0]
    return error if isinstance(error, HooperError) else _first(error)
