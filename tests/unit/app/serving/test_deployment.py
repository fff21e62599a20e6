"""A deployment: items in, a result or an error for every one of them out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.batching.admission import QueueLimit
from app.core.errors import DeadlineExceeded, EngineFailed, HooperError, InvalidInput, Overloaded, TooLarge, Unavailable
from app.core.types import RowOutput
from app.runtime.layout import PACKED_WIDTH
from app.serving.deployment import INLINE_CHARACTERS, LONG_CHARACTERS, Prediction, offline_predict
from app.tasks.base import Result
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from tests.support.gated_engine import Deploy, Gated, output_of, turn
from tests.support.tiny_model import MAX_TOKENS

OPTIONS = ClassificationOptions()
GOOD_LOGITS: RowOutput = {"logits": np.array([0.0, 3.0], np.float32)}


def items(*texts: str) -> list[ClassificationItem]:
    return [ClassificationItem(text) for text in texts]


async def ask(gated: Gated, *texts: str, options: ClassificationOptions = OPTIONS, **more: Any) -> asyncio.Task[Prediction]:
    task = asyncio.create_task(gated.deployment.predict(items(*texts), options, **more))
    await turn()
    return task


def sample(gated: Gated, name: str) -> float | None:
    return gated.metrics.registry.get_sample_value(name, {"model": "tiny"})


async def test_items_are_answered_in_their_order(deploy: Deploy) -> None:
    gated = deploy()
    asked = await ask(gated, "good", "bad film")
    outputs = [{"logits": np.array(pair, np.float32)} for pair in ([0, 5], [5, 0])]
    (await gated.engine.batch()).finish(outputs)
    results = (await asked).results
    assert [result.answer.labels[0].label for result in results if isinstance(result, Result)] == ["good", "bad"]
    assert [result.num_tokens for result in results if isinstance(result, Result)] == [3, 4]
    assert (await asked).num_tokens == 7


async def test_an_item_that_cannot_be_encoded_fails_alone_and_costs_no_row(deploy: Deploy) -> None:
    gated = deploy()
    asked = await ask(gated, "good", " ", "bad", "\ud800")
    batch = await gated.engine.batch()
    assert len(batch.rows) == 2
    batch.finish()
    results = (await asked).results
    assert [isinstance(result, InvalidInput) for result in results] == [False, True, False, True]


async def test_where_no_item_can_be_encoded_the_engine_is_not_asked(deploy: Deploy) -> None:
    gated = deploy()
    prediction = await (await ask(gated, " ", ""))
    assert all(isinstance(result, InvalidInput) for result in prediction.results)
    assert not gated.engine.has_batch


POISONOUS: list[RowOutput | HooperError] = [
    EngineFailed("no finite numbers"),
    {},
    {"logits": np.zeros(9, np.float32)},
    {"logits": np.zeros((), np.float32)},
]


@pytest.mark.parametrize("poison", POISONOUS, ids=["error", "no output", "too many labels", "no axis"])
async def test_one_poisonous_item_does_not_fail_its_neighbours(deploy: Deploy, poison: RowOutput | HooperError) -> None:
    gated = deploy()
    asked = await ask(gated, "good", "bad", "film")
    (await gated.engine.batch()).finish([GOOD_LOGITS, poison, GOOD_LOGITS])
    first, middle, last = (await asked).results
    assert isinstance(middle, EngineFailed)
    assert isinstance(first, Result)
    assert isinstance(last, Result)


async def test_a_poisonous_window_fails_its_item_only(deploy: Deploy) -> None:
    gated = deploy()
    asked = await ask(gated, "good " * 50, "bad", options=ClassificationOptions(truncation="window"))
    while not asked.done():
        batch = await gated.engine.batch()
        outputs = [EngineFailed("") if row.num_tokens == MAX_TOKENS else output_of(row) for row in batch.rows]
        batch.finish(outputs)
        await turn()
    first, second = (await asked).results
    assert isinstance(first, EngineFailed)
    assert isinstance(second, Result)


async def test_truncation_is_told_and_counted(deploy: Deploy) -> None:
    gated = deploy()
    asked = await ask(gated, "good " * 50, "bad", options=ClassificationOptions(truncation="truncate"))
    (await gated.engine.batch()).finish()
    results = [result for result in (await asked).results if isinstance(result, Result)]
    assert [result.truncated for result in results] == [True, False]
    assert [result.num_tokens for result in results] == [MAX_TOKENS, 3]
    assert sample(gated, "hooper_truncated_total") == 1


async def test_where_the_time_went_is_told_and_measured(deploy: Deploy) -> None:
    gated = deploy()
    asked = await ask(gated, "good")
    (await gated.engine.batch()).finish(inference_s=0.25)
    timings = (await asked).timings
    assert timings.inference_s == 0.25
    assert timings.tokenize_s >= 0
    assert timings.queue_s >= 0
    assert sample(gated, "hooper_tokenize_seconds_count") == 1
    assert sample(gated, "hooper_queue_seconds_count") == 1


@pytest.mark.parametrize(("num_characters", "inline"), [(INLINE_CHARACTERS, True), (INLINE_CHARACTERS + 1, False)])
async def test_long_requests_are_tokenized_off_the_event_loop(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, num_characters: int, inline: bool
) -> None:
    gated = deploy()
    seen: list[bool] = []
    encode = gated.deployment.task.encode

    def watched(given: Sequence[Any], options: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return encode(given, options)

    monkeypatch.setattr(gated.deployment.task, "encode", watched)
    asked = await ask(gated, "a" * (num_characters - 1), "b")
    (await gated.engine.batch()).finish()
    await asked
    assert seen == [inline]


async def test_a_full_queue_is_found_before_the_text_is_tokenized(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = deploy(limit=QueueLimit(1, 1000))
    running, waiting = await ask(gated, "good"), await ask(gated, "good")
    monkeypatch.setattr(gated.deployment.task, "encode", None)
    with pytest.raises(Overloaded):
        await (await ask(gated, "good"))
    for entry in (running, waiting):
        (await gated.engine.batch()).finish()
        await entry


async def test_errors_of_the_request_as_a_whole_are_raised(deploy: Deploy) -> None:
    gated = deploy(limit=QueueLimit(2, 1000))
    with pytest.raises(TooLarge):
        await (await ask(gated, "a", "b", "c"))
    with pytest.raises(DeadlineExceeded):
        await (await ask(gated, "a", deadline=time.monotonic() - 1))
    await gated.deployment.aclose(0)
    with pytest.raises(Unavailable):
        await (await ask(gated, "a"))


async def test_closing_answers_what_was_accepted_before_it_gives_the_engine_back(deploy: Deploy) -> None:
    gated = deploy()
    asked = await ask(gated, "good")
    closing = asyncio.create_task(gated.deployment.aclose(3600))
    batch = await gated.engine.batch()
    await turn()
    assert not gated.engine.is_closed
    batch.finish()
    await closing
    assert gated.engine.is_closed
    assert (await asked).num_tokens == 3


async def test_the_metrics_are_told_what_lives(deploy: Deploy) -> None:
    gated = deploy()
    running, waiting = await ask(gated, "good"), await ask(gated, "bad", "film")
    live = gated.deployment.live_model()
    assert (live.model, live.version, live.provider, live.precision, live.layout) == (
        "tiny", "1", "CPUExecutionProvider", "fp32", "packed",
    )  # fmt: skip
    assert live.num_waiting_rows == 2
    for entry in (running, waiting):
        (await gated.engine.batch()).finish()
        await entry


async def test_very_long_requests_are_tokenized_one_after_the_other(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = deploy()
    seen: list[str] = []
    encode = gated.deployment.task.encode

    def watched(given: Sequence[Any], options: Any) -> Any:
        seen.append(threading.current_thread().name)
        return encode(given, options)

    monkeypatch.setattr(gated.deployment.task, "encode", watched)

    async def answer_all() -> None:
        while True:
            (await gated.engine.batch()).finish()

    answering = asyncio.create_task(answer_all())
    await asyncio.gather(*[await ask(gated, "a" * (LONG_CHARACTERS + 1)) for _ in range(3)])
    answering.cancel()
    assert len(seen) == 3
    assert len(set(seen)) == 1


async def test_each_item_gets_the_output_of_its_own_row_and_a_bad_one_its_error(deploy: Deploy) -> None:
    gated = deploy()
    items = [ClassificationItem(text) for text in ("a good film", " ", "bad", "the film was very very good", "not")]
    running = asyncio.create_task(offline_predict(gated.deployment, items, ClassificationOptions(activation="none")))
    seen = []
    while not running.done():
        getting = asyncio.create_task(gated.engine.batch())
        await asyncio.wait({getting, running}, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            batch = getting.result()
            seen += batch.rows
            batch.finish()
        getting.cancel()
    results = (await running).results
    assert isinstance(results[1], InvalidInput)
    rows = iter(seen)  # all are short: they run as they came
    assert max(row.num_tokens for row in seen) <= PACKED_WIDTH
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Result):
            row = next(rows)
            assert result.num_tokens == row.num_tokens
            assert {label.score for label in result.answer.labels} == set(output_of(row)["logits"].tolist()), item


async def test_rows_that_widen_a_tensor_run_before_the_others(deploy: Deploy) -> None:
    gated = deploy()
    gated.deployment.scheduler.budget = type(gated.deployment.scheduler.budget)(64, 8, "padded")
    items = [ClassificationItem("bad " * number) for number in (1, 5, 3)]
    running = asyncio.create_task(offline_predict(gated.deployment, items, ClassificationOptions(activation="none")))
    batch = await gated.engine.batch()
    assert [row.num_tokens for row in batch.rows] == [7, 5, 3]
    batch.finish()
    results = (await running).results
    assert [result.num_tokens for result in results if isinstance(result, Result)] == [3, 7, 5]
    scores = [{label.score for label in result.answer.labels} for result in results if isinstance(result, Result)]
    assert [max(score) for score in scores] == [3, 7, 5]  # the gated engine tells a row's length


async def test_nothing_that_can_be_read_needs_no_engine(deploy: Deploy) -> None:
    gated = deploy()
    prediction = await offline_predict(gated.deployment, [ClassificationItem(" ")], ClassificationOptions())
    assert isinstance(prediction.results[0], InvalidInput)
    assert not gated.engine.has_batch
