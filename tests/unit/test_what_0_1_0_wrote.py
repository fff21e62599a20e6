"""What release 0.1.0 wrote still opens: model versions, feedback, a batch that was killed, a training that was stopped."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli import main as hooper
from app.core import feedback
from app.core.manifest import read_manifest, verify_files
from app.main import create_app
from app.settings import Settings

RELEASE = Path(__file__).parents[1] / "fixtures" / "release_0_1_0"
REQUESTS: dict[str, tuple[str, Any]] = {
    "classes": ("/v1/classify", "a good film"),
    "rating": ("/v1/classify", "a good film"),
    "answers": ("/v1/answer", {"question": "Was it good?", "context": "The film was bad and good."}),
    "summary": ("/v1/summarize", "A bad film. Very good. The film was not bad."),
}
TIME_OF_INPUT_NS = 1_767_225_600_000_000_000


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(RELEASE, tmp_path / "release"))


@pytest.mark.parametrize("name", REQUESTS)
def test_the_manifest_of_a_version_is_read_and_its_files_are_those_that_were_published(name: str) -> None:
    folder = RELEASE / "models" / name / "1"
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert (manifest.name, manifest.version) == (name, 1)
    assert (manifest.task == "text-regression") is (name == "rating")


async def test_every_version_is_loaded_answers_its_golden_requests_and_callers(release: Path) -> None:
    app = create_app(Settings(models=release / "models", device="cpu", engine_threads=1))
    async with app.router.lifespan_context(app):
        await app.state.loading
        assert [failed.reason for failed in app.state.hooper.registry.failed] == []
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = {}
            for name, (path, item) in REQUESTS.items():
                response = await client.post(path, json={"model": name, "inputs": [item]})
                assert response.status_code == 200, response.text
                (answers[name],) = response.json()["results"]
                assert "error" not in answers[name]
    assert [label["label"] for label in answers["classes"]["labels"]] == ["good", "bad"]
    assert answers["rating"]["labels"] == [{"label": "stars", "score": pytest.approx(2.1767, abs=0.0001)}]
    assert answers["answers"]["answers"][0]["answer"] == "bad and good"
    assert "Very good." in str(answers["summary"])


def test_corrections_of_every_task_are_read_and_more_are_added(release: Path) -> None:
    path = release / "feedback.db"
    before = list(feedback.read(path))
    assert [correction.right for correction in before] == [
        {"label": "bad"}, {"label": "good"}, {"label": 4.5}, {"labels": ["good", "bad"]},
        {"answer": "good", "start": 13}, {"answer": "", "start": None}, {"sentences": ["Very good."]},
    ]  # fmt: skip
    assert before[1].agrees
    assert (before[1].source, before[1].comment) == ("support", "fine")
    with feedback.FeedbackFile(path, 1 << 20) as file:
        assert file.add(before[-1:]) == [8]
    assert len(list(feedback.read(path))) == 8
    assert feedback.remove(path, request_id="request-1") == 1


def test_corrections_of_every_task_are_counted_as_a_table(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hooper(["feedback", "--feedback", str(release / "feedback.db")]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("rating")] == [
        ["rating", "stars", "4.5", "1"]
    ]


def test_a_file_of_corrections_takes_those_of_a_task_that_came_later(release: Path) -> None:
    path = release / "feedback.db"
    before = list(feedback.read(path))
    later = replace(before[0], task="token-classification")
    with feedback.FeedbackFile(path, 1 << 20) as file:
        assert file.add([before[0], later]) == [8, 9]
        assert file.add([later]) == [10]
    assert [correction.task for correction in feedback.read(path)][7:] == [before[0].task, later.task, later.task]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):  # the other checks are still there
            connection.execute("UPDATE corrections SET version = 0")


def test_a_batch_that_was_killed_goes_on_where_it_stopped(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = release / "batch" / "reviews.csv", release / "batch" / "out.jsonl"
    os.utime(source, ns=(TIME_OF_INPUT_NS, TIME_OF_INPUT_NS))
    journal = target.with_name("out.jsonl.journal")
    written = journal.read_text(encoding="utf-8")
    journal.write_text(written.replace('"INPUT"', json.dumps(str(source.resolve()))), encoding="utf-8")
    before = target.with_name("out.jsonl.partial").read_text(encoding="utf-8").splitlines()[:8]
    models = str(release / "models")
    assert hooper(["batch", "--models", models, "--model", "classes", "--json", str(source), str(target)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["rows_before"]) == (12, 8)
    lines = target.read_text(encoding="utf-8").splitlines()
    assert lines[:8] == before
    assert [json.loads(line)["labels"][0]["label"] for line in lines] == ["good", "bad"] * 6
    assert not journal.exists()


@pytest.mark.slow
def test_a_training_that_was_stopped_is_resumed_and_published(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.train_and_export import main as train

    monkeypatch.chdir(release / "training")
    monkeypatch.setattr("sys.argv", ["hooper train"])
    assert train(["--recipe", "recipe.toml", "--resume"]) == 0, capsys.readouterr().err
    folder = Path("models/killed/1")
    assert json.loads((folder / "evaluation.json").read_text())["training"]["resumed_after_updates"] == 5
    assert read_manifest(folder).base_model == "tiny-bert"
