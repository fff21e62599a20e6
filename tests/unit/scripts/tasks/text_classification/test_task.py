"""Columns are guessed when they are obvious and asked for when not; figures are those of the production answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidInput, InvalidSettings
from app.core.types import Row
from app.data import Record
from app.tasks.text_classification.task import Classification, ClassificationItem, LabelScore
from scripts.tasks.spec import Prepared, TrainingRow
from scripts.tasks.text_classification.task import LABEL_FIELD, TextClassificationTraining, read_columns
from scripts.tasks.texts import head_and_tail
from scripts.training.columns import choose_columns
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe
from tests.support.tiny_model import tiny_tokenizer

TASK = TextClassificationTraining()
A_LIST = "a list of labels where one is meant, which --problem-type multi_label_classification learns,"
SINGLE = {"labels": ["bad", "good"], "problem_type": "single_label_classification"}
MULTI = {"labels": ["dull", "long", "sad"], "problem_type": "multi_label_classification"}


def recipe(**fields: Any) -> Recipe:
    return Recipe(**{"data": ["train"], **fields})


def records(*rows: dict[str, Any], source: str = "train") -> dict[str, list[Record]]:
    return {source: [Record(f"{source}:{number}", row) for number, row in enumerate(rows, start=2)]}


def choose(*names: str, **fields: Any) -> tuple[str, str, str]:
    rows = records(dict.fromkeys(names, "x"))
    matches = choose_columns(TASK.fields, LABEL_FIELD, recipe(**fields), rows).matches
    return matches["text"], matches.get("text_pair", ""), matches["label"]


def parse(row: dict[str, Any], **fields: Any) -> Example | Broken:
    given_recipe = recipe(**fields)
    columns, kind = read_columns(given_recipe, records({"text": "x", "label": "y"}))
    return columns.parse(Record("train:2", row), "train", kind.read)


def is_multi_label(value: Any, **fields: Any) -> bool:
    return read_columns(recipe(**fields), records({"text": value, "label": value}))[1].multi_label


def prepare(rows: list[dict[str, Any]], validation: list[dict[str, Any]] | None = None, **fields: Any) -> Prepared:
    sources = records(*rows)
    if validation is not None:
        fields["validation"] = ["dev"]
        sources |= records(*validation, source="dev")
    return TASK.prepare(recipe(**fields), sources)


def answer(*scores: float, labels: list[str]) -> Classification:
    ranked = sorted(zip(labels, scores, strict=True), key=lambda entry: -entry[1])
    return Classification([LabelScore(label, score) for label, score in ranked])


# columns


@pytest.mark.parametrize(
    ("names", "text", "pair", "label"),
    [
        (("text", "label"), "text", "", "label"),
        (("id", "Sentence", "Sentiment"), "Sentence", "", "Sentiment"),
        (("review", "category", "stars"), "review", "", "category"),
        (("text", "text_pair", "label"), "text", "text_pair", "label"),
        (("premise", "hypothesis", "label"), "premise", "hypothesis", "label"),
        (("sentence1", "sentence2", "label", "text"), "sentence1", "sentence2", "label"),
        (("title", "content", "topic"), "content", "", "topic"),
    ],
)
def test_names_that_everybody_uses_are_guessed(names: tuple[str, ...], text: str, pair: str, label: str) -> None:
    assert choose(*names) == (text, pair, label)


def test_the_recipe_overrules_the_guess() -> None:
    names = ("text", "body", "title", "label", "topic")
    chosen = choose(*names, text_column="body", text_pair_column="title", label_column="topic")
    assert chosen == ("body", "title", "topic")


def test_a_named_text_column_is_not_given_a_second_text_by_guessing() -> None:
    assert choose("premise", "hypothesis", "label", text_column="premise") == ("premise", "", "label")


@pytest.mark.parametrize(
    ("names", "question"),
    [
        (("a", "b"), "which column holds the text? The data has 'a', 'b'; say which, for example: … --text-column a"),
        (("text", "b"), "which column holds the label? The data has 'b' (text from column 'text'); say which, for example: …"),
    ],
)
def test_what_is_not_obvious_is_asked_for(names: tuple[str, ...], question: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        choose(*names)
    assert caught.value.detail.replace("hooper train train", "…").startswith(question)


@pytest.mark.parametrize("option", ["text_column", "text_pair_column", "label_column"])
def test_a_named_column_that_is_not_there_is_a_mistake(option: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        choose("text", "label", **{option: "absent"})
    assert f"--{option.replace('_', '-')}: train:2 has no column 'absent'; it has text, label" in caught.value.detail


def test_columns_are_chosen_from_the_first_row_that_could_be_read() -> None:
    torn = Record("train:2", {}, InvalidInput("torn"))
    rows = [torn, Record("train:3", {"text": "x", "label": "y"})]
    assert choose_columns(TASK.fields, LABEL_FIELD, recipe(), {"train": rows}).matches["text"] == "text"
    with pytest.raises(InvalidSettings, match="no row of the data could be read"):
        choose_columns(TASK.fields, LABEL_FIELD, recipe(), {"train": [torn]})


def test_lists_of_labels_make_a_multi_label_problem_unless_the_recipe_says_otherwise() -> None:
    assert is_multi_label(["a"])
    assert not is_multi_label("a")
    assert is_multi_label("a", problem_type="multi_label_classification")
    assert not is_multi_label(["a"], problem_type="single_label_classification")


# rows


def test_a_row_becomes_an_example() -> None:
    assert parse({"text": " fine ", "label": " good "}) == Example(ClassificationItem(" fine "), "good", "train", "train:2")


def test_a_pair_becomes_an_example_of_two_texts() -> None:
    columns, _ = read_columns(recipe(), records({"premise": "a", "hypothesis": "b", "label": "c"}))
    made = columns.parse(Record("train:2", {"premise": "a", "hypothesis": "b", "label": "c"}), "train", str)
    assert made == Example(ClassificationItem("a", "b"), "c", "train", "train:2")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"label": "good"}, "missing column 'text'"),
        ({"text": None, "label": "good"}, "missing column 'text'"),
        ({"text": 5, "label": "good"}, "'text' is not text"),
        ({"text": " \n", "label": "good"}, "empty text"),
        ({"text": "\ud800", "label": "good"}, "not valid Unicode"),
        ({"text": "fine"}, "no label in column 'label'"),
        ({"text": "fine", "label": None}, "no label in column 'label'"),
        ({"text": "fine", "label": " "}, "no label in column 'label'"),
        ({"text": "fine", "label": []}, f"{A_LIST} in column 'label'"),
        ({"text": "fine", "label": ["good", "long"]}, f"{A_LIST} in column 'label'"),
        ({"text": "fine", "label": float("nan")}, "no label in column 'label'"),
        ({"text": "fine", "label": "nan"}, "no label in column 'label'"),
        ({"text": "fine", "label": "\u200b\ufeff"}, "no label in column 'label'"),
        ({"text": "fine", "label": {"good": 1}}, "an object where a label is meant, in column 'label'"),
    ],
)
def test_a_broken_row_says_why(row: dict[str, Any], why: str) -> None:
    assert parse(row) == Broken("train:2", why)


def test_a_row_that_could_not_be_read_keeps_its_reason() -> None:
    columns, _ = read_columns(recipe(), records({"text": "x", "label": "y"}))
    assert columns.parse(Record("train:7", {}, InvalidInput("not UTF-8")), "train", str) == Broken("train:7", "not UTF-8")


@pytest.mark.parametrize(
    ("cell", "label"),
    [(0, "0"), (1, "1"), (True, "True"), ("0", "0"), (1.0, "1"), (1.5, "1.5"), (np.int64(2), "2"), (["a"], "a")],
)
def test_labels_that_are_numbers_are_labels(cell: Any, label: str) -> None:
    made = parse({"text": "fine", "label": cell})
    assert isinstance(made, Example)
    assert made.target == label


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        (["sad", "long"], ("long", "sad")),
        (["sad", "sad", " "], ("sad",)),
        ([], ()),
        ("sad|long", ("long", "sad")),
        ('["sad", "long"]', ("long", "sad")),
        ("", ()),
        ([1, 2], ("1", "2")),
    ],
)
def test_a_cell_may_hold_any_number_of_labels(cell: Any, labels: tuple[str, ...]) -> None:
    made = parse({"text": "fine", "label": cell}, problem_type="multi_label_classification")
    assert isinstance(made, Example)
    assert made.target == labels


def test_the_separator_of_labels_can_be_chosen() -> None:
    made = parse({"text": "fine", "label": "a;b|c"}, problem_type="multi_label_classification", label_separator=";")
    assert isinstance(made, Example)
    assert made.target == ("a", "b|c")


@pytest.mark.parametrize("cell", [None, 5, {"a": 1}])
def test_a_cell_without_a_list_of_labels_is_broken(cell: Any) -> None:
    assert isinstance(parse({"text": "fine", "label": cell}, problem_type="multi_label_classification"), Broken)


def test_a_cell_that_only_begins_like_a_list_is_broken_or_a_label() -> None:
    parse({"text": "fine", "label": "[unclear"}, problem_type="multi_label_classification")


cells = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8).filter(lambda cell: not cell.strip().startswith("[")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["text", "label", "other"]), cells), st.sampled_from(["single", "multi"]))
def test_no_row_stops_the_run(row: dict[str, Any], kind: Any) -> None:
    made = parse(row, problem_type=f"{kind}_label_classification")
    assert isinstance(made, Example | Broken)


# preparing


def some_rows(num_rows: int = 50) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": "good" if i % 2 else "bad"} for i in range(num_rows)]


def test_labels_are_sorted_and_columns_are_told() -> None:
    prepared = prepare(some_rows())
    assert prepared.task_options == {"labels": ["bad", "good"], "problem_type": "single_label_classification"}
    assert prepared.notes == ["text from column 'text', label from 'label'; 2 labels"]
    assert (len(prepared.dataset.train), len(prepared.dataset.validation)) == (40, 10)


def test_the_split_keeps_the_share_of_each_label() -> None:
    rows = [{"text": f"text {i}", "label": "rare" if i % 10 == 0 else "common"} for i in range(100)]
    held_out = prepare(rows).dataset.validation
    assert sorted(entry.target for entry in held_out) == ["common"] * 18 + ["rare"] * 2


def test_one_label_is_not_enough() -> None:
    with pytest.raises(InvalidSettings, match=r"only one label \(good\)"):
        prepare([{"text": f"text {i}", "label": "good"} for i in range(9)])


def test_a_held_out_row_with_an_unknown_label_is_counted_as_broken() -> None:
    validation = [{"text": f"held {i}", "label": "bad"} for i in range(199)] + [{"text": "odd", "label": "new"}]
    dataset = prepare(some_rows(), validation).dataset
    assert len(dataset.validation) == 199
    assert dataset.broken == [Broken("dev:201", "label 'new' is not in the training data")]


def test_too_many_unknown_labels_stop_before_training() -> None:
    validation = [{"text": "held", "label": "bad"}, {"text": "odd", "label": "new"}]
    with pytest.raises(InvalidSettings, match=r"1 of 2 held-out rows have a label that training never saw.*dev:3"):
        prepare(some_rows(), validation)


def test_multi_label_rows_are_prepared_with_every_label_they_name() -> None:
    rows = [{"text": f"text {i}", "label": [["sad", "long"], ["dull"], []][i % 3]} for i in range(60)]
    prepared = prepare(rows)
    assert prepared.task_options == MULTI
    assert () in {entry.target for entry in prepared.dataset.train}


def test_the_head_knows_its_labels() -> None:
    config = TASK.head_config(SINGLE)
    assert config["num_labels"] == 2
    assert config["id2label"] == {0: "bad", 1: "good"}
    assert config["label2id"] == {"bad": 0, "good": 1}


# training rows


def test_training_rows_are_what_the_service_would_run_with_the_number_of_their_label() -> None:
    examples = [
        Example(ClassificationItem("good film"), "good", "train", "1"),
        Example(ClassificationItem("bad"), "bad", "train", "2"),
    ]
    rows = TASK.training_rows(examples, tiny_tokenizer(), SINGLE)
    assert [(row.row.num_tokens, row.label) for row in rows] == [(4, 1), (3, 0)]
    assert TASK.labels(rows, 4).tolist() == [1, 0]


def test_multi_label_rows_carry_one_number_per_label() -> None:
    examples = [
        Example(ClassificationItem("good"), ("dull", "sad"), "train", "1"),
        Example(ClassificationItem("bad"), (), "train", "2"),
    ]
    rows = TASK.training_rows(examples, tiny_tokenizer(), MULTI)
    assert TASK.labels(rows, 3).tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_the_progress_bar_counts_right_decisions() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert TASK.num_correct(logits, np.array([1, 1, 1])) == (2, 3)
    decisions = np.array([[1.0, -1.0], [-1.0, -1.0]])
    assert TASK.num_correct(decisions, np.array([[1.0, 0.0], [0.0, 1.0]])) == (1, 2)


def test_labels_come_back_in_the_order_of_the_rows() -> None:
    rows = [TrainingRow(Row([1], [0]), label) for label in (2, 0, 1)]
    assert TASK.labels(rows, 1).tolist() == [2, 0, 1]


# figures


def judged(*targets: Any, source: str = "dev") -> list[Example]:
    return [Example(ClassificationItem("x"), target, source, f"{source}:{i}") for i, target in enumerate(targets)]


def test_figures_are_those_of_the_textbook() -> None:
    labels = SINGLE["labels"]
    answers = [answer(0.9, 0.1, labels=labels), answer(0.6, 0.4, labels=labels), answer(0.2, 0.8, labels=labels)]
    examples = [*judged("bad", "good"), *judged("good", source="other")]
    figures = TASK.evaluate(answers, examples, SINGLE)
    assert figures["headline"] == {"accuracy": 0.6667, "macro_f1": 0.6667, "rows": 3}
    assert figures["by_source"] == {"dev": {"accuracy": 0.5, "rows": 2}, "other": {"accuracy": 1.0, "rows": 1}}
    assert figures["per_class"] == {
        "bad": {"precision": 0.5, "recall": 1.0, "f1": 0.6667, "rows": 1},
        "good": {"precision": 1.0, "recall": 0.5, "f1": 0.6667, "rows": 2},
    }


def test_a_multi_label_answer_is_right_only_as_a_whole_set() -> None:
    labels = MULTI["labels"]
    answers = [answer(0.9, 0.1, 0.8, labels=labels), answer(0.9, 0.6, 0.1, labels=labels), answer(0.1, 0.2, 0.3, labels=labels)]
    figures = TASK.evaluate(answers, judged(("dull", "sad"), ("dull",), ()), MULTI)
    assert figures["headline"]["accuracy"] == 0.6667
    assert figures["per_class"]["long"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 0}


def test_golden_requests_are_the_recipe_s_or_a_few_neutral_ones() -> None:
    assert TASK.golden_items(recipe(golden=["one", "two"])) == [{"text": "one"}, {"text": "two"}]
    neutral = TASK.golden_items(recipe())
    assert len(neutral) >= 3
    assert all(TASK.item(entry).text.strip() for entry in neutral)


@given(st.integers(1, 60), st.integers(2, 70))
def test_a_long_row_keeps_both_its_ends(length: int, limit: int) -> None:
    row = Row(list(range(length)), [index % 2 for index in range(length)])
    cut = head_and_tail(row, limit)
    assert cut.num_tokens == len(cut.token_type_ids) == min(length, limit)
    assert (cut.input_ids[0], cut.input_ids[-1]) == (0, length - 1)
    assert [index % 2 for index in cut.input_ids] == list(cut.token_type_ids)
