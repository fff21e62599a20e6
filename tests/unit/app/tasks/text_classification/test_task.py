"""Texts in, labels with scores out; whatever a caller sends, only its own item suffers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooLarge
from app.core.manifest import read_manifest
from app.core.types import Row, Truncation
from app.tasks.base import Encoded
from app.tasks.text_classification.task import (
    MAX_PAIR_COST,
    Activation,
    Classification,
    ClassificationItem,
    ClassificationOptions,
    SelectableLabel,
    TextClassification,
    activate,
)
from app.tasks.tokenizer import Tokenizer
from tests.support.tiny_model import MAX_TOKENS, VOCABULARY, publish_tiny, run_rows, tiny_tokenizer

Item = ClassificationItem
Options = ClassificationOptions
TASK = TextClassification(tiny_tokenizer(), ("bad", "good"))
LONGEST = MAX_TOKENS - 2
LONE_SURROGATE = "good \ud800 film"


def encode(text: str, truncation: Truncation = "truncate", text_pair: str | None = None) -> Encoded:
    (encoded,) = TASK.encode([Item(text, text_pair)], Options(truncation=truncation))
    assert isinstance(encoded, Encoded)
    return encoded


def refusal(text: str, truncation: Truncation = "truncate", text_pair: str | None = None) -> HooperError:
    (error,) = TASK.encode([Item(text, text_pair)], Options(truncation=truncation))
    assert isinstance(error, HooperError)
    return error


def decode(
    *logits: list[float], task: TextClassification = TASK, lengths: list[int] | None = None, **options: Any
) -> Classification:
    """The answer to one item with these logits per window."""
    rows = [Row([7] * length, [0] * length) for length in lengths or [5] * len(logits)]
    encoded = Encoded(rows, sum(row.num_tokens for row in rows), False)
    outputs = [{"logits": np.array(logit, np.float32)} for logit in logits]
    return task.decode(encoded, outputs, Options(**options))


def scores(answer: Classification) -> dict[str, float]:
    return {label.label: label.score for label in answer.labels}


def three_labels(**options: Any) -> TextClassification:
    return TextClassification(tiny_tokenizer(), ("a", "b", "c"), **options)


def test_an_item_is_as_long_as_its_texts_together() -> None:
    assert (len(Item("good")), len(Item("good", "film!"))) == (4, 9)


# encode


def test_each_item_becomes_one_row_in_order() -> None:
    texts = ["good", "a bad film", "the film was very good ."]
    encoded = TASK.encode([Item(text) for text in texts], Options())
    assert [[row.num_tokens for row in encoding.rows] for encoding in encoded if isinstance(encoding, Encoded)] == [
        [3],
        [5],
        [8],
    ]
    assert [encoding.num_tokens for encoding in encoded if isinstance(encoding, Encoded)] == [3, 5, 8]


def test_a_row_is_read_at_its_first_token() -> None:
    (row,) = encode("good").rows
    assert (row.input_ids[0], tuple(row.output_positions)) == (VOCABULARY["[CLS]"], (0,))


def test_a_pair_becomes_one_row_of_two_sequences() -> None:
    (row,) = encode("a film", text_pair="very good").rows
    assert row.token_type_ids == [0, 0, 0, 0, 1, 1, 1]


def test_nothing_to_encode_is_nothing_encoded() -> None:
    assert TASK.encode([], Options()) == []


def test_a_bad_item_gets_its_error_in_its_place_and_the_others_are_encoded() -> None:
    items = [Item("good"), Item(" "), Item("a bad film"), Item(LONE_SURROGATE), Item("bad " * 99)]
    encoded = TASK.encode(items, Options(truncation="error"))
    assert [type(encoding) for encoding in encoded] == [Encoded, InvalidInput, Encoded, InvalidInput, TooLarge]
    assert [encoding.num_tokens for encoding in encoded if isinstance(encoding, Encoded)] == [3, 5]


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u00a0\u2003\u3000"])
def test_an_empty_text_is_refused_and_its_field_named(text: str) -> None:
    for error, field in ((refusal(text), "text"), (refusal("good", text_pair=text), "text_pair")):
        assert isinstance(error, InvalidInput)
        assert (error.field, error.detail) == (field, f"{field}: must not be empty")


def test_a_lone_surrogate_is_refused_and_its_field_named() -> None:
    for error, field in ((refusal(LONE_SURROGATE), "text"), (refusal("good", text_pair=LONE_SURROGATE), "text_pair")):
        assert isinstance(error, InvalidInput)
        assert error.field == field
        assert "lone surrogate" in error.detail


def test_a_longer_text_is_cut_on_the_side_that_the_caller_names() -> None:
    text = "bad " + "film " * LONGEST + "good"
    kept = {}
    for side in ("left", "right"):
        (encoded,) = TASK.encode([Item(text)], Options(truncation="truncate", truncation_side=side))  # type: ignore[arg-type]
        assert isinstance(encoded, Encoded)
        assert encoded.truncated
        (row,) = encoded.rows
        assert row.num_tokens == MAX_TOKENS
        kept[side] = (row.input_ids[1], row.input_ids[-2])
    film, bad, good = (VOCABULARY[word] for word in ("film", "bad", "good"))
    assert kept == {"left": (film, good), "right": (bad, film)}


@pytest.mark.parametrize("truncation", get_args(Truncation))
def test_a_text_of_exactly_the_longest_length_is_read_whole(truncation: Truncation) -> None:
    encoded = encode("good " * LONGEST, truncation)
    assert (len(encoded.rows), encoded.num_tokens, encoded.truncated) == (1, MAX_TOKENS, False)


def test_one_token_more_is_cut_and_said_so() -> None:
    encoded = encode("good " * (LONGEST + 1), "truncate")
    assert (len(encoded.rows), encoded.num_tokens, encoded.truncated) == (1, MAX_TOKENS, True)


def test_one_token_more_is_refused_where_the_caller_wants_an_error() -> None:
    error = refusal("good " * (LONGEST + 1), "error")
    assert isinstance(error, TooLarge)
    assert f"more than {MAX_TOKENS} tokens" in error.detail


def test_one_token_more_becomes_a_second_window_and_nothing_is_cut() -> None:
    encoded = encode("good " * (LONGEST + 1), "window")
    overlap = MAX_TOKENS // 4
    assert [row.num_tokens for row in encoded.rows] == [MAX_TOKENS, overlap + 1 + 2]
    assert (encoded.num_tokens, encoded.truncated) == (MAX_TOKENS + overlap + 3, False)


def test_windows_of_a_long_model_share_64_tokens() -> None:
    task = TextClassification(tiny_tokenizer(512), ("bad", "good"))
    (encoded,) = task.encode([Item("good " * 511)], Options(truncation="window"))
    assert isinstance(encoded, Encoded)
    assert [row.num_tokens for row in encoded.rows] == [512, 64 + 1 + 2]


def test_the_overlap_of_windows_can_be_chosen() -> None:
    task = TextClassification(tiny_tokenizer(), ("bad", "good"), window_overlap=3)
    (encoded,) = task.encode([Item("good " * (LONGEST + 1))], Options(truncation="window"))
    assert isinstance(encoded, Encoded)
    assert [row.num_tokens for row in encoded.rows] == [MAX_TOKENS, 3 + 1 + 2]


@pytest.mark.parametrize("max_tokens", range(8, 20))
def test_a_long_pair_is_read_whole_by_a_model_of_few_tokens(max_tokens: int) -> None:
    tokenizer = Tokenizer(tiny_tokenizer().definition, max_tokens)
    task = TextClassification(tokenizer, ("bad", "good"))
    (encoded,) = task.encode([Item("good " * 12, "bad " * 12)], Options(truncation="window"))
    assert isinstance(encoded, Encoded)
    assert max(row.num_tokens for row in encoded.rows) == max_tokens


def test_a_long_pair_is_cut_at_its_longer_half() -> None:
    encoded = encode("good " * 100, "truncate", text_pair="bad film")
    (row,) = encoded.rows
    assert (row.num_tokens, list(row.token_type_ids).count(1), encoded.truncated) == (MAX_TOKENS, 3, True)


anything = st.text(alphabet=st.characters(), max_size=120)


@given(st.lists(st.builds(Item, anything, st.none() | anything), max_size=6), st.sampled_from(get_args(Truncation)))
def test_no_text_breaks_more_than_its_own_item(items: list[ClassificationItem], truncation: Truncation) -> None:
    options = Options(truncation=truncation)
    encoded = TASK.encode(items, options)
    assert len(encoded) == len(items)
    for encoding in encoded:
        if isinstance(encoding, HooperError):
            continue
        assert all(0 < row.num_tokens == len(row.token_type_ids) <= MAX_TOKENS for row in encoding.rows)
        assert encoding.num_tokens == sum(row.num_tokens for row in encoding.rows)
        answer = TASK.decode(encoding, [{"logits": np.array([0.0, 1.0], np.float32)}] * len(encoding.rows), options)
        assert [label.label for label in answer.labels] == ["good", "bad"]


@given(anything, anything)
def test_an_item_is_encoded_the_same_alone_and_among_others(text: str, other: str) -> None:
    def ids(items: list[ClassificationItem]) -> list[Any]:
        encoded = TASK.encode(items, Options())
        return [
            encoding.detail if isinstance(encoding, HooperError) else [row.input_ids for row in encoding.rows]
            for encoding in encoded
        ]

    assert ids([Item(other), Item(text), Item("good")])[1] == ids([Item(text)])[0]


# decode


def test_labels_come_best_first_and_their_scores_sum_to_one() -> None:
    answer = decode([1.0, 3.0, 2.0], task=three_labels())
    assert [label.label for label in answer.labels] == ["b", "c", "a"]
    assert [label.score for label in answer.labels] == pytest.approx([0.66524, 0.24473, 0.09003], abs=1e-5)


def test_equal_scores_stay_in_the_order_of_the_model() -> None:
    assert [label.label for label in decode([1.0, 1.0, 1.0], task=three_labels()).labels] == ["a", "b", "c"]


@pytest.mark.parametrize(("top_k", "expected"), [(1, ["b"]), (2, ["b", "c"]), (9, ["b", "c", "a"]), (None, ["b", "c", "a"])])
def test_top_k_keeps_the_best(top_k: int | None, expected: list[str]) -> None:
    answer = decode([1.0, 3.0, 2.0], task=three_labels(), top_k=top_k)
    assert [label.label for label in answer.labels] == expected


def test_a_multi_label_model_scores_each_label_on_its_own() -> None:
    answer = decode([0.0, 2.0, -2.0], task=three_labels(problem_type="multi_label_classification"))
    assert scores(answer) == pytest.approx({"a": 0.5, "b": 0.880797, "c": 0.119203})


def test_a_model_with_one_label_gives_a_probability() -> None:
    task = TextClassification(tiny_tokenizer(), ("spam",))
    assert scores(decode([2.0], task=task)) == pytest.approx({"spam": 0.880797})


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("softmax", {"bad": 0.119203, "good": 0.880797}),
        ("sigmoid", {"bad": 0.5, "good": 0.880797}),
        ("none", {"bad": 0, "good": 2}),
    ],
)
def test_the_caller_may_choose_the_activation(activation: Activation, expected: dict[str, float]) -> None:
    assert scores(decode([0.0, 2.0], activation=activation)) == pytest.approx(expected)


def test_windows_are_averaged_by_the_tokens_that_each_one_read() -> None:
    answer = decode([0.0, 4.0], [0.0, 0.0], lengths=[30, 10], activation="none")
    assert scores(answer) == pytest.approx({"bad": 0.0, "good": 3.0})


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=8),
    st.sampled_from(get_args(Activation)),
)
def test_no_finite_logit_overflows(logits: list[float], activation: Activation) -> None:
    made = activate(np.array(logits, np.float32), activation)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    if activation != "none":
        assert ((made >= 0) & (made <= 1)).all()
    if activation == "softmax":
        assert made.sum() == pytest.approx(1, abs=1e-6)


@given(st.floats(-40, 40), st.floats(-40, 40))
def test_a_greater_logit_never_scores_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    for activation in get_args(Activation):
        made = activate(np.array([low, high], np.float32), activation)
        assert made[0] <= made[1]


# with a real graph


def test_a_published_model_calls_good_good_and_bad_bad(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path)
    graph = read_manifest(folder).graph
    texts = ["The film was good.", "a very bad film", "good " * 80, "bad " * 80]
    items = [Item(text) for text in texts]
    for truncation in ("truncate", "window"):
        options = Options(truncation=truncation, top_k=1)
        best = []
        for encoded in TASK.encode(items, options):
            assert isinstance(encoded, Encoded)
            best.append(TASK.decode(encoded, run_rows(folder / "model.onnx", graph, encoded.rows), options).labels[0].label)
        assert best == ["good", "bad", "good", "bad"]


def test_a_pair_whose_windows_would_be_countless_is_refused() -> None:
    error = refusal("good " * 2500, text_pair="bad " * 2500)
    assert isinstance(error, TooLarge)
    assert "16000" in error.detail


def test_a_pair_is_refused_by_the_windows_that_it_would_take_of_this_model() -> None:
    pair = Item("a " * 1500, "a " * 1500)
    assert "reads 32 tokens at once" in refusal(pair.text, text_pair=pair.text_pair).detail
    assert TextClassification(tiny_tokenizer(512), ("bad", "good"))._errors_of([pair]) == [None]


def test_long_pairs_cost_together_what_one_of_the_longest_does_and_short_ones_nothing() -> None:
    long = Item("a " * 100, "a " * 100)
    most = int(MAX_PAIR_COST * MAX_TOKENS**2 / (200 * 200))
    assert most > 1
    short = Item("good", "bad")
    found = TASK._errors_of([*[long] * most, short, long, short, Item("a " * 9000)])
    assert [type(match) for match in found[:most]] == [type(None)] * most
    assert [type(match) for match in found[most:]] == [type(None), TooLarge, type(None), type(None)]


def test_a_temperature_softens_the_scores_and_leaves_raw_logits_and_the_best_label_alone() -> None:
    cool = TextClassification(tiny_tokenizer(), ("bad", "good"), temperature=2.0)
    assert scores(decode([1.0, 3.0], task=cool)) == scores(decode([0.5, 1.5]))
    assert scores(decode([1.0, 3.0], task=cool, activation="sigmoid")) == scores(decode([0.5, 1.5], activation="sigmoid"))
    assert scores(decode([1.0, 3.0], task=cool, activation="none")) == {"bad": 1.0, "good": 3.0}
    encoded = encode("good film")
    output = [{"logits": np.array([1.0, 3.0], np.float32)}]
    said = cool.passage(Item("good film"), encoded, output, None)
    assert said.log_odds(output[0]) == pytest.approx(1.0)  # half of 3 - 1: what is explained is what is scored


# golden answers


MANY = [f"label {number}" for number in range(40)]
GOLDEN_LOGITS = np.random.default_rng(7).normal(0.0, 0.6, 40).tolist()  # as flat as a model that has just been trained


def golden_difference(
    published: list[float], now: list[float], tolerance: float, labels: Sequence[str] = MANY, **options: Any
) -> str:
    """What is said of these logits where the published answer was made of those."""
    task = TextClassification(tiny_tokenizer(), labels, **options)
    expected = json.loads(json.dumps(asdict(decode(published, task=task))))
    encoded = Encoded([Row([7] * 5, [0] * 5)], 5, False)
    return task.golden_difference(encoded, [{"logits": np.array(now, np.float32)}], expected, tolerance)


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_near_ties_among_many_labels_may_swap(problem_type: str) -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.05, 40)
    now = (np.array(GOLDEN_LOGITS) + noise).tolist()
    assert np.argsort(now).tolist() != np.argsort(GOLDEN_LOGITS).tolist()
    assert golden_difference(GOLDEN_LOGITS, now, 0.1, problem_type=problem_type) == ""


def test_a_score_beyond_the_tolerance_is_told_with_its_label() -> None:
    told = golden_difference([0.0, 0.0], [1.0, 0.0], 0.1, ["bad", "good"])
    assert told == "'bad' scores 0.7311, was 0.5000"


def test_what_the_published_scores_keep_apart_must_keep_its_order() -> None:
    published, now = np.log([0.40, 0.35, 0.25]).tolist(), np.log([0.37, 0.38, 0.25]).tolist()
    told = golden_difference(published, now, 0.04, ["a", "b", "c"])
    assert told == "'b' now comes before 'a'; published, they scored 0.3500 and 0.4000"
    assert golden_difference(published, now, 0.06, ["a", "b", "c"]) == ""


def test_no_number_is_no_score() -> None:
    assert "scores nan" in golden_difference([0.0, 0.0], [float("nan"), 0.0], 0.1, ["bad", "good"])


def test_other_labels_are_a_difference() -> None:
    task = TextClassification(tiny_tokenizer(), ["bad", "good"])
    encoded = Encoded([Row([7], [0])], 1, False)
    for labels in (["bad"], ["bad", "good", "so-so"], ["bad", "fine"]):
        expected = {"labels": [{"label": label, "score": 0.5} for label in labels]}
        told = task.golden_difference(encoded, [{"logits": np.zeros(2, np.float32)}], expected, 0.1)
        assert told.startswith("its labels differ: ")


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(GOLDEN_LOGITS[1:] + GOLDEN_LOGITS[:1], id="labels shifted by one"),
        pytest.param(np.random.default_rng(2).normal(0.0, 0.6, 40).tolist(), id="other weights"),
        pytest.param([0.0] * 40, id="equal scores"),
        pytest.param([-entry for entry in GOLDEN_LOGITS], id="upside down"),
    ],
)
def test_another_model_is_told_where_every_score_is_below_the_tolerance(broken: list[float], problem_type: str) -> None:
    shift = 4.0 if problem_type == "multi_label_classification" else 0.0  # sigmoids of nothing but unlikely labels
    published, now = ([logit - shift for logit in logits] for logits in (GOLDEN_LOGITS, broken))
    told = golden_difference(published, now, 0.1, problem_type=problem_type)
    assert "others the most" in told


def test_a_long_golden_text_published_when_texts_were_cut_still_answers_alike() -> None:
    encoded = Encoded([Row([7] * 30, [0] * 30), Row([7] * 9, [0] * 9)], 39, False)
    outputs = [{"logits": np.array(entry, np.float32)} for entry in ([2.0, 0.0], [0.0, 5.0])]
    for kept in (1, 2):
        published = TASK.decode(Encoded(encoded.rows[:kept], 0, False), outputs[:kept], Options())
        assert TASK.golden_difference(encoded, outputs, asdict(published), 0.02) == ""
    assert TASK.golden_difference(encoded, outputs, asdict(decode([0.0, 2.0])), 0.02) != ""


def several_labels(**options: Any) -> TextClassification:
    return three_labels(problem_type="multi_label_classification", **options)


def selected(answer: Classification) -> list[str]:
    return [label.label for label in answer.labels if isinstance(label, SelectableLabel) and label.selected]


def test_each_label_is_selected_by_its_own_threshold_and_one_half_without_one() -> None:
    task = several_labels(thresholds={"b": 0.9, "c": 0.1})
    answer = decode([0.0, 2.0, -2.0], task=task)  # 0.5, 0.88, 0.12
    assert [label.label for label in answer.labels] == ["b", "a", "c"]  # nothing is left out
    assert selected(answer) == ["a", "c"]
    assert selected(decode([0.0, 2.0, -2.0], task=task, threshold=0.6)) == ["b"]
    assert selected(decode([0.0, 2.0, -2.0], task=task, top_k=2)) == ["a"]


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "none", None])
def test_a_threshold_is_of_the_models_own_probabilities_whatever_the_caller_reads(activation: Activation | None) -> None:
    task = several_labels(thresholds={"c": 0.3}, temperature=2.0)
    # sigmoid(-1.6 / 2) is 0.31, sigmoid(-1.6) is not
    assert selected(decode([-3.0, 3.0, -1.6], task=task, activation=activation)) == ["b", "c"]


@pytest.mark.parametrize(
    ("task", "options", "reason"),
    [
        (TASK, {}, "exactly one"),
        (several_labels(), {"activation": "none"}, "probabilities"),
        (several_labels(), {"activation": "softmax"}, "probabilities"),
    ],
)
def test_a_threshold_that_means_nothing_is_refused(task: TextClassification, options: dict[str, Any], reason: str) -> None:
    (error,) = task.encode([Item("good")], Options(threshold=0.5, **options))
    assert isinstance(error, InvalidInput)
    assert error.field == "threshold"
    assert reason in error.reason


def test_labels_of_a_model_that_gives_one_are_not_selected() -> None:
    assert not any(isinstance(label, SelectableLabel) for label in decode([0.0, 2.0]).labels)


@pytest.mark.parametrize(
    ("problem_type", "thresholds", "reason"),
    [
        ("multi_label_classification", {"unknown": 0.5}, "'unknown' is no label"),
        ("single_label_classification", {"a": 0.5}, "has no thresholds"),
    ],
)
def test_thresholds_of_a_manifest_that_do_not_fit_are_refused(
    problem_type: str, thresholds: dict[str, float], reason: str
) -> None:
    with pytest.raises(InvalidArtefact, match=reason):
        three_labels(problem_type=problem_type, thresholds=thresholds)
