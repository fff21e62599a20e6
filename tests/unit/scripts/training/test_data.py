"""Examples are split so that nothing which is judged was seen, and nothing gets lost without being counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidInput, InvalidSettings
from app.data import Record
from scripts.training.data import (
    Broken,
    Dataset,
    Example,
    by_source,
    default_name,
    describe_broken,
    first_readable,
    load,
    read_all,
    split,
    split_groups,
)
from scripts.training.recipe import Recipe


def example(number: int, target: str = "a", source: str = "train") -> Example:
    return Example(f"item {number}", target, source, f"{source}:{number}")


def records(source: str, items: list[Any]) -> list[Record]:
    """One record per item; None is a broken one."""
    return [
        Record(f"{source}:{i}", {"item": item}, None if item is not None else InvalidInput("torn"))
        for i, item in enumerate(items)
    ]


def parse(record: Record, source: str) -> Example | Broken:
    if record.broken:
        return Broken(record.where, record.broken)
    item = record.columns["item"]
    return Example(item, str(item)[0], source, record.where)


def loaded(recipe: Recipe, **sources: list[Any]) -> Dataset:
    given_records = {name: records(name, items) for name, items in sources.items()}
    return load(recipe, given_records, parse, lambda entry: entry.target)


def items(examples: Any) -> list[Any]:
    return [example.item for example in examples]


# split

strata = st.lists(st.sampled_from("aaaabbc"), min_size=1, max_size=120)


@given(strata, st.floats(0.05, 1.0), st.integers(0, 3))
def test_every_example_is_in_exactly_one_part_and_order_is_kept(labels: list[str], share: float, seed: int) -> None:
    examples = [example(i, label) for i, label in enumerate(labels)]
    parts = split(examples, share, seed, lambda example: example.target)
    assert sorted([*parts[0], *parts[1]], key=lambda part: int(part.item[5:])) == examples
    for part in parts:
        assert part == sorted(part, key=lambda entry: int(entry.item[5:]))


@given(strata, st.floats(0.05, 1.0), st.integers(0, 3))
def test_each_stratum_is_split_by_the_share_and_never_emptied(labels: list[str], share: float, seed: int) -> None:
    train, _ = split([example(i, label) for i, label in enumerate(labels)], share, seed, lambda entry: entry.target)
    kept = Counter(entry.target for entry in train)
    for label, count in Counter(labels).items():
        assert kept[label] >= 1
        assert abs(kept[label] - max(1, count * share)) <= 1


@given(strata)
def test_a_share_of_one_holds_nothing_out(labels: list[str]) -> None:
    train, held_out = split([example(i, label) for i, label in enumerate(labels)], 1.0, 0, lambda entry: entry.target)
    assert (len(train), held_out) == (len(labels), [])


@pytest.mark.parametrize("num_labels", [1, 3, 20])
def test_of_labels_with_two_rows_each_one_row_of_each_is_held_out(num_labels: int) -> None:
    examples = [example(i, str(i % num_labels)) for i in range(2 * num_labels)]
    train, held_out = split(examples, 0.8, 13, lambda example: example.target)
    assert len(held_out) == num_labels == len({entry.target for entry in held_out})
    assert {entry.target for entry in train} == set(map(str, range(num_labels)))


def test_a_label_with_one_row_stays_in_training_beside_one_with_two() -> None:
    train, held_out = split([example(0, "a"), example(1, "a"), example(2, "b")], 0.8, 13, lambda entry: entry.target)
    assert ([entry.target for entry in held_out], sorted(entry.target for entry in train)) == (["a"], ["a", "b"])


def test_two_texts_with_their_questions_are_one_for_either_part() -> None:
    train, held_out = split_groups([example(i, str(i % 2)) for i in range(6)], 0.8, 13, lambda entry: entry.target)
    assert (len({entry.target for entry in train}), len(train), len(held_out)) == (1, 3, 3)


def test_one_text_with_its_questions_cannot_be_split_and_is_told_so() -> None:
    with pytest.raises(InvalidSettings, match=r"they are all about one text.* say --validation FILE"):
        load(Recipe(data=["train"]), {"train": records("train", ["a1", "a2"])}, parse, group=lambda entry: entry.target)


def test_the_split_is_a_function_of_the_seed() -> None:
    examples = [example(i) for i in range(100)]

    def parts(seed: int) -> Any:
        return split(examples, 0.8, seed, lambda example: example.target)

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)
    assert [len(part) for part in parts(1)] == [80, 20]


def test_the_held_out_part_is_not_just_the_end_of_the_file() -> None:
    _, held_out = split([example(i) for i in range(100)], 0.8, 13, lambda entry: entry.target)
    assert items(held_out) != [f"item {i}" for i in range(80, 100)]


# load


def test_a_fifth_is_held_out_where_no_validation_is_named() -> None:
    dataset = loaded(Recipe(data=["train"]), train=[f"a{i}" for i in range(50)])
    assert (len(dataset.train), len(dataset.validation)) == (40, 10)


def test_nothing_more_is_held_out_where_validation_is_named() -> None:
    recipe = Recipe(data=["train"], validation=["dev"])
    dataset = loaded(recipe, train=[f"a{i}" for i in range(50)], dev=["b1", "b2"])
    assert (len(dataset.train), items(dataset.validation)) == (50, ["b1", "b2"])


def test_a_split_is_added_to_the_named_validation() -> None:
    recipe = Recipe(data=["train"], validation=["dev"], split=0.9)
    dataset = loaded(recipe, train=[f"a{i}" for i in range(50)], dev=["b1"])
    assert (len(dataset.train), len(dataset.validation)) == (45, 6)


def test_a_training_row_that_is_also_held_out_is_dropped_and_counted() -> None:
    recipe = Recipe(data=["train"], validation=["dev"])
    dataset = loaded(recipe, train=["a1", "a2", "a2", "a3"], dev=["a2", "a9"])
    assert (items(dataset.train), dataset.num_leaked) == (["a1", "a3"], 2)


@given(st.lists(st.integers(0, 12), min_size=4, max_size=60), st.integers(0, 5))
def test_no_item_is_ever_in_both_parts(numbers: list[int], seed: int) -> None:
    try:
        dataset = loaded(Recipe(data=["train"], seed=seed, split=0.5), train=[f"a{n}" for n in numbers])
    except InvalidSettings:
        return
    assert not set(items(dataset.train)) & set(items(dataset.validation))
    assert len(dataset.train) + len(dataset.validation) + dataset.num_leaked == len(numbers)


def test_sources_are_repeated_in_training_and_nowhere_else() -> None:
    recipe = Recipe(data=["first", "second"], validation=["dev"], repeat=[3, 1])
    dataset = loaded(recipe, first=["a1", "a2"], second=["b1"], dev=["c1"])
    assert Counter(items(dataset.train)) == {"a1": 3, "a2": 3, "b1": 1}
    assert items(dataset.validation) == ["c1"]


def test_max_rows_draws_from_all_sources_with_the_seed() -> None:
    sources = {"first": [f"a{i}" for i in range(100)], "second": [f"b{i}" for i in range(100)]}
    recipe = Recipe(data=["first", "second"], max_rows=40, split=0.75)
    dataset = loaded(recipe, **sources)
    assert len(dataset.train) + len(dataset.validation) == 40
    assert {entry.source for entry in dataset.train} == {"first", "second"}
    assert items(loaded(recipe, **sources).train) == items(dataset.train)


def test_max_rows_leaves_the_named_validation_whole() -> None:
    recipe = Recipe(data=["train"], validation=["dev"], max_rows=2)
    dataset = loaded(recipe, train=["a1", "a2", "a3", "a4"], dev=["b1", "b2", "b3"])
    assert (len(dataset.train), len(dataset.validation)) == (2, 3)


def test_broken_rows_within_the_allowed_share_are_counted_and_named() -> None:
    recipe = Recipe(data=["train"], max_bad_share=0.1)
    dataset = loaded(recipe, train=[None, *(f"a{i}" for i in range(9))])
    assert dataset.broken == [Broken("train:0", "torn")]


def test_more_broken_rows_than_allowed_stop_before_training_and_are_named() -> None:
    recipe = Recipe(data=["train"], max_bad_share=0.1)
    with pytest.raises(InvalidSettings) as caught:
        loaded(recipe, train=[None, None, *(f"a{i}" for i in range(8))])
    assert "2 invalid rows: train:0 (torn), train:1 (torn)" in caught.value.detail
    assert "20.0% of 10 rows, more than the 10.0%" in caught.value.detail
    assert "not started" in caught.value.detail


def test_broken_rows_of_the_validation_count_too() -> None:
    recipe = Recipe(data=["train"], validation=["dev"], max_bad_share=0.1)
    with pytest.raises(InvalidSettings, match="dev:0"):
        loaded(recipe, train=["a1"], dev=[None, "a2"])


def test_a_sources_figures_are_of_the_places_of_its_examples() -> None:
    mixed = [example(number, source=source) for number, source in enumerate(["b", "a", "b"])]
    assert by_source(mixed, tuple) == {"b": (0, 2), "a": (1,)}


def test_data_without_rows_is_a_mistake() -> None:
    with pytest.raises(InvalidSettings, match="the data has no rows"):
        loaded(Recipe(data=["train"]), train=[])


def test_nothing_to_judge_is_a_mistake() -> None:
    with pytest.raises(InvalidSettings, match="of 1 rows none can be held out, for no label has two of them; bring more rows"):
        loaded(Recipe(data=["train"]), train=["a1"])


def test_nothing_left_to_train_on_is_a_mistake() -> None:
    with pytest.raises(InvalidSettings, match="every training row is also held out"):
        loaded(Recipe(data=["train"], validation=["dev"]), train=["a1", "a1"], dev=["a1"])


def test_a_source_that_is_named_twice_is_read_once(tmp_path: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n')
    assert list(read_all(Recipe(data=[str(path), str(path)], validation=[str(path)]))) == [str(path)]


# words for people


def test_the_first_broken_rows_are_named_and_the_rest_counted() -> None:
    some = [Broken(f"rows.csv:{number}", "empty text") for number in range(2, 9)]
    assert describe_broken(some[:1]) == "1 invalid row: rows.csv:2 (empty text)"
    assert describe_broken(some, limit=2) == "7 invalid rows: 7 × empty text (rows.csv:2, rows.csv:3, …)"
    assert describe_broken(some[:2], limit=2) == "2 invalid rows: rows.csv:2 (empty text), rows.csv:3 (empty text)"


def test_of_many_broken_rows_each_reason_is_told_once_the_commonest_first() -> None:
    some = [Broken(f"a.csv:{number}", f"reason {number % 4 // 2 + number % 2}") for number in range(12)]
    said = describe_broken(some, limit=2)
    assert said == "12 invalid rows: 6 × reason 1 (a.csv:1, a.csv:2, …); 3 × reason 0 (a.csv:0, a.csv:4, …); and 1 more reasons"


def test_reasons_that_differ_in_the_cell_they_name_are_told_once() -> None:
    some = [Broken(f"a.csv:{number}", f"no number ('{number},5') in column 'score'") for number in range(7)]
    assert describe_broken(some) == (
        "7 invalid rows: 7 × no number ('0,5') in column 'score' and the like (a.csv:0, a.csv:1, …)"
    )


def test_where_no_row_could_be_read_the_reasons_are_told() -> None:
    reasons = ["3 columns where the header has 2", *["not UTF-8"] * 6]
    torn = [Record(f"a.csv:{number}", {}, InvalidInput(reason)) for number, reason in enumerate(reasons)]
    with pytest.raises(InvalidSettings) as caught:
        first_readable({"a.csv": torn})
    assert caught.value.detail == (
        "no row of the data could be read: 7 invalid rows: 6 × not UTF-8 (a.csv:1, a.csv:2, …);"
        " 1 × 3 columns where the header has 2 (a.csv:0)"
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/Banking 77.csv", "banking-77"),
        ("data/sst2/train.jsonl.gz", "sst2"),
        ("aclImdb/", "aclimdb"),
        ("stanfordnlp/imdb:train", "imdb"),
        ("films.v2.csv", "films"),
        ("数字.csv", "model"),
        ("_odd_.csv", "odd"),
    ],
)
def test_a_model_is_named_after_its_data(source: str, name: str) -> None:
    assert default_name(source) == name


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0.05, 0.95), st.integers(0, 99))
def test_a_group_stays_on_one_side_of_the_split(groups: list[int], share: float, seed: int) -> None:
    examples = [Example(number, group, "s", f"s:{number}") for number, group in enumerate(groups)]
    train, held_out = split_groups(examples, share, seed, lambda example: example.target)
    assert sorted([*train, *held_out], key=lambda entry: entry.item) == examples
    assert train
    assert not {entry.target for entry in train} & {entry.target for entry in held_out}
    assert [entry.item for entry in train] == sorted(entry.item for entry in train)
