"""What a caller may give: everything that holds texts, in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.data import InputSchema
from app.tasks.registry import installed_tasks
from hooper.inputs import read_inputs

FIELDS = InputSchema(installed_tasks()["text-classification"].fields)
QUESTION_FIELDS = InputSchema(installed_tasks()["question-answering"].fields)


def listed(inputs: Any, schema: Any = FIELDS) -> list[Any]:
    entries = read_inputs(inputs, schema).entries
    return [entry.detail if isinstance(entry, HooperError) else entry for entry in entries]


TRAINED = InputSchema(FIELDS.specs, trained_columns={"text": "Beschreibung", "label": "Kategorie"})


@pytest.mark.parametrize(
    ("inputs", "entries"),
    [
        ({"Beschreibung": "a"}, [{"text": "a"}]),
        ([{"beschreibung": "a", "Kategorie": "b", "Nr": 7}, {"text": "c"}, "d"], [{"text": "a"}, {"text": "c"}, "d"]),
        (pandas.DataFrame({"Beschreibung": ["a"], "Kategorie": ["b"]}), [{"text": "a"}]),
        ({"Betreff": "a"}, [{"Betreff": "a"}]),  # which is refused by its name
        ({"text": "a", "Beschreibung": "b"}, [{"text": "a", "Beschreibung": "b"}]),  # and so is this: it is not clear
    ],
)
def test_mappings_may_have_the_columns_that_the_model_was_trained_on(inputs: Any, entries: list[Any]) -> None:
    assert listed(inputs, TRAINED) == entries


PAIR = {"text": "a", "text_pair": "b"}
EMPTY = "there is nothing to read here (None or NaN)"


@pytest.mark.parametrize(
    ("inputs", "entries"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ({"a": 1}.keys(), ["a"]),
        ((text for text in "ab"), ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(["a", None], object), ["a", EMPTY]),
        (np.array([["a", "b"]]), [PAIR]),
        (np.array([["a"]]), [{"text": "a"}]),
        ([("a", "b"), ["a", None], PAIR], [PAIR, {"text": "a"}, PAIR]),
        ([float("nan"), None, pandas.NA, "a"], [EMPTY, EMPTY, EMPTY, "a"]),
        (pandas.Series(["a", float("nan")]), ["a", EMPTY]),
        (pandas.DataFrame({"sentence1": ["a"], "sentence2": ["b"], "id": [7]}), [PAIR]),
        (pandas.DataFrame({"text": ["a"], "text_pair": [None]}), [{"text": "a"}]),
        (pandas.DataFrame({"anything": ["a"]}), [{"text": "a"}]),
        (pandas.DataFrame({"Text": [None]}), ["text: " + EMPTY]),
        (pandas.DataFrame({"text": []}), []),
        ([], []),
    ],
)
def test_items_are_read_in_order(inputs: Any, entries: list[Any]) -> None:
    assert listed(inputs) == entries
    assert not read_inputs(inputs, FIELDS).is_single


@pytest.mark.parametrize("inputs", ["a", {"text": "a"}, np.array("a"), np.str_("a")])
def test_one_item_is_no_list(inputs: Any) -> None:
    assert read_inputs(inputs, FIELDS).is_single


def test_the_index_of_pandas_is_kept_and_a_list_has_none() -> None:
    assert list(read_inputs(pandas.Series(["a"], index=["x"]), FIELDS).index) == ["x"]
    assert read_inputs(["a"], FIELDS).index is None


def test_columns_of_other_tasks_are_matched_as_those_of_files() -> None:
    frame = pandas.DataFrame({"Context": ["c"], "Question": ["q"]})
    assert listed(frame, QUESTION_FIELDS) == [{"question": "q", "context": "c"}]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (5, "an input must be a text or a mapping of fields, or many of them, not int"),
        (b"a", "not bytes"),
        (np.zeros((1, 1, 1)), "an array of 3 axes holds no texts"),
    ],
)
def test_what_holds_no_items_is_refused(inputs: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_inputs(inputs, FIELDS)


def test_values_that_are_no_items_fail_alone_but_for_a_list_of_nothing_else() -> None:
    assert listed(["a", 5])[1] == "an input must be a text or a mapping of fields, not int"
    with pytest.raises(InvalidInput, match="not int"):
        read_inputs([5, 6], FIELDS).listed()
    with pytest.raises(InvalidInput, match="not list"):
        read_inputs([("a", "b", "c")], FIELDS).listed()


def test_a_frame_without_the_column_says_which_it_has() -> None:
    with pytest.raises(
        InvalidSettings, match="which column holds the text\\? The data frame has 'x', 'y'; rename it to 'text'"
    ):
        read_inputs(pandas.DataFrame({"x": ["a"], "y": ["b"]}), FIELDS)
