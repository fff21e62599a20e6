"""`hooper explain`: the service's own explanations in the shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.cli.formatting import as_bars
from app.data import Input
from tests.support.tiny_model import publish_tiny, publish_tiny_task


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_tiny(tmp_path, "tiny")
    publish_tiny_task(tmp_path, "question-answering", "answers")
    return tmp_path


def explain(capsys: pytest.CaptureFixture[str], models: Path, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    assert main(["explain", "--models", str(models), "--device", "cpu", *arguments]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_words_are_weighed_for_the_best_label_or_the_one_that_is_named(
    capsys: pytest.CaptureFixture[str], models: Path
) -> None:
    (best,) = explain(capsys, models, "--model", "tiny", "--text", "film good")
    assert best["target"] == "good"
    weights = {row["text"]: row["weight"] for row in best["tokens"]}
    assert weights["good"] > abs(weights["film"])
    (other,) = explain(capsys, models, "--model", "tiny", "--text", "film good", "--target", "bad", "--method", "occlusion")
    assert (other["target"], other["method"]) == ("bad", "occlusion")
    assert {row["text"]: row["weight"] for row in other["tokens"]}["good"] < 0


def test_files_are_read_and_a_bad_input_fails_alone(capsys: pytest.CaptureFixture[str], models: Path, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "film", "context": "a bad good film"}\n{"question": "film"}\n')
    found = explain(capsys, models, "--model", "answers", str(file), code=1)
    assert {row["field"] for row in found[0]["tokens"]} == {"question", "context"}
    assert "context" in found[1]["error"]["detail"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--budget", "-1"], "--budget"), (["--method", "magic"], "--method"), (["--top-k", "1"], "--top-k")],
)
def test_a_wrong_option_is_named(capsys: pytest.CaptureFixture[str], models: Path, arguments: list[str], said: str) -> None:
    assert main(["explain", "--models", str(models), "--model", "tiny", "--text", "good", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_person_sees_the_heaviest_words_first_with_bars_in_their_direction() -> None:
    tokens = [{"text": f"w{index}", "weight": weight} for index, weight in enumerate([0.5, -2.0, 4.0, *[0.01] * 12])]
    lines = list(as_bars(80, Input("-", 1, {}), {"score": 0.9, "target": "good", "tokens": tokens}))
    assert lines[0].split() == ["1", "0.900", "good"]
    assert lines[1].split() == ["+4.00", "w2", ">" * 20]
    assert lines[2].split() == ["-2.00", "w1", "<" * 10]
    assert lines[-1].strip() == "and 3 lighter words (--json tells all)"
    (failed,) = as_bars(80, Input("-", 7, {}), {"error": {"detail": "text: must not be empty"}})
    assert failed.split()[:2] == ["7", "error"]
