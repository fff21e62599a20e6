"""`hooper models calibrate`: the same weights, and scores that are probabilities of being right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.core.artefact import open_artefact
from app.core.errors import InvalidSettings
from app.tasks.question_answering.task import QuestionItem
from scripts.export.calibrate import fit_calibration, publish_calibrated, with_scores
from scripts.export.commands import calibrate
from scripts.export.published import open_folder
from scripts.tasks.question_answering.answers import Gold
from scripts.training.data import Example
from scripts.training.recipe import Recipe
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import publish_tiny, publish_tiny_task


def rows(path: Path, count: int, wrong_every: int) -> str:
    """Texts whose label is the other one, now and then."""
    labels = ["good", "bad"]
    lines = [
        json.dumps({"text": f"{labels[n % 2]} film", "label": labels[(n + (n % wrong_every == 0)) % 2]}) for n in range(count)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def run(models: Path, *options: str, model: str = "tiny/1") -> int:
    return calibrate([model, "--models", str(models), *options])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "models")
    return tmp_path / "models"


def test_the_next_version_has_the_same_weights_and_scores_that_are_as_high_as_it_is_right(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows(tmp_path / "dev.jsonl", 210, 7)
    assert run(models, "--data", data) == 0
    said = capsys.readouterr().out
    assert "expected calibration error" in said
    assert "hooper models promote tiny/2" in said
    before, after = (open_artefact(models / "tiny" / number).manifest for number in "12")
    assert after.files["model.onnx"] == before.files["model.onnx"]
    assert after.parity == before.parity
    assert after.task_options == {**before.task_options, "temperature": after.task_options["temperature"]}
    assert json.loads((models / "tiny" / "serving.json").read_text())["version"] == 1
    version = open_folder(models / "tiny" / "2")
    (answer,) = version.answers([Example(version.training.item({"text": "good film"}), None, "", "")]).predictions.answers
    assert answer.labels[0].score == pytest.approx(6 / 7, abs=0.02)
    golden = json.loads((models / "tiny" / "2" / "golden.json").read_text())
    answers = version.answers([Example(version.training.item(entry["item"]), None, "", "") for entry in golden]).predictions
    for entry, encoded, outputs in zip(golden, answers.encoded, answers.outputs, strict=True):
        assert version.task.golden_difference(encoded, outputs, entry["answer"], 1e-6) == ""
    figures = json.loads((models / "tiny" / "2" / "evaluation.json").read_text())["calibration"]
    assert figures["temperature"] == after.task_options["temperature"]
    assert "## Scores" in (models / "tiny" / "2" / "README.md").read_text()


def test_what_was_fitted_before_does_not_matter(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(models, "--data", rows(tmp_path / "dev.jsonl", 210, 7)) == 0
    assert run(models, "--data", rows(tmp_path / "dev.jsonl", 210, 7), model="tiny/2") == 2
    assert "the scores of tiny/2 would stay what they are" in capsys.readouterr().err
    assert run(models, "--data", rows(tmp_path / "other.jsonl", 210, 3), model="tiny/2") == 0
    first, second = (open_artefact(models / "tiny" / number).manifest.task_options["temperature"] for number in "23")
    assert second > first
    assert (models / "tiny" / "3" / "README.md").read_text().count("Scores are calibrated") == 1


def test_answers_are_judged_as_they_are_before_any_scaling(tmp_path: Path) -> None:
    folder = publish_tiny_task(tmp_path, "question-answering", "qa")
    context = "bad film , good"
    golds = [(Gold(context, 0, 15),) if n % 3 else (Gold("film", 4, 8),) for n in range(120)]
    examples = [Example(QuestionItem("was it good", context), gold, "data", f"data:{n}") for n, gold in enumerate(golds)]
    errors = []
    for options in ({}, {"score_slope": 0.2, "temperature": 3.0, "no_answer_slope": 0.1}):
        sign_again(folder, task_options=options)
        version = open_folder(folder)
        arguments = version.session, version.tokenizer(), options
        found = fit_calibration(version.training, version.answers(examples).predictions, examples, *arguments)
        errors.append(found.metrics["expected_calibration_error_before"])
    assert errors[0] == errors[1] > 0


def test_what_cannot_be_fitted_is_said_and_nothing_is_published(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(models, "--data", rows(tmp_path / "dev.jsonl", 90, 7)) == 2
    captured = capsys.readouterr()
    assert "90 labelled rows were held out, 100 are wanted" in captured.out
    assert "would stay what they are" in captured.err
    (tmp_path / "texts.txt").write_text("good film\n", encoding="utf-8")
    assert run(models, "--data", str(tmp_path / "texts.txt")) == 2
    assert "these have none" in capsys.readouterr().err
    assert [path.name for path in (models / "tiny").iterdir()] == ["1"]


def test_models_whose_scores_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    folder = publish_tiny_task(tmp_path, "summarization", "summary")
    with pytest.raises(InvalidSettings, match="nothing is fitted to the scores of such models"):
        publish_calibrated(folder, Recipe(), tmp_path, lambda stage, text: None)


def test_the_section_takes_the_place_of_what_the_card_said_of_scores() -> None:
    old = "# m\n\n## Figures\n\nThey.\n\nScores are calibrated: the logits are divided.\n\n## Data\n\nRows.\n"
    new = with_scores(old, ["## Scores", "First."])
    assert new == "# m\n\n## Figures\n\nThey.\n\n## Scores\n\nFirst.\n\n## Data\n\nRows.\n"
    assert with_scores(new, ["## Scores", "Second."]) == new.replace("First", "Second")
