"""A version appears whole or not at all, under the next number, and nothing that was published is touched."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core import artefact as core_artefact
from app.core.errors import InvalidSettings, SetupError
from app.core.manifest import DriftReference, EngineTrial, Parity, read_manifest, verify_files
from app.tasks.text_classification.task import ClassificationItem
from scripts.export import publish as module
from scripts.export.publish import VersionContents, golden_answers, publish
from scripts.export.verified_graph import VerifiedGraph
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.evaluation import Predictions
from tests.support.tiny_model import tiny_tokenizer, tokenizer_json

OPTIONS = {"labels": ["a", "b", "c"], "problem_type": "single_label_classification"}
EVALUATION = {"headline": {"accuracy": 0.9, "rows": 10}, "per_class": {"ä": {"f1": 0.9}}}

REFERENCE = DriftReference(num_items=10, tokens_per_item=4.5, confidence=0.8, label_shares={"a": 1.0})


@pytest.fixture
def artefact(export: Any) -> VersionContents:
    exported, parity = export("Bert"), Parity(rows=10, agreement=1.0, max_abs_error=1e-6, passed=True)
    return VersionContents(
        name="films",
        task="text-classification",
        description="Whether a film was good.",
        license="MIT",
        base_model="tiny-bert",
        max_tokens=32,
        tokenizer=tokenizer_json(),
        task_options=OPTIONS,
        verified=VerifiedGraph(
            exported.file,
            exported.graph.model_copy(update={"file": "quantized.onnx"}),
            {"fp32": parity},
            parity,
            Predictions([], [], []),
            engines={"openvino": EngineTrial(runs=False, reason="no kernel")},
        ),
        evaluation=EVALUATION,
        golden=[{"item": {"text": "a film"}, "answer": {"labels": []}}],
        card="# films\n",
        reference=REFERENCE,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_published_folder_is_whole_and_checksummed(artefact: VersionContents, tmp_path: Path) -> None:
    folder = publish(artefact, tmp_path / "models")
    assert folder == tmp_path / "models" / "films" / "1"
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert {path.name for path in folder.iterdir()} == {*manifest.files, "manifest.json"}
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "golden.json", "evaluation.json", "README.md"}
    assert (manifest.version, manifest.graph.file, manifest.evaluation) == (1, "model.onnx", EVALUATION["headline"])
    assert json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) == EVALUATION
    assert manifest.created.endswith("+00:00")
    assert manifest.reference == REFERENCE
    assert manifest.engines["openvino"].reason == "no kernel"


def test_others_than_its_maker_may_read_it(artefact: VersionContents, tmp_path: Path) -> None:
    folder = publish(artefact, tmp_path)
    assert folder.stat().st_mode & 0o055 == 0o055


def test_versions_count_up_over_gaps_and_leave_the_others_alone(artefact: VersionContents, tmp_path: Path) -> None:
    first = publish(artefact, tmp_path)
    (tmp_path / "films" / "9").mkdir()
    (tmp_path / "films" / "notes").mkdir()
    before = contents(first)
    assert publish(replace(artefact, card="# other\n"), tmp_path).name == "10"
    assert contents(first) == before
    assert not list((tmp_path / "films" / "9").iterdir())


def test_versions_carry_since_when_their_name_is_published_and_the_latest_serves(
    artefact: VersionContents, tmp_path: Path
) -> None:
    first, second = (read_manifest(publish(artefact, tmp_path)) for _ in range(2))
    assert first.first_published == second.first_published != ""
    assert json.loads((tmp_path / "films" / "serving.json").read_text())["version"] == second.version == 2
    other = read_manifest(publish(replace(artefact, name="aardvark"), tmp_path))
    assert other.first_published >= first.first_published


def test_the_tokenizer_is_published_without_padding_and_truncation(artefact: VersionContents, tmp_path: Path) -> None:
    definition = json.loads(artefact.tokenizer)
    definition["truncation"] = {"max_length": 128, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    definition["padding"] = {"strategy": {"Fixed": 128}}
    folder = publish(replace(artefact, tokenizer=json.dumps(definition)), tmp_path)
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert (written["padding"], written["truncation"]) == (None, None)
    assert written["model"] == definition["model"]


@pytest.mark.parametrize(
    ("place", "step"),
    [(module, "_write_files"), (core_artefact, "verify_files"), (core_artefact, "describe_file"), (core_artefact, "sync")],
)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_nothing(
    place: Any, step: str, error: BaseException, artefact: VersionContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = getattr(place, step)

    def fail(*arguments: Any) -> None:
        before(*arguments)
        raise error

    monkeypatch.setattr(place, step, fail)
    with pytest.raises((SetupError, KeyboardInterrupt)):
        publish(artefact, tmp_path / "models")
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_earlier_versions_alone(
    artefact: VersionContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(artefact, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(SetupError, match="No such file"):
        publish(replace(artefact, verified=replace(artefact.verified, file=tmp_path / "missing.onnx")), tmp_path)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == ["1", "serving.json"]


def test_a_full_disk_is_one_sentence(artefact: VersionContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SetupError, match=r"films cannot be written: No space left on device$"):
        publish(artefact, tmp_path)


def test_a_repository_that_is_a_file_is_one_sentence(artefact: VersionContents, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(SetupError, match=r"films cannot be written: "):
        publish(artefact, tmp_path / "models")


def test_a_version_that_appears_meanwhile_is_not_replaced(
    artefact: VersionContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files = module._write_files

    def slow(folder: Path, *arguments: Any) -> None:
        write_files(folder, *arguments)
        (tmp_path / "films" / "1").mkdir()

    monkeypatch.setattr(module, "_write_files", slow)
    with pytest.raises(SetupError, match="appeared while"):
        publish(artefact, tmp_path)
    assert [path.name for path in (tmp_path / "films").iterdir()] == ["1"]
    assert not list((tmp_path / "films" / "1").iterdir())


@pytest.mark.parametrize("name", ["", "Films", "../films", ".films", "films/1", "f" * 65])
def test_a_name_that_is_no_folder_name_is_refused(name: str, artefact: VersionContents, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot be a model's name"):
        publish(replace(artefact, name=name), tmp_path)
    assert not list(tmp_path.iterdir())


def test_golden_answers_are_the_graph_s_own_as_json(export: Any) -> None:
    training = TextClassificationTraining()
    task = training.serving_task(tiny_tokenizer(), OPTIONS)
    session = export("Bert").session()
    (golden,) = golden_answers(training, task, [{"text": "a good film"}], session)
    assert golden["item"] == {"text": "a good film"}
    (encoded,) = task.encode([ClassificationItem("a good film")], training.serving_options())
    answer = task.decode(encoded, session.run_rows(encoded.rows), training.serving_options())
    assert json.loads(json.dumps(golden["answer"])) == {
        "labels": [{"label": label.label, "score": pytest.approx(label.score)} for label in answer.labels]
    }


def test_a_golden_request_that_cannot_be_answered_is_named(export: Any) -> None:
    training = TextClassificationTraining()
    task = training.serving_task(tiny_tokenizer(), OPTIONS)
    with pytest.raises(InvalidSettings, match="golden request"):
        golden_answers(training, task, [{"text": " "}], export("Bert").session())
