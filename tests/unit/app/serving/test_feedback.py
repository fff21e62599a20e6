"""The desk: off the event loop, bounded, and nothing is told to be kept that is not."""

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
async def desk(path: Path) -> AsyncIterator[FeedbackWriter]:
    made = FeedbackWriter(Metrics(), str(path), MEGABYTE)
    await made.open()
    yield made
    await made.aclose()


async def test_what_was_kept_is_on_the_disk(desk: FeedbackWriter, path: Path) -> None:
    assert await desk.keep([CORRECTION, CORRECTION]) == [1, 2]
    assert [one.id for one in read(path)] == [1, 2]


async def test_requests_beside_each_other_are_kept_one_after_the_other(desk: FeedbackWriter, path: Path) -> None:
    kept = await asyncio.gather(*(desk.keep([labelled(f"text {number}", "bad")] * 3) for number in range(20)))
    assert sorted(number for ids in kept for number in ids) == list(range(1, 61))
    assert all(ids == list(range(ids[0], ids[0] + 3)) for ids in kept)


async def test_where_none_are_wanted_that_is_said_and_how_to_change_it() -> None:
    desk = FeedbackWriter(Metrics())
    await desk.open()
    with pytest.raises(NotEnabled, match="HOOPER_FEEDBACK"):
        await desk.keep([CORRECTION])
    await desk.aclose()


async def test_before_the_file_is_open_callers_are_asked_to_come_back(path: Path) -> None:
    desk = FeedbackWriter(Metrics(), str(path), MEGABYTE)
    with pytest.raises(Unavailable, match="not open yet"):
        desk.check_open()
    await desk.aclose()
    with pytest.raises(SetupError, match="does not exist"):
        list(read(path))


async def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    desk = FeedbackWriter(Metrics(), str(tmp_path / "missing" / "feedback.db"), MEGABYTE)
    with pytest.raises(SetupError, match="feedback file"):
        await desk.open()
    await desk.aclose()


async def test_while_the_disk_hangs_the_loop_runs_and_only_so_many_wait(
    desk: FeedbackWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = threading.Event()
    add = FeedbackFile.add

    def slow(file: FeedbackFile, corrections: Sequence[Correction]) -> list[int]:
        moves.wait()
        return add(file, corrections)

    monkeypatch.setattr(FeedbackFile, "add", slow)
    waiting = [asyncio.ensure_future(desk.keep([CORRECTION])) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="64 requests wait"):
        await desk.keep([CORRECTION])
    moves.set()
    await asyncio.gather(*waiting)
    assert await desk.keep([CORRECTION]) == [MAX_WAITING + 1]


async def test_what_the_disk_refuses_is_an_error_of_its_own_and_the_next_is_kept(desk: FeedbackWriter) -> None:
    with pytest.raises(NotStored):
        await desk.keep([labelled("x" * 2 * MEGABYTE, "bad")])
    assert await desk.keep([CORRECTION]) == [1]


async def test_a_file_that_was_removed_or_replaced_is_told_in_the_log_and_the_metrics(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    desk = FeedbackWriter(metrics, str(path), MEGABYTE)
    await desk.open()
    other = write_feedback(path.with_name("other.db"), [labelled("of the other", "bad")])
    await asyncio.to_thread(path.unlink)
    await desk.keep([CORRECTION])
    await asyncio.to_thread(other.replace, path)
    assert await desk.keep([labelled("afterwards", "bad")]) == [2]
    await desk.aclose()
    assert [one.item["text"] for one in read(path)] == ["of the other", "afterwards"]
    assert [one.getMessage() for one in caplog.records if one.name == "app.serving.feedback"] == [
        "the feedback file was gone and is made anew", "another feedback file is there",
    ]  # fmt: skip
    told = {
        change: metrics.registry.get_sample_value("hooper_feedback_file_changes_total", {"change": change})
        for change in ("made", "replaced")
    }
    assert told == {"made": 1, "replaced": 1}
