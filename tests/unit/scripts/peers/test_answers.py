"""The comparison finds the same answers where the code is right, and says so where it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.tasks.question_answering.task import Answer, Answers, QuestionAnswering
from scripts.peers.answers import difference_reason, main
from tests.support.tiny_model import publish_tiny_task

CONTEXT = "a bb c d-e"


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """Arguments: a tiny published model, and questions about short and long texts."""
    folder = publish_tiny_task(tmp_path, "question-answering", "qa")
    contexts = [
        "the film was bad , the film was good .",
        "a very bad and not good film",
        "a film . " * 12 + "bad films are not good .",
    ]
    rows = [{"question": "was it good ?", "context": context, "answer": "good"} for context in contexts]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [str(data), "--model", str(folder), "--output", str(tmp_path / "out" / "report.json")]


def report(arguments: list[str]) -> Any:
    return json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))


def test_both_give_the_same_answers(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked) == 0
    found = report(asked)
    assert (found["questions"], found["same_text"], found["reasons"], found["differences"]) == (3, 1.0, {}, [])
    assert found["figures"]["hooper"] == found["figures"]["pipeline"]
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize("more", [["--window", "24"], ["--paragraphs", "2"], ["--window", "20", "--paragraphs", "3"]])
def test_the_rule_written_twice_gives_the_same_answers_in_many_windows(asked: list[str], more: list[str]) -> None:
    main([*more, *asked])
    found = report(asked)
    assert found["windows_per_question"] > 1
    assert (found["questions"], found["reference"]["same_text"], found["reference"]["differences"]) == (3, 1.0, [])
    assert found["reference"]["largest_difference_of_scores"] < 1e-4


def test_a_wrong_answer_is_found_out(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    really = QuestionAnswering.decode

    def shifted(self: Any, *arguments: Any) -> Answers:
        answers = really(self, *arguments)
        first = answers.answers[0]
        return replace(answers, answers=[replace(first, answer=first.answer[1:], start=first.start + 1)])

    monkeypatch.setattr(QuestionAnswering, "decode", shifted)
    assert main(asked) == 1
    found = report(asked)
    assert found["same_text"] == found["reference"]["same_text"] == 0
    assert found["reasons"]["unexplained"] >= 1
    assert all("film" not in json.dumps(item["hooper"]) for item in found["differences"])  # no text of the data


def test_a_folder_without_a_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data.jsonl", "--model", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "theirs", "windows", "reason"),
    [
        (Answer("a b", 0.5, 0, 3), [Answer("a  b", 0.5, 0, 4)], 1, "whitespace"),
        (Answer("e\u0301", 0.5, 0, 2), [Answer("e", 0.5, 0, 1)], 1, "code points"),
        (
            Answer("a", 0.5, 0, 1),
            [Answer("b", 0.5, 4, 5), Answer("a", 0.4999, 0, 1)],
            1,
            "tie",
        ),
        (Answer("a", 0.5, 0, 1), [Answer("b", 0.9, 4, 5)], 3, "in every window"),
        (Answer("d-e", 0.5, 7, 10), [Answer("e", 0.5, 9, 10)], 1, "words of the text"),
        (Answer("a", 0.5, 0, 1), [Answer("a", 0.9, 0, 1)], 1, "asked for more"),
        (Answer("a", 0.5, 0, 1), [Answer("b", 0.9, 4, 5)], 1, "unexplained"),
    ],
)
def test_differences_have_reasons(ours: Answer, theirs: list[Answer], windows: int, reason: str) -> None:
    assert reason in difference_reason(CONTEXT, ours, theirs, windows)
