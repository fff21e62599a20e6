"""The estimators in the hands of scikit-learn, and published through the command's own gate."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import hooper
from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.core.manifest import read_manifest
from hooper import TextClassifier, TextRegressor
from tests.unit.scripts.conftest import make_base

GOOD = [f"{'very ' * (number % 5)}good film {'a ' * (number // 5)}" for number in range(20)]
BAD = [f"{'very ' * (number % 5)}bad film {'a ' * (number // 5)}" for number in range(20)]
TEXTS = [text for pair in zip(GOOD, BAD, strict=True) for text in pair]
LABELS = [1, 0] * 20


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the test's own, in which nothing may be left behind; and one thread."""
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    base = make_base(tmp_path_factory.mktemp("base") / "tiny-bert")
    return {"base_model": str(base), "epochs": 4, "batch_size": 8, "precision": "fp32", "learning_rate": 0.02}


@pytest.fixture(scope="module")
def fitted(options: dict[str, Any]) -> TextClassifier:
    return TextClassifier(**{**options, "epochs": 16}).fit(TEXTS, LABELS)


# scikit-learn's contract


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("estimator", [TextClassifier(), TextRegressor()], ids=lambda estimator: type(estimator).__name__)
def test_the_checks_of_scikit_learn_that_need_no_numbers(check: Callable[..., None], estimator: Any) -> None:
    check(type(estimator).__name__, estimator)


def test_parameters_are_the_keys_of_a_recipe_and_help_shows_them() -> None:
    names = set(inspect.signature(TextClassifier).parameters)
    assert {"base_model", "epochs", "learning_rate", "warm_start", "split", "runs", "verbose"} <= names
    assert not {"data", "task", "models", "name"} & names
    assert TextClassifier(epochs=3).get_params()["epochs"] == 3


@pytest.mark.slow
def test_a_search_and_a_cross_validation_train_copies(options: dict[str, Any]) -> None:
    search = GridSearchCV(TextClassifier(**options), {"epochs": np.array([1, 2])}, cv=2, error_score="raise")
    search.fit(np.array(TEXTS), np.array(["no", "yes"])[LABELS])
    assert set(search.best_estimator_.classes_) == {"no", "yes"}
    scores = cross_val_score(TextRegressor(**{**options, "epochs": 1}), TEXTS, LABELS, cv=2, error_score="raise")
    assert np.isfinite(scores).all()


def test_it_is_the_last_step_of_a_pipeline(options: dict[str, Any]) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("classify", TextClassifier(**options))])
    pipeline.set_params(classify__epochs=1).fit([text.upper() for text in TEXTS], LABELS)
    assert pipeline.predict(["GOOD FILM"]).shape == (1,)


# learning


def test_it_learns_and_leaves_nothing_behind(fitted: TextClassifier, place: Path) -> None:
    assert fitted.score(TEXTS, LABELS) > 0.8
    assert fitted.classes_.dtype.kind == "i"
    probabilities = fitted.predict_proba(["good film", "bad film"])
    assert probabilities.argmax(axis=1).tolist() == fitted.predict(["good film", "bad film"]).tolist()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert list(place.iterdir()) == []


def test_fit_begins_anew_and_a_warm_start_goes_on(options: dict[str, Any]) -> None:
    classifier = TextClassifier(**{**options, "epochs": 1})
    first = classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)
    again = classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert np.allclose(first, again, atol=1e-4)
    on = classifier.set_params(warm_start=True).fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert np.abs(on - again).max() > 1e-3
    with pytest.raises(InvalidSettings, match="warm_start goes on with the labels 0, 1, and y has 5, 6"):
        classifier.fit(TEXTS, [5, 6] * 20)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([True, False], [False, True]),
        pytest.param(["yes", "no"], ["no", "yes"], marks=pytest.mark.slow),
        pytest.param([-1, 0], [-1, 0], marks=pytest.mark.slow),
        pytest.param([1.0, 2.0], [1.0, 2.0], marks=pytest.mark.slow),
        (pandas.Series(["b", "a"], dtype="category"), ["a", "b"]),
        pytest.param(np.array([[3], [4]]), [3, 4], marks=pytest.mark.slow),
    ],
)
def test_labels_keep_their_type(labels: Any, classes: list[Any], options: dict[str, Any]) -> None:
    classifier = TextClassifier(**{**options, "epochs": 0.2}).fit(TEXTS[:2], labels)
    assert classifier.classes_.tolist() == classes
    assert classifier.predict(TEXTS[:2]).dtype == classifier.classes_.dtype


@pytest.mark.slow
def test_several_labels_come_and_go_as_a_matrix_or_as_lists(options: dict[str, Any]) -> None:
    matrix = np.array([[1, 0, 0], [0, 1, 0]] * 20)
    classifier = TextClassifier(**{**options, "epochs": 8}).fit(TEXTS, matrix)
    assert (classifier.predict(TEXTS) == matrix).mean() > 0.9
    assert (classifier.predict_proba(TEXTS)[:, 2] == 0).all()  # a label that no row has
    frame = pandas.DataFrame(matrix[:, :2], columns=["good", "bad"])
    assert TextClassifier(**{**options, "epochs": 0.2}).fit(TEXTS, frame).classes_.tolist() == ["good", "bad"]
    lists = [["x"], ["x", "y"]] * 20
    predicted = TextClassifier(**options).fit(TEXTS, lists).predict(TEXTS[:1])
    assert predicted[0] in (["x"], ["x", "y"], ["y"], [])


def test_pairs_are_two_columns_and_a_frame_is_read_as_a_file_is(options: dict[str, Any]) -> None:
    few = {**options, "epochs": 0.2}
    pairs = np.array([TEXTS, TEXTS[::-1]]).T
    assert TextClassifier(**few).fit(pairs, LABELS).predict(pairs[:2]).shape == (2,)
    frame = pandas.DataFrame({"premise": TEXTS, "hypothesis": TEXTS, "id": range(40)})
    assert TextRegressor(**few).fit(frame, pandas.Series(LABELS) / 3).predict(frame).shape == (40,)


def test_a_pickle_predicts_and_holds_no_rows(fitted: TextClassifier) -> None:
    pickled = pickle.dumps(fitted)
    assert TEXTS[0].encode() not in pickled
    copy = pickle.loads(pickled)
    assert (copy.predict(TEXTS) == fitted.predict(TEXTS)).all()
    with pytest.raises(InvalidSettings, match="a pickle keeps no rows"):
        copy.save("films", TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(TEXTS)


# publishing


def test_what_is_saved_passed_the_gate_and_answers_alike(fitted: TextClassifier, place: Path) -> None:
    tests = ["not bad", "a very good film .", "the bad film", TEXTS[0]]
    folder = fitted.save("models/films", tests, [0, 1, 0, 1], description="Films.")
    manifest = read_manifest(folder)
    assert (folder, manifest.description, manifest.evaluation["rows"]) == (Path("models/films/1"), "Films.", 3)
    assert manifest.parity["fp32"].passed
    with hooper.load("models/films") as model:
        assert [int(result["labels"][0]["label"]) for result in model.predict(tests)] == fitted.predict(tests).tolist()
    assert "estimator.save('models/films', X_test, y_test" in (folder / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in place.iterdir()] == ["models"]
    assert fitted.publish("films", tests, [0, 1, 0, 1], models="models") == Path("models/films/2")


def test_without_rows_that_were_held_out_nothing_is_published(fitted: TextClassifier, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match=r"save\(path, X_test, y_test\), or have fit hold some out with split=0\.8"):
        fitted.save("films")
    with pytest.raises(InvalidSettings, match="all rows that save was given were trained on"):
        fitted.save("films", TEXTS, LABELS)
    held_out = TextClassifier(**{**options, "epochs": 0.5, "split": 0.75}).fit(TEXTS, LABELS)
    assert read_manifest(held_out.save("films")).evaluation["rows"] == 10


def test_runs_are_kept_where_they_are_asked_for_and_nothing_is_said(
    options: dict[str, Any], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    TextClassifier(**{**options, "epochs": 0.2}, runs="kept").fit(TEXTS, LABELS).predict(TEXTS)
    assert capfd.readouterr() == ("", "")
    assert (place / "kept" / "model" / "final" / "config.json").is_file()


def test_it_says_what_it_does_where_it_is_asked_to(options: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    TextClassifier(**{**options, "epochs": 0.2}, verbose=True).fit(TEXTS, LABELS)
    assert "40 rows to train on" in capfd.readouterr().out


# refusals


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (lambda options: TextClassifier(depth=3), InvalidSettings, "TextClassifier takes no 'depth'; it takes"),
        (lambda options: TextClassifier(data=["a.csv"]), InvalidSettings, "takes no data: fit and save are given"),
        (lambda options: TextClassifier(**options).fit(TEXTS, [1, 0]), InvalidSettings, "X has 40 rows, and y has 2"),
        (
            lambda options: TextClassifier(**options).fit(TEXTS, LABELS, sample_weight=[1] * 40),
            InvalidSettings,
            "sample_weight",
        ),
        (lambda options: TextClassifier(**options).fit(["a", None], LABELS[:2]), InvalidInput, r"X\[1\]: there is nothing"),
        (lambda options: TextClassifier(**options).fit(["a", " "], LABELS[:2]), InvalidInput, r"X\[1\]\.text: must not be"),
        (lambda options: TextClassifier(**options).fit(["a", "b"], ["x", None]), InvalidSettings, r"y\[1\] is no label"),
        (lambda options: TextClassifier(**options).fit("a", [1]), InvalidInput, "X must hold many texts"),
        (lambda options: TextClassifier(**options).fit([], []), InvalidSettings, "X has no rows"),
        (lambda options: TextClassifier(**options).fit(TEXTS, None), InvalidSettings, "y is needed"),
        (lambda options: TextClassifier(**options).fit(TEXTS, [1] * 40), InvalidSettings, "only one label"),
        (lambda options: TextClassifier(**options).fit(TEXTS, [0.5, 1] * 20), InvalidSettings, "TextRegressor learns"),
        (lambda options: TextClassifier(**options).fit(TEXTS, ["a", " a"] * 20), InvalidSettings, "only one label"),
        (
            lambda options: TextClassifier(**{**options, "split": 2}).fit(TEXTS, LABELS),
            InvalidSettings,
            "split must be above 0",
        ),
        (lambda options: TextRegressor(**options).fit(TEXTS, ["a"] * 40), InvalidSettings, r"y\[0\] is no number"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    act: Callable[[dict[str, Any]], object], kind: type[HooperError], words: str, options: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=words):
        act(options)


@pytest.mark.slow  # as that of the command does: tests/unit/scripts/test_train_and_export_further.py
def test_it_goes_on_from_a_published_version_with_the_head_of_that(
    fitted: TextClassifier, options: dict[str, Any], place: Path
) -> None:
    folder = fitted.save(place / "films", ["good good film", "bad bad film"], [1, 0])
    hardly = {**options, "epochs": 1, "learning_rate": 1e-9}
    further = TextClassifier(**{**hardly, "base_model": str(folder)}).fit(TEXTS, LABELS)
    assert (
        further.score(TEXTS, LABELS)
        == fitted.score(TEXTS, LABELS)
        > TextClassifier(**hardly).fit(TEXTS, LABELS).score(TEXTS, LABELS)
    )
