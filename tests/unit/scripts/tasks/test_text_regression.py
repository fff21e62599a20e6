"""A number for each text: read, learnt at mean 0 and deviation 1, and answered in the data's own unit."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from app.core.errors import InvalidSettings
from app.core.manifest import read_manifest
from app.tasks.text_classification.task import (
    Classification,
    ClassificationItem,
    ClassificationOptions,
    LabelScore,
)
from app.tasks.text_regression import TextRegression
from scripts.export.published import open_version
from scripts.tasks import text_classification
from scripts.tasks.spec import Prepared
from scripts.tasks.text_regression import SPEC as TASK
from scripts.tasks.text_regression import number
from scripts.training.columns import with_task
from scripts.training.data import Example
from scripts.training.pipeline import Pipeline
from scripts.training.recipe import AUTO, Recipe
from scripts.training.records import read_records
from tests.support.tiny_model import tiny_tokenizer


def write(path: Path, values: list[Any], header: str = "text,score") -> str:
    path.write_text("\n".join([header, *(f"{'very ' * (n % 7)}good film {n},{value}" for n, value in enumerate(values))]))
    return str(path)


def prepare(source: str, **keys: Any) -> Prepared:
    recipe = Recipe(data=[source], task="text-regression", **keys)
    return TASK.prepare(recipe, {source: read_records(source)})


def answer(value: float) -> Classification:
    return Classification([LabelScore("score", value)])


def example(value: float, source: str = "a") -> Example:
    return Example(ClassificationItem("x"), value, source, "a:1")


def test_numbers_are_learnt_at_mean_0_and_deviation_1_whatever_their_unit(tmp_path: Path) -> None:
    prepared = prepare(write(tmp_path / "a.csv", [1000 + 500 * (n % 5) for n in range(50)]))
    rows = TASK.training_rows(prepared.dataset.train, tiny_tokenizer(), prepared.task_options)
    labels = TASK.labels(rows, 8)
    assert labels.dtype == np.float32
    assert (labels.mean(), labels.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    serving = TASK.serving_task(tiny_tokenizer(), prepared.task_options)
    (encoded,) = serving.encode([prepared.dataset.train[0].item], ClassificationOptions())
    told = serving.decode(encoded, [{"logits": np.array([rows[0].label], np.float32)}], ClassificationOptions())  # type: ignore[arg-type]
    assert told.labels[0].score == pytest.approx(prepared.dataset.train[0].target, rel=1e-4)
    assert prepared.notes[0].endswith("label from 'score'; numbers from 1000 to 3000, 1950 on average")


ADVICE = "write all numbers of a column with a point, or all with a comma, and thousands without a sign"


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("", "no number"),
        ("five", "no number ('five')"),
        ("nan", "no number"),
        ("inf", "no finite number ('inf')"),
        ("1,5", f"no number ('1,5'; {ADVICE})"),
        ("1,234.5", f"no number ('1,234.5'; {ADVICE})"),
        ("1_000", "no number ('1_000')"),
    ],
)
def test_what_is_no_number_is_a_broken_row(cell: str, why: str, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.tsv", [number + 0.5 for number in range(200)], "text,score"))
    path.write_text(path.read_text().replace(",", "\t") + f"\ntext\t{cell}")
    (broken,) = prepare(str(path)).dataset.broken
    assert broken.why == f"{why} in column 'score'"


def test_a_column_with_decimal_commas_is_read_and_it_is_said(tmp_path: Path) -> None:
    german, other = tmp_path / "preise.csv", tmp_path / "b.csv"
    german.write_text("Beschreibung;Wert\n" + "".join(f"Artikel {n} ist gut;{n},5\n" for n in range(60)), encoding="utf-8")
    other.write_text("Beschreibung,Wert\n" + "".join(f"Ding {n} ist gut,{n}.25\n" for n in range(20)), encoding="utf-8")
    records = {str(path): read_records(str(path)) for path in (german, other)}
    recipe, _ = with_task(Recipe(data=list(records), task=AUTO))
    assert recipe.task == "text-regression"
    prepared = TASK.prepare(recipe, records)
    assert not prepared.dataset.broken
    targets = {example.target for part in (prepared.dataset.train, prepared.dataset.validation) for example in part}
    assert targets == {n + 0.5 for n in range(60)} | {n + 0.25 for n in range(20)}
    assert prepared.notes[1:] == [f"{german}: the numbers in column 'Wert' have decimal commas: 3,5 is read as 3.5"]
    read = TASK.labelled_parser(recipe, records, prepared.task_options)
    first = read(records[str(german)][0], str(german))
    assert isinstance(first, Example)
    assert first.target == 0.5


def test_numbers_stay_numbers_in_json() -> None:
    assert [number(entry) for entry in (1, 2.5, "3", " 4.5 ", True, None, [1])] == [1, 2.5, 3, 4.5, None, None, None]


def test_numbers_of_numpy_and_of_decimal_columns_are_numbers() -> None:
    assert [number(entry) for entry in (np.int64(3), np.float32(2.5), Decimal("1.25"), np.nan)] == [3, 2.5, 1.25, None]


def test_one_number_for_all_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="every training row has the number 3; two different ones are needed"):
        prepare(write(tmp_path / "a.csv", [3] * 20))


def test_labels_that_are_many_numbers_are_asked_about(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", [n % 20 for n in range(400)], "text,label")
    notes = text_classification.SPEC.prepare(Recipe(data=[source]), {source: read_records(source)}).notes
    assert "all 20 labels are numbers; --task text-regression learns them as such" in notes


def test_smoothing_is_for_labels(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="numbers cannot be smoothed"):
        prepare(write(tmp_path / "a.csv", [*range(20)]), label_smoothing=0.1)


def test_the_figures_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    right = random.integers(0, 6, 200).astype(float)  # with ties
    given = right + random.normal(0, 1, 200)
    found = TASK.evaluate([answer(entry) for entry in given], [example(entry, "ab"[int(entry > 2)]) for entry in right], {})
    assert found["headline"] == {
        "rmse": pytest.approx(np.sqrt(np.mean((given - right) ** 2)), abs=1e-4),
        "mae": pytest.approx(np.mean(np.abs(given - right)), abs=1e-4),
        "pearson": pytest.approx(stats.pearsonr(given, right).statistic, abs=1e-4),
        "spearman": pytest.approx(stats.spearmanr(given, right).statistic, abs=1e-4),
        "rows": 200,
    }
    assert set(found["by_source"]) == {"a", "b"}


def test_a_constant_answer_correlates_with_nothing() -> None:
    headline = TASK.evaluate([answer(1), answer(1)], [example(1), example(2)], {})["headline"]
    assert (headline["pearson"], headline["spearman"]) == (0, 0)


def test_answers_agree_within_a_tenth_of_a_deviation() -> None:
    task = TextRegression(tiny_tokenizer(), ["score"], scale=10.0)
    assert task.same_decision(answer(5.0), answer(5.9), ClassificationOptions())
    assert not task.same_decision(answer(5.0), answer(6.1), ClassificationOptions())


def test_a_number_has_no_confidence_and_is_explained_in_its_own_unit() -> None:
    task = TextRegression(tiny_tokenizer(), ["score"], scale=2.0, offset=1.0)
    (encoded,) = task.encode([ClassificationItem("good film")], ClassificationOptions())
    outputs = [{"logits": np.array([3.0], np.float32)}]
    told = task.decode(encoded, outputs, ClassificationOptions())  # type: ignore[arg-type]
    assert [(label.label, label.score) for label in told.labels] == [("score", 7.0)]
    assert task.decision(told, ClassificationOptions()) is None
    passage = task.passage(ClassificationItem("good film"), encoded, outputs, None)  # type: ignore[arg-type]
    assert passage.to_score(passage.log_odds(outputs[0])) == 7.0


def test_pairs_with_numbers_become_a_published_model(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        json.dumps({"sentence1": f"film {n}", "sentence2": "good" if n % 2 else "bad", "score": 100.0 * (n % 2)})
        for n in range(60)
    ]
    Path("pairs.jsonl").write_text("\n".join(lines))
    recipe = Recipe(
        name="pairs", data=["pairs.jsonl"], task="text-regression", base_model=str(base_folder), epochs=1, precision="fp32"
    )
    made = Pipeline(recipe, None, lambda arrow, text: None).run(resume=False)
    manifest = read_manifest(made.folder)
    assert manifest.task == "text-regression"
    assert manifest.task_options["scale"] == pytest.approx(50, rel=0.1)
    assert manifest.reference.confidence is None
    assert set(manifest.evaluation) == {"rmse", "mae", "pearson", "spearman", "rows"}
    report = json.loads(Path("runs/pairs/report-1.json").read_text())
    assert len(report["points"]) == manifest.evaluation["rows"]
    assert "mean absolute error" in Path("runs/pairs/report-1.html").read_text().lower()
    version = open_version("pairs", Path("models"))
    (encoded,) = version.task.encode([ClassificationItem("film 1", "good")], ClassificationOptions())
    (score,) = version.task.decode(encoded, version.session.run_rows(encoded.rows), ClassificationOptions()).labels
    assert -200 < score.score < 300
