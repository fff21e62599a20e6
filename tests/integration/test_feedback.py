"""Feedback over real processes: two of them on one file, a kill, and a file that cannot be had."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.core.feedback import read
from tests.support.live_service import LiveService, serving, started
from tests.support.tiny_model import publish_tiny


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "models")
    return tmp_path / "models"


def correct(client: httpx.Client, text: str) -> int:
    """Send a correction; its id."""
    response = client.post("/v1/feedback", json={"inputs": {"text": text, "label": "bad"}, "request_id": "same"})
    assert response.status_code == 200, response.text
    number: int = response.json()["results"][0]["id"]
    return number


def correct_many(running: LiveService, name: str) -> list[int]:
    with running.client() as client:
        return [correct(client, f"{name} {number}") for number in range(20)]


def test_two_services_keep_into_one_file_at_once(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with (
        serving(models, feedback=path) as one,
        serving(models, feedback=path) as other,
        ThreadPoolExecutor(4) as callers,
    ):
        asked = [callers.submit(correct_many, *each) for each in ((one, "a"), (other, "b"), (one, "c"), (other, "d"))]
        ids = [number for each in asked for number in each.result()]
    assert sorted(ids) == list(range(1, 81))
    assert [part.id for part in read(path)] == sorted(ids)
    assert {part.item["text"] for part in read(path)} == {f"{name} {number}" for name in "abcd" for number in range(20)}


def test_a_kill_loses_nothing_that_was_acknowledged(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with serving(models, feedback=path) as running, running.client() as client:
        told = [correct(client, f"text {number}") for number in range(5)]
        running.process.kill()
    assert [part.id for part in read(path)] == told
    with serving(models, feedback=path) as again, again.client() as client:
        assert correct(client, "background_tasks") == told[-1] + 1
        assert not [line for line in again.lines if "background_tasks" in line]


def test_a_service_whose_file_cannot_be_made_does_not_start_and_says_why(models: Path, tmp_path: Path) -> None:
    with started(models, feedback=tmp_path / "missing" / "feedback.db") as running:
        assert running.wait() == 2
    assert running.lines[-1].startswith("hooper: the feedback file")
    assert "Traceback" not in "\n".join(running.lines)


@pytest.mark.slow
def test_corrections_go_on_into_a_new_file_when_theirs_was_removed_or_moved(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with serving(models, feedback=path) as running, running.client() as client:
        for number in range(28):  # more than SQLite would keep in a log
            correct(client, f"{number} " + "before " * 22_000)
        path.unlink()
        correct(client, "removed")
        moved = path.rename(tmp_path / "moved.db")
        correct(client, "moved")
        running.wait_for("the feedback file was gone")
    assert [[part.item["text"] for part in read(each)] for each in (moved, path)] == [["removed"], ["moved"]]


@pytest.mark.slow
def test_what_is_no_feedback_file_is_503_and_left_alone(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with serving(models, feedback=path) as running, running.client() as client:
        correct(client, "before")
        path.write_text("my notes\n" * 1000, encoding="utf-8")
        response = client.post("/v1/feedback", json={"inputs": {"text": "lost", "label": "bad"}})
        assert (response.status_code, response.json()["type"]) == (503, "not_stored")
        assert str(tmp_path) not in response.text
        assert path.read_text(encoding="utf-8") == "my notes\n" * 1000
        path.unlink()
        correct(client, "background_tasks")
    assert [part.item["text"] for part in read(path)] == ["background_tasks"]
