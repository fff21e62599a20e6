"""`hooper feedback` and what it groups: counts, rows for training, the next texts to label, and forgetting."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.core.feedback import read
from tests.support.corrections import CORRECTION, labelled, write_feedback
from tests.support.tiny_model import publish_tiny, publish_tiny_task

ANSWERED = replace(
    CORRECTION,
    model="qa",
    task="question-answering",
    item={"question": "q", "context": "a b"},
    right={"answer": "b", "start": 2},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    kept = [labelled("one", "bad"), labelled("two", "good"), labelled("three", "bad"), labelled("one", "good"), ANSWERED]
    return write_feedback(tmp_path / "feedback.db", kept)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "models", "tiny")
    for task in ("question-answering", "summarization"):
        publish_tiny_task(tmp_path / "models", task, task)  # type: ignore[arg-type]
    return tmp_path / "models"


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    assert main(["feedback", *map(str, arguments)]) == code
    told = capsys.readouterr()
    return told.out, told.err


def test_a_person_sees_what_was_taken_for_what(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    out, _ = run(capsys, "--feedback", path)
    assert [line.split() for line in out.splitlines()] == [
        ["qa", "(as", "answered)", "(other)", "1"],
        ["tiny", "good", "bad", "2"],
        ["tiny", "good", "good", "2"],
    ]


def test_a_program_gets_the_same_of_one_model(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    out, _ = run(capsys, "--json", "--model", "tiny", "--feedback", path)
    assert json.loads(out)[0] == {"model": "tiny", "answered": "good", "right": "bad", "agrees": False, "count": 2}


def test_the_settings_name_the_file(capsys: pytest.CaptureFixture[str], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HOOPER_FEEDBACK" in run(capsys, code=2)[1]
    monkeypatch.setenv("HOOPER_FEEDBACK", str(path))
    assert "tiny" in run(capsys)[0]


def test_the_last_correction_of_each_text_is_exported_and_the_others_are_told(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "rows.jsonl"
    out, err = run(capsys, "export", target, "--model", "tiny", "--feedback", path)
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"text": "two", "label": "good"}, {"text": "three", "label": "bad"}, {"text": "one", "label": "good"}]
    assert out.startswith("3 rows")
    assert "1 earlier ones are left out, and 1 items had conflicting corrections" in err
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_an_export_replaces_no_file_that_it_was_not_told_to(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "rows.jsonl"
    target.write_text("mine", encoding="utf-8")
    assert "exists" in run(capsys, "export", target, "--model", "tiny", "--feedback", path, code=2)[1]
    assert "several models, qa (1), tiny (4)" in run(capsys, "export", target, "--force", "--feedback", path, code=2)[1]
    assert "no corrections of 'x'" in run(capsys, "export", target, "--force", "--model", "x", "--feedback", path, code=2)[1]
    assert target.read_text(encoding="utf-8") == "mine"
    run(capsys, "export", target, "--force", "--model", "qa", "--feedback", path)
    assert json.loads(target.read_text(encoding="utf-8"))["answers"] == {"text": ["b"], "answer_start": [2]}


def test_a_place_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "rows.jsonl"
    assert "cannot be written" in run(capsys, "export", target, "--model", "qa", "--feedback", path, code=2)[1]


def test_everything_can_be_exported_with_where_it_came_from(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    run(capsys, "export", tmp_path / "all.jsonl", "--all", "--feedback", path)
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 5
    assert rows[0]["request_id"] == "request-1"
    assert rows[0]["predicted"]["labels"][0] == {"label": "good", "score": 0.9}


def test_what_is_removed_must_be_said(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    assert "say what is to be removed" in run(capsys, "remove", "--feedback", path, code=2)[1]
    assert "say what" in run(capsys, "remove", "--everything", "--model", "qa", "--feedback", path, code=2)[1]
    assert "no day" in run(capsys, "remove", "--before", "tomorrow", "--feedback", path, code=2)[1]
    assert run(capsys, "remove", "--model", "qa", "--feedback", path)[0] == "removed 1 corrections\n"
    assert run(capsys, "remove", "--before", "2026-01-01", "--feedback", path)[0] == "removed 0 corrections\n"
    assert run(capsys, "remove", "--before", "2026-01-02", "--feedback", path)[0] == "removed 4 corrections\n"
    assert list(read(path)) == []


def following(
    capsys: pytest.CaptureFixture[str], models: Path, *arguments: object, code: int = 0
) -> tuple[list[dict[str, Any]], str]:
    out, err = run(capsys, "next", "--models", models, "--device", "cpu", *arguments, code=code)
    return [json.loads(line) for line in out.splitlines()], err


def test_the_texts_that_the_model_is_least_sure_of_come_first_with_a_label_to_fill_in(
    capsys: pytest.CaptureFixture[str], models: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("good film\nbad film\nbad good film\ngood bad film!\nfilm\n", encoding="utf-8")
    found, err = following(capsys, models, "--model", "tiny", file, "--count", 2)
    assert len(found) == 2
    assert list(found[0]) == ["text", "label", "predicted", "score", "uncertainty", "line"]
    assert found[0]["label"] is None
    assert found[0]["uncertainty"] >= found[1]["uncertainty"]
    assert not {"good film", "bad film"} & {row["text"] for row in found}
    assert len({frozenset(row["text"].strip("!").split()) for row in found}) == 2
    assert err == ""


def test_what_was_corrected_already_and_what_cannot_be_read_is_passed_over(
    capsys: pytest.CaptureFixture[str], models: Path, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "one"}\n{"text": "film", "id": 7}\n{"text": ""}\n', encoding="utf-8")
    found, err = following(capsys, models, "--model", "tiny", "--feedback", path, file, code=1)
    assert [(row["text"], row["id"]) for row in found] == [("film", 7)]
    assert "1 of 2 texts could not be answered, and 1 were corrected already" in err


def test_questions_are_listed_too_and_summaries_are_not(
    capsys: pytest.CaptureFixture[str], models: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("bad good film\nfilm\n", encoding="utf-8")
    found, _ = following(capsys, models, "--model", "question-answering", "--question", "good?", "--by", "entropy", file)
    assert {row["context"] for row in found} == {"bad good film", "film"}
    assert all(row["answer"] is None for row in found)
    assert "how sure" in following(capsys, models, "--model", "summarization", file, code=2)[1]
    assert "at least 1" in following(capsys, models, "--model", "tiny", "--count", 0, file, code=2)[1]


def test_a_multi_label_model_suggests_every_label_that_holds(
    capsys: pytest.CaptureFixture[str], models: Path, tmp_path: Path
) -> None:
    publish_tiny(models, "topics", problem_type="multi_label_classification")
    file = tmp_path / "texts.txt"
    file.write_text("good\n", encoding="utf-8")
    (found,), _ = following(capsys, models, "--model", "topics", file)
    assert isinstance(found["predicted"], list)
