"""`hooper models measure`: a published version reads more, or less, and nothing else of it changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.core.artefact import open_artefact
from app.core.manifest import read_manifest
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from scripts.export.commands import measure
from scripts.export.published import open_version
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import MAX_TOKENS, NUM_POSITIONS, publish_tiny, publish_tiny_task


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "models")
    return tmp_path / "models"


def run(models: Path, model: str, max_tokens: int, *options: str) -> int:
    return measure([model, "--max-tokens", str(max_tokens), "--models", str(models), *options])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def test_a_version_reads_more_without_training(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = models / "tiny" / "1"
    before, content = read_manifest(folder), files(folder)
    assert run(models, "tiny/1", 128) == 0
    after = open_artefact(folder).manifest
    assert after.max_tokens == 128
    assert after.model_copy(update={"max_tokens": MAX_TOKENS, "engines": before.engines}) == before
    assert files(folder) == content
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    version = open_version("tiny", models)
    (encoded,) = version.task.encode([ClassificationItem("good " * 100)], ClassificationOptions(truncation="error"))
    assert encoded.num_tokens == 102
    said = capsys.readouterr().out
    assert "of up to 128 tokens, joined from" in said
    assert "built-in texts" in said
    assert "rows beside others are answered as alone" in said


def test_a_version_reads_less_too(models: Path) -> None:
    assert run(models, "tiny/1", 16) == 0
    assert read_manifest(models / "tiny" / "1").max_tokens == 16


def test_texts_of_the_model_s_own_kind_are_joined(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "dev.jsonl"
    data.write_text("".join(json.dumps({"text": text, "label": text}) + "\n" for text in ("good", "bad")), encoding="utf-8")
    assert run(models, "tiny/1", 64, "--data", str(data)) == 0
    assert "joined from 2 rows of dev.jsonl" in capsys.readouterr().out


def test_texts_of_invisible_characters_end_too(models: Path, tmp_path: Path) -> None:
    data = tmp_path / "held.txt"
    data.write_text("\u200d\n" * 12, encoding="utf-8")
    assert run(models, "tiny/1", 64, "--data", str(data)) == 0


@pytest.mark.parametrize("task", [pytest.param("question-answering", marks=pytest.mark.slow), "summarization"])
def test_every_task_can_be_measured(task: str, tmp_path: Path) -> None:
    folder = publish_tiny_task(tmp_path, task, "tiny")  # type: ignore[arg-type]
    assert run(tmp_path, "tiny/1", 64) == 0
    assert read_manifest(folder).max_tokens == 64


def test_more_than_there_are_positions_for_is_refused_with_the_number(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(models, "tiny/1", NUM_POSITIONS + 1) == 2
    assert f"has positions for {NUM_POSITIONS} tokens at most" in capsys.readouterr().err
    assert read_manifest(models / "tiny" / "1").max_tokens == MAX_TOKENS


def test_a_graph_that_cannot_read_so_much_is_refused_by_trying(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path, layout="padded")  # its positions are counted within the graph
    assert run(tmp_path, "tiny/1", NUM_POSITIONS + 1) == 2
    assert "cannot read so much" in capsys.readouterr().err


@pytest.mark.parametrize("max_tokens", [7, 8193, MAX_TOKENS])
def test_a_limit_that_cannot_be_or_is_already_is_refused(
    max_tokens: int, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models, "tiny/1", max_tokens) == 2
    assert str(max_tokens) in capsys.readouterr().err


def test_a_limit_under_which_golden_answers_change_is_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = models / "tiny" / "1"
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    text = "good " * 6 + "bad " * 20
    version = open_version("tiny", models)
    (encoded,) = version.task.encode([ClassificationItem(text)], ClassificationOptions())
    answer = version.task.decode(encoded, version.session.run_rows(encoded.rows), ClassificationOptions())
    labels = [{"label": label.label, "score": label.score} for label in answer.labels]
    golden.append({"item": {"text": text, "text_pair": None}, "answer": {"labels": labels}})
    (folder / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    sign_again(folder)
    assert run(models, "tiny/1", 8) == 2
    assert f"golden request {len(golden) - 1} is answered differently" in capsys.readouterr().err
    assert read_manifest(folder).max_tokens == MAX_TOKENS


def test_without_a_limit_agreements_are_measured_and_the_limit_stays(models: Path) -> None:
    assert measure(["tiny/1", "--models", str(models)]) == 0
    after = read_manifest(models / "tiny" / "1")
    assert after.max_tokens == MAX_TOKENS
    assert "bf16" in after.parity
