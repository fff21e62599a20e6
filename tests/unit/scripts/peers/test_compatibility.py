"""The table of compatibility says what came of each checkpoint, and a crash or a difference is not passed over."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.bench import report
from scripts.peers import compatibility
from scripts.peers.compatibility import CheckpointOutcome, main, table
from tests.unit.scripts.conftest import Save


@pytest.mark.slow  # a figure of the documents, and what publishes them is tested beside scripts/export
def test_each_checkpoint_is_published_or_refused_and_compared(
    save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("zoo/bert-seq")
    tokenizer = save("zoo/gpt2-qa", family="GPT2", head="QuestionAnswering") / "tokenizer_config.json"
    names = {"model_input_names": ["input_ids", "attention_mask"]}  # GPT-2 would take token types for words
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | names))
    save("zoo/convbert-seq", family="ConvBert")
    page, record = tmp_path / "page.md", tmp_path / "record.json"
    page.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    assert main([str(tmp_path / "zoo"), "--output", str(page), "--json", str(record)]) == 0
    assert "3 checkpoints: 2 published, 1 not, 0 wrongly" in capsys.readouterr().out
    found = {f"{outcome['kind']}-{outcome['use']}": outcome for outcome in json.loads(record.read_text())}
    assert {name: outcome["layout"] for name, outcome in found.items()} == {
        "bert-seq": "packed",
        "convbert-seq": "",
        "gpt2-qa": "padded",
    }
    assert all(0 <= found[name]["max_error"] < 1e-4 for name in ("bert-seq", "gpt2-qa"))
    assert found["convbert-seq"]["refusal"].startswith("ConvBertForSequenceClassification (convbert) cannot be served")
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| convbert | refused (1) |" in text
    assert "\n1. ConvBertForSequenceClassification" in text


def test_what_an_earlier_run_found_of_other_checkpoints_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, record = tmp_path / "page.md", tmp_path / "record.json"
    for name in ("a-seq", "a-emb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    measured = {
        "a-seq": CheckpointOutcome("a", "seq", "A", "packed", 1e-6),
        "a-emb": CheckpointOutcome("a", "emb", "A", "padded", 2e-6),
    }
    monkeypatch.setattr(compatibility, "measure", lambda folder: measured[folder.name])
    assert main([str(tmp_path), "--json", str(record)]) == 0
    (tmp_path / "a-seq" / "config.json").unlink()
    monkeypatch.setitem(measured, "a-emb", CheckpointOutcome("a", "emb", "A", "packed", 3e-6))
    assert main([str(tmp_path), "--json", str(record), "--output", str(page)]) == 0
    assert "| a | packed 1e-06 | packed 3e-06 |" in page.read_text()


def test_a_process_that_dies_is_a_crash_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a-seq", "b-seq"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")

    def measured(folder: Path) -> CheckpointOutcome:
        if folder.name == "a-seq":
            os.kill(os.getpid(), signal.SIGKILL)
        return CheckpointOutcome("b", "seq", "B", "packed", 1e-6)

    monkeypatch.setattr(compatibility, "measure", measured)
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "CRASH: its process ended with exit code -9" in said
    assert "2 checkpoints: 1 published, 1 not, 1 wrongly" in said


def test_a_difference_beyond_the_promise_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a-seq").mkdir()
    (tmp_path / "a-seq" / "config.json").write_text("{}")
    monkeypatch.setattr(compatibility, "measure", lambda folder: CheckpointOutcome("a", "seq", "A", "padded", 2e-4))
    assert main([str(tmp_path)]) == 1


def test_the_table_has_a_line_per_kind_and_a_reason_once() -> None:
    refused = CheckpointOutcome("fnet", "seq", refusal="padding reaches it")
    outcomes = [
        CheckpointOutcome("bert", "seq", "B", "packed", 9.5e-7, engines={"openvino": "runs, 1.0e-06"}),
        CheckpointOutcome("bert", "qa", "B", "padded", 2e-6),
        refused,
        replace(refused, use="qa"),
    ]
    assert table(outcomes).splitlines() == [
        "| kind | seq | qa | other engines |",
        "|---|---|---|---|",
        "| bert | packed 1e-06 | padded 2e-06 | openvino runs |",
        "| fnet | refused (1) | refused (1) |  |",
        "",
        "1. padding reaches it",
    ]


def test_a_page_that_is_not_there_becomes_the_table(tmp_path: Path) -> None:
    report.write_between_marks(tmp_path / "new.md", table([CheckpointOutcome("bert", "seq", "B", "packed", 1e-6)]))
    assert "| bert | packed 1e-06 |" in (tmp_path / "new.md").read_text()
