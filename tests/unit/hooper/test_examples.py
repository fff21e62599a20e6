"""The X and y of estimators, in any form that scikit-learn knows, without training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidInput, InvalidSettings
from app.core.fields import FieldSpec
from hooper.examples import labels_of, texts_of

FIELDS = {"text": FieldSpec(("text",)), "text_pair": FieldSpec(("text_pair",), required=False)}


@pytest.mark.parametrize("y", [[1.0, 0.0, 1.0], np.array([[1.0], [0.0], [1.0]])])
def test_whole_numbers_are_labels_and_keep_their_type(y: Any) -> None:
    labels = labels_of(y)
    assert (labels.form, labels.names, labels.cells) == ("single", ["0", "1"], ["1", "0", "1"])
    assert labels.classes.tolist() == [0.0, 1.0]


def test_a_matrix_says_by_its_columns_which_labels_a_row_has() -> None:
    labels = labels_of(np.array([[1, 0, 1], [0, 0, 0]]))
    assert (labels.form, labels.names, labels.cells) == ("matrix", ["0", "1", "2"], [["0", "2"], []])


def test_lists_say_which_labels_a_row_has() -> None:
    labels = labels_of([["b", "a"], [], ("b",)])
    assert (labels.form, labels.classes.tolist(), labels.cells) == ("lists", ["a", "b"], [["b", "a"], [], ["b"]])


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (["a", None], r"y\[1\] is no label: it is empty"),
        ([0.5, 1.0], "TextRegressor learns numbers"),
        (np.array([[2, 0], [0, 1]]), "other values than 0 and 1"),
        ([["a"], "a"], r"y\[1\] is no list of labels"),
    ],
)
def test_what_holds_no_labels_is_refused_in_a_sentence(y: Any, sentence: str) -> None:
    with pytest.raises(InvalidSettings, match=sentence):
        labels_of(y)


def test_a_row_is_a_text_or_the_fields_of_a_pair() -> None:
    pair = {"text": "a", "text_pair": "b"}
    assert texts_of(["a", "b"], FIELDS, "") == [{"text": "a"}, {"text": "b"}]
    assert texts_of([pair], FIELDS, "") == [pair]


@pytest.mark.parametrize(("X", "sentence"), [("a", "must hold many texts"), (["a", " "], r"X\[1\]"), (["a", 5], r"X\[1\]")])
def test_what_is_no_text_is_refused_with_its_place(X: Any, sentence: str) -> None:  # noqa: N803
    with pytest.raises(InvalidInput, match=sentence):
        texts_of(X, FIELDS, "")
