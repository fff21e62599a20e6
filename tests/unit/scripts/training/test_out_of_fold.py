"""`hooper train --folds`: a report on every row, each judged by a model that did not see it, and nothing published."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.core.manifest import read_manifest
from scripts.export.formatting import say
from scripts.train_and_export import main
from scripts.training import out_of_fold, pipeline
from scripts.training.data import read_all
from scripts.training.out_of_fold import cross_validate, cut_rows
from scripts.training.pipeline import Pipeline
from scripts.training.pretrained import find_start
from scripts.training.recipe import Recipe
from scripts.training.run_folder import Interrupted
from tests.contracts.test_every_task_trained import write_ranked, write_ratings, write_tags
from tests.support.corrections import labelled, write_feedback
from tests.support.tiny_model import publish_tiny
from tests.unit.scripts.conftest import Train, fast_options, write_news, write_reviews, write_squad


@dataclass(frozen=True)
class Validated:
    """What one run left and said."""

    run: Path
    report: dict[str, Any]
    printed: str


@pytest.fixture(scope="module")
def validated(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Validated:
    """Two folds of reviews, for the tests that only look at the result."""
    printed = io.StringIO()
    with contextlib.chdir(tmp_path_factory.mktemp("folds")), contextlib.redirect_stdout(printed):
        write_reviews(Path("reviews.csv"), 60, ["the film was very good 98,negative"])
        words = [*fast_options(base_folder), "--epochs", "8", "--head", "random", "--learning-rate", "0.01"]
        assert main(["reviews.csv", *words, "--folds", "2"]) == 0
        run = Path("runs/reviews").resolve()
    report = json.loads((run / "cross-validation.json").read_text(encoding="utf-8"))
    return Validated(run, report, printed.getvalue())


def test_every_row_is_judged_and_the_folds_add_up_to_all_of_them(validated: Validated) -> None:
    folds = validated.report["cross_validation"]["folds"]
    assert [fold["headline"]["rows"] + fold["trained_on"] for fold in folds] == [61, 61]
    assert sum(fold["headline"]["rows"] for fold in folds) == validated.report["headline"]["rows"] == 61
    right = sum(fold["headline"]["accuracy"] * fold["headline"]["rows"] for fold in folds)
    assert validated.report["headline"]["accuracy"] == pytest.approx(right / 61, abs=1e-3)
    assert sum(entry["rows"] for entry in validated.report["per_class"].values()) == 61
    accuracies = [fold["headline"]["accuracy"] for fold in folds]
    assert validated.report["cross_validation"]["mean"]["accuracy"] == pytest.approx(sum(accuracies) / 2, abs=1e-4)


def test_likely_label_errors_are_looked_for_in_every_row_and_answers_stay_with_their_rows(validated: Validated) -> None:
    lines = (validated.run.parent.parent / "reviews.csv").read_text(encoding="utf-8").splitlines()
    suspects = validated.report["suspects"]
    assert suspects
    for suspect in (*suspects, *validated.report["worst"]):
        text, _, label = lines[int(suspect["where"].rpartition(":")[2]) - 1].rpartition(",")
        assert suspect["fields"]["text"] == text
        assert suspect.get("given", suspect.get("right", [""])[0]) == label
    first = suspects[0]
    assert f"first {first['where']}: '{first['given']}' is given, '{first['likely']}' is likely" in validated.printed
    assert len(validated.report["worst"]) == min(20, round(61 * (1 - validated.report["headline"]["accuracy"])))


def test_the_terminal_has_a_line_for_each_fold_and_a_table(validated: Validated) -> None:
    lines = validated.printed.splitlines()
    assert len([line for line in lines if line.startswith("fold       1 of 2: accuracy")]) == 1
    head = next(line for line in lines if line.split()[:2] == ["accuracy", "macro"])
    table = lines[lines.index(head) : lines.index("", lines.index(head))]
    assert [line.split()[0] for line in table[1:]] == ["fold", "fold", "mean", "all"]
    assert "±" in table[3]
    assert any(line.split() == ["label", "precision", "recall", "F1", "rows"] for line in lines)
    assert "updates in" not in validated.printed  # nor anything else of one model's training


def test_no_model_is_kept_and_none_is_published(validated: Validated) -> None:
    assert sorted(path.name for path in validated.run.iterdir()) == ["cross-validation.html", "cross-validation.json"]
    assert not (validated.run.parent.parent / "models").exists()


def test_the_page_has_the_folds_and_links_to_them(validated: Validated) -> None:
    page = (validated.run / "cross-validation.html").read_text(encoding="utf-8")
    assert '<section id="folds">' in page
    assert "61 rows in 2 folds, each row by a model that did not see it" in page
    assert "these words" not in page  # no model is left that could say which


def test_baselines_learn_and_are_judged_on_the_same_folds(validated: Validated) -> None:
    baselines = validated.report["baselines"]
    assert list(baselines) == ["majority class", "TF-IDF + logistic regression"]
    assert baselines["TF-IDF + logistic regression"]["difference"]["rows"] == 61


def test_a_dry_run_tells_the_sizes_of_the_folds(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--folds", "4", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "load       60 rows to judge in 4 folds\n" in printed
    assert printed.count("45 rows to train on, 15 to judge") == 4
    assert "no row in the validation set" not in printed
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--folds", "1"], "--folds is 1; at least 2 are needed"),
        (["--folds", "5", "--resume"], "--folds begins anew and publishes nothing: leave out --resume"),
        (["--folds", "5", "--find-learning-rate"], "leave out --find-learning-rate"),
        (["--folds", "99"], "60 rows cannot be cut into 99 folds"),
    ],
)
def test_what_has_no_folds_is_refused_in_a_sentence(
    words: list[str], sentence: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*words) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_several_processes_would_each_train_every_fold(monkeypatch: pytest.MonkeyPatch, reviews: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    recipe = Recipe(name="a", data=[str(reviews)], runs=str(tmp_path))
    with pytest.raises(InvalidSettings, match="trains in one process"):
        cut_rows(Pipeline(recipe, None, say), read_all(recipe), 2)


def test_a_version_that_may_have_learnt_the_rows_is_no_beginning(reviews: Path, base_folder: Path, tmp_path: Path) -> None:
    line = Pipeline(Recipe(name="a", data=[str(reviews)], runs=str(tmp_path / "runs")), None, say)
    start = find_start(str(base_folder))
    published = read_manifest(publish_tiny(tmp_path / "models"))
    known = replace(start, base=replace(start.base, name="tiny/1", version=published))
    with pytest.raises(InvalidSettings, match="tiny/1 was trained before, perhaps on these; name a base model that was not"):
        cross_validate(line, *cut_rows(line, read_all(line.recipe), 2), known)
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_keeps_nothing_and_says_how_to_begin_again(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise Interrupted(None)

    monkeypatch.setattr(pipeline, "fine_tune", interrupted)
    assert train("--folds", "2") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("hooper train: stopped; nothing is kept of the folds; start again with: hooper train reviews.csv")
    assert "--resume" not in last
    assert list(Path("runs/reviews").iterdir()) == []


def test_rows_that_the_recipe_holds_out_stay_unseen(reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe(name="a", data=[str(reviews)], split=0.8, runs=str(tmp_path))
    prepared, folds = cut_rows(Pipeline(recipe, None, say), read_all(recipe), 3)
    unseen = {entry.item.text for entry in prepared.dataset.validation}
    assert (len(unseen), len(folds.judged)) == (12, 48)
    assert not unseen & {entry.item.text for entry in folds.examples}
    assert "48 rows to judge in 3 folds; 12 rows that the recipe holds out stay unseen" in capsys.readouterr().out


def test_corrections_are_trained_on_and_judged_in_no_fold(reviews: Path, tmp_path: Path) -> None:
    first = reviews.read_text(encoding="utf-8").splitlines()[1].rpartition(",")[0]
    feedback = write_feedback(tmp_path / "feedback.db", [labelled(first, "neutral"), labelled("a film", "neutral")])
    recipe = Recipe(name="tiny", data=[str(reviews)], from_feedback=[str(feedback)], runs=str(tmp_path))
    prepared, folds = cut_rows(Pipeline(recipe, None, say), read_all(recipe), 3)
    assert prepared.task_options["labels"] == ["negative", "neutral", "positive"]
    assert len(folds.judged) == 60
    assert {entry.target for entry in folds.judged} == {"negative", "positive"}
    assert sorted(folds.dataset(number).num_corrections for number in range(3)) == [1, 2, 2]
    assert any("2 corrections are trained on, and judged in no fold" in note for note in prepared.notes)


def test_rows_whose_label_corrections_leave_no_row_of_are_left_out(tmp_path: Path) -> None:
    data = tmp_path / "reviews.csv"
    write_reviews(data, 20, ["a very odd film,odd"])
    feedback = write_feedback(tmp_path / "feedback.db", [labelled("a very odd film", "positive")])
    recipe = Recipe(name="tiny", data=[str(data)], from_feedback=[str(feedback)], runs=str(tmp_path))
    prepared, folds = cut_rows(Pipeline(recipe, None, say), read_all(recipe), 2)
    assert (len(folds.judged), prepared.task_options["labels"]) == (20, ["negative", "positive"])
    assert "1 rows are left out: corrections replace all rows of their label" in prepared.notes


def test_questions_that_the_task_adds_are_made_anew_for_each_fold_and_never_judged(tmp_path: Path) -> None:
    data = tmp_path / "questions.jsonl"
    rows = [
        {
            "question": f"who came to town {number} ?",
            "context": f"guest{number} came to town {number}",
            "answer": f"guest{number}",
        }
        for number in range(60)
    ]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    recipe = Recipe(name="a", task="question-answering", data=[str(data)], no_answer_share=0.5, runs=str(tmp_path))
    line = Pipeline(recipe, None, say)
    prepared, folds = cut_rows(line, read_all(recipe), 2)
    assert (prepared.num_added, len(folds.judged)) == (30, 60)
    part = line.training.prepared_again(prepared, folds.dataset(0), recipe)
    added = part.dataset.train[-part.num_added :]
    assert part.num_added == 15
    assert all(not entry.target for entry in added)
    assert not {entry.item.context for entry in added} & {entry.item.context for entry in part.dataset.validation}
    assert all(entry.target for entry in (*part.written, *part.dataset.validation))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "write"),
    [
        ("text-regression", "data.csv", write_ratings),
        ("question-answering", "data.json", write_squad),
        ("summarization", "data.jsonl", write_news),
        ("token-classification", "data.conll", write_tags),
        ("text-ranking", "data.jsonl", write_ranked),
    ],
)
def test_every_other_task_has_folds_too(
    task: str,
    name: str,
    write: Callable[[Path], Path],
    base_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write(Path(name))
    words = ["--task", task, "--name", "folded", *fast_options(base_folder), "--folds", "2"]
    assert main([str(data), *words]) == 0
    report = json.loads(Path("runs/folded/cross-validation.json").read_text(encoding="utf-8"))
    validated = report["cross_validation"]
    assert sum(fold["headline"]["rows"] for fold in validated["folds"]) == report["headline"]["rows"]
    assert validated["mean"].keys() == validated["standard_deviation"].keys() != set()
    assert not [key for key in validated["mean"] if key.startswith(("lead3_", "oracle_")) or key in ("rows", "queries")]
    assert "mean" in capsys.readouterr().out


def test_the_deviation_of_percentages_has_their_digits() -> None:
    headline = {"f1": 81.25, "rows": 3}
    summary = {"folds": [{"headline": headline}] * 2, "mean": {"f1": 81.25}, "standard_deviation": {"f1": 0.5}}
    (table,) = out_of_fold.tables({"cross_validation": summary, "headline": {"f1": 80.0, "rows": 6}})
    assert table[3] == ["mean", "81.25 ± 0.50", ""]
