"""Explaining through a deployment: rows in portions, and who fails."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from app.batching.admission import QueueLimit
from app.core.errors import DeadlineExceeded, EngineFailed, InvalidInput, Overloaded, TooLarge, Unavailable
from app.core.types import Row
from app.serving.deployment import INLINE_CHARACTERS, Prediction
from app.serving.explaining import ExplainOptions, Explanation, explain, portions
from app.tasks.base import Result
from app.tasks.text_classification.task import ClassificationItem
from tests.support.gated_engine import Deploy, Gated, turn
from tests.support.tiny_model import VOCABULARY


def rows(*lengths: int) -> list[Row]:
    return [Row(range(length), [0] * length) for length in lengths]


def lengths(limit: QueueLimit, *given: int) -> list[list[int]]:
    return [[row.num_tokens for row in portion] for portion in portions(rows(*given), limit)]


def items(*texts: str) -> list[ClassificationItem]:
    return [ClassificationItem(text) for text in texts]


async def finished(gated: Gated, asked: Any, poison: int = -1) -> Prediction:
    task = asyncio.ensure_future(asked)
    await turn()
    while not task.done():
        batch = await gated.engine.batch()
        batch.fail(RuntimeError()) if any(poison in row.input_ids for row in batch.rows) else batch.finish()
        await turn()
    found: Prediction = await task
    return found


def test_rows_are_sent_as_many_at_a_time_as_may_wait() -> None:
    assert lengths(QueueLimit(2, 100), 1, 2, 3) == [[1, 2], [3]]
    assert lengths(QueueLimit(9, 10), 5, 5, 1, 10) == [[5, 5], [1], [10]]
    assert lengths(QueueLimit(9, 10), 11, 1) == [[11], [1]]
    assert lengths(QueueLimit(9, 10)) == []


async def test_every_item_gets_its_explanation_in_its_order(deploy: Deploy) -> None:
    gated = deploy()
    found = await finished(gated, explain(gated.deployment, items("a good film", " ", "bad")))
    first, empty, last = found.results
    assert isinstance(empty, InvalidInput)
    for result, text in ((first, "a good film"), (last, "bad")):
        assert isinstance(result, Result)
        assert isinstance(result.answer, Explanation)
        assert [word.text for word in result.answer.words] == text.split()
        assert result.num_tokens > result.answer.num_evaluations > 1
    assert found.timings.inference_s > 0


async def test_items_of_a_request_share_batches(deploy: Deploy) -> None:
    gated = deploy()
    asked = asyncio.ensure_future(explain(gated.deployment, items("good", "bad")))
    batch = await gated.engine.batch()
    batch.finish()
    assert len((await gated.engine.batch()).rows) > 2
    asked.cancel()
    await turn()
    assert gated.deployment.scheduler.num_waiting_rows == 0


async def test_an_item_on_whose_rows_the_engine_fails_fails_alone(deploy: Deploy) -> None:
    gated = deploy()
    found = await finished(gated, explain(gated.deployment, items("good film", "bad film")), VOCABULARY["bad"])
    good, failed = found.results
    assert isinstance(good, Result)
    assert isinstance(failed, EngineFailed)


async def test_an_unknown_target_fails_each_item(deploy: Deploy) -> None:
    gated = deploy()
    found = await finished(gated, explain(gated.deployment, items("good"), ExplainOptions(target="happy")))
    assert isinstance(found.results[0], InvalidInput)
    assert found.results[0].field == "target"


async def test_what_fails_the_request_as_a_whole_is_raised_and_leaves_nothing_waiting(deploy: Deploy) -> None:
    gated = deploy()
    with pytest.raises(DeadlineExceeded):
        await explain(gated.deployment, items("good", "bad"), deadline=time.monotonic() - 1)
    full = deploy(limit=QueueLimit(2, 1000))
    waiting = []
    for _ in range(2):  # one in the engine, and one that takes up what bulk rows may take
        waiting.append(asyncio.ensure_future(full.deployment.scheduler.submit(rows(3))))
        await turn()
    with pytest.raises(Overloaded):
        await explain(full.deployment, items("good"))
    await full.deployment.aclose(0)
    with pytest.raises(Unavailable):
        await explain(full.deployment, items("good"))
    await asyncio.gather(*waiting, return_exceptions=True)
    assert gated.deployment.scheduler.num_waiting_rows == 0


async def test_when_one_item_is_turned_away_the_others_stop_asking(deploy: Deploy) -> None:
    gated = deploy()
    asked = asyncio.ensure_future(explain(gated.deployment, items("good", "bad")))
    await turn()
    await gated.deployment.scheduler.aclose(0)
    with pytest.raises(Unavailable):
        await asked
    assert gated.deployment.scheduler.num_waiting_rows == 0


async def test_what_is_too_long_to_be_answered_is_not_explained(deploy: Deploy) -> None:
    gated = deploy(limit=QueueLimit(2, 100))
    with pytest.raises(TooLarge, match="the request has 14 rows of"):
        await explain(gated.deployment, items("good " * 300))


@pytest.mark.parametrize(("text", "inline"), [("good", True), ("a" * (INLINE_CHARACTERS + 1), False), ("good " * 800, False)])
async def test_a_long_text_is_searched_for_its_words_off_the_event_loop(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, text: str, inline: bool
) -> None:
    gated = deploy(limit=QueueLimit(100, 10_000))
    seen: list[bool] = []
    passage = gated.deployment.task.passage  # type: ignore[attr-defined]

    def watched(*given: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return passage(*given)

    monkeypatch.setattr(gated.deployment.task, "passage", watched)
    asked = asyncio.ensure_future(explain(gated.deployment, items(text)))
    while not seen and not asked.done():
        if gated.engine.has_batch:
            (await gated.engine.batch()).finish()
        await asyncio.sleep(0)
    assert seen == [inline]
    asked.cancel()
