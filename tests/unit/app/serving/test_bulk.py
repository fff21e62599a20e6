"""Bulk answers are those of single requests, in the items' order, whatever order the rows run in."""

from __future__ import annotations

import asyncio

from app.core.errors import InvalidInput
from app.runtime.layout import PACKED_WIDTH
from app.serving.bulk import predict_bulk
from app.tasks.base import Result
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from tests.support.gated_engine import Deploy, output_of


async def test_each_item_gets_the_output_of_its_own_row_and_a_bad_one_its_error(deploy: Deploy) -> None:
    gated = deploy()
    items = [ClassificationItem(text) for text in ("a good film", " ", "bad", "the film was very very good", "not")]
    running = asyncio.create_task(predict_bulk(gated.deployment, items, ClassificationOptions(activation="none")))
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
            assert {one.score for one in result.answer.labels} == set(output_of(row)["logits"].tolist()), item


async def test_rows_that_widen_a_tensor_run_before_the_others(deploy: Deploy) -> None:
    gated = deploy()
    gated.deployment.scheduler.budget = type(gated.deployment.scheduler.budget)(64, 8, "padded")
    items = [ClassificationItem("bad " * number) for number in (1, 5, 3)]
    running = asyncio.create_task(predict_bulk(gated.deployment, items, ClassificationOptions(activation="none")))
    batch = await gated.engine.batch()
    assert [row.num_tokens for row in batch.rows] == [7, 5, 3]
    batch.finish()
    results = (await running).results
    assert [one.num_tokens for one in results if isinstance(one, Result)] == [3, 7, 5]
    scores = [{label.score for label in one.answer.labels} for one in results if isinstance(one, Result)]
    assert [max(one) for one in scores] == [3, 7, 5]  # the gated engine tells a row's length


async def test_nothing_that_can_be_read_needs_no_engine(deploy: Deploy) -> None:
    gated = deploy()
    prediction = await predict_bulk(gated.deployment, [ClassificationItem(" ")], ClassificationOptions())
    assert isinstance(prediction.results[0], InvalidInput)
    assert not gated.engine.has_batch
