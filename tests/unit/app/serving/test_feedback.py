"""Feedback is written off the event loop, bounded, and nothing is said to be stored that is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from app.core.correction import Correction
from app.core.errors import NotEnabled, NotStored, Overloaded, SetupError, Unavailable
from app.core.feedback import FeedbackFile, read
from app.observability.metrics import Metrics
from app.serving.feedback import MAX_WAITING, FeedbackWriter
from tests.support.corrections import CORRECTION, MEGABYTE, labelled, write_feedback


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[FeedbackWriter]:
    made = FeedbackWriter(Metrics(), str(path), MEGABYTE)
    await made.open()
    yield made
    await made.aclose()


async def test_what_was_kept_is_on_the_disk(writer: FeedbackWriter, path: Path) -> None:
    assert await writer.store([CORRECTION, CORRECTION]) == [1, 2]
    assert [part.id for part in read(path)] == [1, 2]


async def test_requests_beside_each_other_are_kept_one_after_the_other(writer: FeedbackWriter, path: Path) -> None:
    kept = await asyncio.gather(*(writer.store([labelled(f"text {number}", "bad")] * 3) for number in range(20)))
    assert sorted(number for ids in kept for number in ids) == list(range(1, 61))
    assert all(ids == list(range(ids[0], ids[0] + 3)) for ids in kept)


async def test_where_none_are_wanted_that_is_said_and_how_to_change_it() -> None:
    writer = FeedbackWriter(Metrics())
    await writer.open()
    with pytest.raises(NotEnabled, match="HOOPER_FEEDBACK"):
        await writer.store([CORRECTION])
    await writer.aclose()


async def test_before_the_file_is_open_callers_are_asked_to_come_back(path: Path) -> None:
    writer = FeedbackWriter(Metrics(), str(path), MEGABYTE)
    with pytest.raises(Unavailable, match="not open yet"):
        writer.check_open()
    await writer.aclose()
    with pytest.raises(SetupError, match="does not exist"):
        list(read(path))


async def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    writer = FeedbackWriter(Metrics(), str(tmp_path / "missing" / "feedback.db"), MEGABYTE)
    with pytest.raises(SetupError, match="feedback file"):
        await writer.open()
    await writer.aclose()


async def test_while_the_disk_hangs_the_loop_runs_and_only_so_many_wait(
    writer: FeedbackWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = threading.Event()
    add = FeedbackFile.add

    def slow(file: FeedbackFile, corrections: Sequence[Correction]) -> list[int]:
        moves.wait()
        return add(file, corrections)

    monkeypatch.setattr(FeedbackFile, "add", slow)
    waiting = [asyncio.ensure_future(writer.store([CORRECTION])) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="64 requests wait"):
        await writer.store([CORRECTION])
    moves.set()
    await asyncio.gather(*waiting)
    assert await writer.store([CORRECTION]) == [MAX_WAITING + 1]


async def test_what_the_disk_refuses_is_an_error_of_its_own_and_the_next_is_kept(writer: FeedbackWriter) -> None:
    with pytest.raises(NotStored):
        await writer.store([labelled("x" * 2 * MEGABYTE, "bad")])
    assert await writer.store([CORRECTION]) == [1]


async def test_a_file_that_was_removed_or_replaced_is_told_in_the_log_and_the_metrics(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    writer = FeedbackWriter(metrics, str(path), MEGABYTE)
    await writer.open()
    other = write_feedback(path.with_name("other.db"), [labelled("of the other", "bad")])
    await asyncio.to_thread(path.unlink)
    await writer.store([CORRECTION])
    await asyncio.to_thread(other.replace, path)
    assert await writer.store([labelled("afterwards", "bad")]) == [2]
    await writer.aclose()
    assert [part.item["text"] for part in read(path)] == ["of the other", "afterwards"]
    assert [record.getMessage() for record in caplog.records if record.name == "app.serving.feedback"] == [
        "the feedback file was gone and is made anew", "another feedback file is there",
    ]  # fmt: skip
    told = {
        change: metrics.registry.get_sample_value("hooper_feedback_file_changes_total", {"change": change})
        for change in ("made", "replaced")
    }
    assert told == {"made": 1, "replaced": 1}
