"""`hooper compare`: two versions on the same texts. The second calls good what the first calls bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.manifest import read_manifest
from app.tasks.text_classification.task import ClassificationItem
from scripts.report.compare_command import as_lines, main
from scripts.training.data import Dataset, Example
from scripts.training.trained_rows import keep
from tests.support.tiny_model import publish_tiny, publish_tiny_task
from tests.unit.scripts.conftest import write_news, write_squad

LABELLED = "text,label\ngood good good,good\na bad film,bad\nthe film was good .,bad\nvery bad,bad\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    publish_tiny(tmp_path / "models", version=1)
    publish_tiny(tmp_path / "models", version=2, labels=("good", "bad"))
    publish_tiny(tmp_path / "models", version=3)
    Path("dev.csv").write_text(LABELLED)
    return tmp_path


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_figures_agreement_and_speed_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "tiny/1", "tiny/2", "--data", "dev.csv")
    assert found["versions"] == ["tiny/1", "tiny/2"]
    assert [match["accuracy"] for match in found["figures"]] == [0.75, 0.25]
    assert (found["agreement"], found["num_differing"], found["rows"]) == (0.0, 4, 4)
    assert all(rate > 0 for rate in found["items_per_s"])
    assert found["right_alone"] == {"rows": [3, 1], "p_value": 0.625}


def test_the_surest_disagreements_come_first_and_not_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "tiny/1", "tiny/2", "--data", "dev.csv")
    sureness = [min(match["confidence"]) for match in found["differing"]]
    assert sureness == sorted(sureness, reverse=True)
    by_place = {match["where"]: match for match in found["differing"]}
    first = by_place["dev.csv:2"]
    assert (first["fields"], first["said"], first["right"]) == ({"text": "good good good"}, [["good"], ["bad"]], ["good"])
    (only,) = compared(capsys, "tiny/1", "tiny/2", "--data", "dev.csv", "--most", "1")["differing"]
    assert only == found["differing"][0]


def test_versions_that_answer_alike_agree(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "tiny/1", "./models/tiny/3", "--data", "dev.csv")
    assert (found["agreement"], found["differing"]) == (1.0, [])
    assert found["right_alone"] == {"rows": [0, 0], "p_value": 1.0}


@pytest.mark.parametrize("labelled", [True, False])
def test_texts_without_labels_tell_agreement_alone(labelled: bool, capsys: pytest.CaptureFixture[str]) -> None:
    Path("texts.txt").write_text("a good film\n\na bad film\n")
    found = compared(capsys, "tiny/1", "tiny/2", *(["--data", "texts.txt"] if labelled else []))
    assert found["figures"] == []
    assert "right_alone" not in found
    assert "right" not in found["differing"][0]
    assert found["published_figures"][0]["accuracy"] == 1.0
    assert ("texts.txt" if labelled else "built-in") in found["data"]


def test_a_person_reads_a_table_and_the_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny/1", "tiny", "--data", "dev.csv"]) == 0
    same = capsys.readouterr().out
    assert "Agreement: 100.00% of 4 texts." in same
    assert main(["tiny/1", "tiny/2", "--data", "dev.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["tiny/1", "tiny/2"]
    assert lines[3].split() == ["accuracy", "0.7500", "0.2500"]
    assert any(
        "Only tiny/1 is correct on 3, only tiny/2 is correct on 1: this may be chance (McNemar, p = 0.625)" in line
        for line in lines
    )
    assert "All texts on which the predictions differ, highest confidence first:" in lines
    assert any(line.startswith("dev.csv:2  tiny/1 good") and line.endswith("true: good") for line in lines)


def test_no_text_steers_the_terminal() -> None:
    one = {"where": "a:1", "fields": {"text": "\x1b[2J" + "x" * 500}, "said": [["a\x1b"], []], "confidence": [0.5, 0.0]}
    found = {
        "task": "t", "data": "d", "versions": ["a", "b"], "figures": [{}, {}], "items_per_s": [1, 1], "num_bytes": [1, 1],
        "agreement": 0.5, "rows": 2, "num_differing": 5, "differing": [one],
    }  # fmt: skip
    text = "\n".join(as_lines(found))
    assert "\x1b" not in text
    assert "1 of 5 texts" in text
    assert "b (nothing)" in text


@pytest.mark.parametrize("task", ["question-answering", "summarization"])
def test_the_other_tasks_are_compared_too(task: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        publish_tiny_task(Path("models"), task, name)
    data = write_squad(Path("a.json")) if task == "question-answering" else write_news(Path("a.jsonl"))
    found = compared(capsys, "one", "two", "--data", str(data))
    assert found["agreement"] == 1.0
    assert found["figures"][0] == found["figures"][1]
    assert ("right_alone" in found) == (task == "question-answering")


def test_several_labels_agree_when_all_of_them_do(capsys: pytest.CaptureFixture[str]) -> None:
    for name, labels in (("one", ("bad", "good")), ("two", ("good", "bad"))):
        publish_tiny(Path("models"), name, labels=labels, problem_type="multi_label_classification")
    Path("multi.jsonl").write_text(
        '{"text": "good good good", "label": ["good"]}\n{"text": "very bad bad", "label": ["bad"]}\n'
    )
    found = compared(capsys, "one", "two", "--data", "multi.jsonl")
    assert found["num_differing"] == 1  # of the other, both give both labels
    assert found["differing"][0]["said"][0] == found["differing"][0]["right"]


def test_a_version_with_one_label_more_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(Path("models"), "more", labels=("bad", "good", "new"))
    Path("dev.csv").write_text(LABELLED + "a film,new\n")
    found = compared(capsys, "tiny/1", "more", "--data", "dev.csv")
    assert found["rows"] == 5
    assert found["figures"][0]["accuracy"] == 0.6


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("nothing", "there is no model nothing"),
        ("qa", "tiny is for text-classification, qa for question-answering; only like can be compared with like"),
        ("multi", "they cannot be compared"),
        ("others", "each of them has labels that the other lacks: bad, up"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(other: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny_task(Path("models"), "question-answering", "qa")
    publish_tiny(Path("models"), "multi", problem_type="multi_label_classification")
    publish_tiny(Path("models"), "others", labels=("good", "up"))
    assert main(["tiny/1", other, "--data", "dev.csv"]) == 2
    as_lines = capsys.readouterr().err
    assert said in as_lines
    assert as_lines.count("\n") == 1


def test_rows_that_one_was_trained_on_are_counted_and_left_out_of_second_figures(capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(Path("models"), "other", labels=("good", "bad", "new"))
    rows = [Example(ClassificationItem(text), "good", "a.csv", "a.csv:2") for text in ("Good good good", "a bad film")]
    keep(Path("runs/tiny"), read_manifest(Path("models/tiny/1")), Dataset(rows, [], []))
    result = compared(capsys, "tiny/1", "other", "--data", "dev.csv")
    assert result["trained_on"] == [2, None]
    assert (result["rows"], result["rows_not_trained_on"]) == (4, 2)
    assert [entry["rows"] for entry in result["figures_not_trained_on"]] == [2, 2]
    assert result["difference"]["metric"] == "accuracy"
    assert result["difference"]["mean"] == pytest.approx(result["figures"][1]["accuracy"] - result["figures"][0]["accuracy"])
    assert main(["tiny/1", "other", "--data", "dev.csv"]) == 0
    text = capsys.readouterr().out
    assert "tiny/1 was trained on 2 of these texts" in text
    assert "Which of these texts other/1 was trained on is not known" in text
    assert "accuracy, rows not trained on" in text
    assert "95 % interval" in text
