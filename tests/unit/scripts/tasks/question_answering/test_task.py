"""SQuAD's forms are read, answers become token spans, and what is trained on is what the annotators chose."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidSettings
from app.core.types import Row
from app.data import Record
from app.tasks.question_answering.task import Answer, AnswerOptions, Answers, QuestionItem
from scripts.tasks.heads import IGNORED
from scripts.tasks.question_answering.answers import Gold, Repair, parse
from scripts.tasks.question_answering.task import QuestionAnsweringTraining, SpanLabel, labels_of
from scripts.tasks.spec import TrainingRow
from scripts.training.data import Broken, Example
from scripts.training.evaluation import Predictions, read_again
from scripts.training.recipe import Recipe
from tests.support.tiny_model import MAX_TOKENS, tiny_tokenizer, tokenizer_json

TASK = QuestionAnsweringTraining()
CONTEXT = "The film was very good. A bad film was not good."
SQUAD = {"question": "Was it?", "context": CONTEXT, "answers": {"text": ["very good", "good"], "answer_start": [13, 18]}}


def read(**columns: Any) -> Example | Broken:
    return parse(Record("train:1", {**SQUAD, **columns}), "train")


def target(**columns: Any) -> tuple[Gold, ...]:
    found = read(**columns)
    assert isinstance(found, Example), found
    gold: tuple[Gold, ...] = found.target
    return gold


def example(context: str = CONTEXT, *golds: tuple[int, int]) -> Example:
    return Example(QuestionItem("was it good", context), tuple(Gold(context[s:e], s, e) for s, e in golds), "train", "train:1")


def spelled(row: Row, start: int, end: int) -> str:
    text: str = tokenizers.Tokenizer.from_str(tokenizer_json()).decode(list(row.input_ids[start : end + 1]))
    return text


def answered(text: str, score: float = 0.9, no_answer: float = 0.1) -> Answers:
    return Answers([Answer(text, score, 0, len(text))], no_answer)


# reading


def test_squads_own_form_is_read() -> None:
    assert target() == (Gold("very good", 13, 22), Gold("good", 18, 22))


@pytest.mark.parametrize(
    "columns",
    [
        {"answers": [{"text": "very good", "answer_start": 13}]},
        {"answers": ["very good"]},
        {"answers": {"text": "very good", "answer_start": 13}},
        {"answers": {"text": ["  very good "], "answer_start": [11]}},
        {"answers": {"text": ["very good"], "answer_start": [13.0]}},
        {"answers": {"text": np.array(["very good"], object), "answer_start": np.array([13])}},
        {"answers": {"text": ["very good"], "answer_start": ["13"]}},
        {"answers": '{"text": ["very good"], "answer_start": [13]}'},
        {"answers": "{'text': array(['very good'], dtype=object), 'answer_start': array([13], dtype=int32)}"},
        {"answers": '["very good"]', "answer_start": "[13]"},
        {"answers": "very good", "answer_start": "13"},
        {"answers": "very good", "is_impossible": "False"},
    ],
)
def test_other_spellings_of_it_too(columns: dict[str, Any]) -> None:
    assert target(**columns) == (Gold("very good", 13, 22),)


def plainly(repair: Repair | None = None, **columns: Any) -> Example | Broken:
    kept = {key: value for key, value in SQUAD.items() if key != "answers"}
    return parse(Record("train:1", {**kept, **columns}), "train", repair)


@pytest.mark.parametrize("start", [43, 43.0, "43", "43.0", np.int64(43), np.float64(43)])
def test_a_plain_answer_is_learnt_where_it_is_said_to_stand(start: Any) -> None:
    found = plainly(answer="good", answer_start=start)
    assert isinstance(found, Example)
    assert found.target == (Gold("good", 43, 47),)


@pytest.mark.parametrize("start", [None, "", "nan", float("nan")])
def test_a_plain_answer_that_stands_once_needs_no_place(start: Any) -> None:
    found = plainly(answer="bad", answer_start=start)
    assert isinstance(found, Example)
    assert found.target == (Gold("bad", 26, 29),)


def test_an_answer_that_looks_like_a_list_is_text() -> None:
    found = plainly(answer="(1903, 1911)", context="It opened twice (1903, 1911).")
    assert isinstance(found, Example)
    assert found.target == (Gold("(1903, 1911)", 16, 28),)


@pytest.mark.parametrize(
    ("start", "why", "place"),
    [
        (None, "without 'answer_start' stands several times", 18),
        (44, "not at its 'answer_start'", 43),
        (16, "not at its 'answer_start'", 18),
        (-1, "not at its 'answer_start'", 18),
        (10**9, "not at its 'answer_start'", 43),
    ],
)
def test_a_wrong_or_missing_place_is_a_fault_unless_it_shall_be_repaired(start: int | None, why: str, place: int) -> None:
    found = plainly(answer="good", answer_start=start)
    assert isinstance(found, Broken)
    assert why in found.why
    assert "--repair-offsets" in found.why
    repair = Repair()
    found = plainly(repair, answer="good", answer_start=start)
    assert isinstance(found, Example)
    assert found.target == (Gold("good", place, place + 4),)
    assert (repair.num_first, repair.num_moved) == ((1, 0) if start is None else (0, 1))
    assert len(repair.notes) == 1


def test_what_was_repaired_is_told_before_training() -> None:
    rows = [{"question": f"q{n}?", "context": f"film {n}, film", "answer": "film", "answer_start": "7"} for n in range(10)]
    records = {"train": [Record(f"train:{i}", row) for i, row in enumerate(rows)]}
    notes = TASK.prepare(Recipe(data=["train"], no_answer_share=0.0, repair_offsets=True), records).notes
    assert "10 answers are taken at the place where they stand that is nearest to their answer_start" in notes
    with pytest.raises(InvalidSettings, match="10 × an answer stands in the context, but not at its 'answer_start'"):
        TASK.prepare(Recipe(data=["train"], no_answer_share=0.0), records)


@pytest.mark.parametrize("said", [True, "True", "true", "TRUE", "1", 1, 1.0, "1.0", np.bool_(True)])
def test_a_question_is_impossible_however_it_is_spelled(said: Any) -> None:
    assert target(is_impossible=said) == ()


@pytest.mark.parametrize("said", [False, "False", "0", 0, 0.0, None, "", float("nan")])
def test_a_question_is_possible_however_it_is_spelled(said: Any) -> None:
    assert len(target(is_impossible=said)) == 2


@pytest.mark.parametrize("columns", [{"is_impossible": True}, {"answers": {"text": [], "answer_start": []}}, {"answers": []}])
def test_a_question_may_have_no_answer(columns: dict[str, Any]) -> None:
    assert target(**columns) == ()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"answers": {"text": ["excellent"], "answer_start": [3]}}, "does not stand in the context"),
        ({"question": " "}, "'question'"),
        ({"context": None}, "'context'"),
        ({"context": "\ud800 good"}, "Unicode"),
        ({"answers": None}, "no answer; where the context does not answer the question, write an empty list"),
        ({"answers": [3]}, "answers"),
        ({"answers": {"text": ["good", "bad"], "answer_start": [18]}}, "2 answers and 1 times 'answer_start'"),
        ({"answers": {"text": ["good"], "answer_start": ["x"]}}, "'answer_start' is no whole number"),
        ({"answers": {"text": ["good"], "answer_start": [18.5]}}, "'answer_start' is no whole number"),
        ({"is_impossible": "perhaps"}, "'is_impossible' is neither"),
    ],
)
def test_what_cannot_be_used_is_told_without_its_text(columns: dict[str, Any], why: str) -> None:
    found = read(**columns)
    assert isinstance(found, Broken)
    assert why in found.why
    assert "excellent" not in found.why


def test_questions_about_one_text_are_not_torn_apart_by_the_split() -> None:
    rows = [
        {"question": f"q{number}?", "context": f"film {number // 4}", "answers": {"text": ["film"], "answer_start": [0]}}
        for number in range(80)
    ]
    records = {"train": [Record(f"train:{i}", row) for i, row in enumerate(rows)]}
    prepared = TASK.prepare(Recipe(data=["train"], no_answer_share=0.0), records)
    train = {entry.item.context for entry in prepared.dataset.train}
    held_out = {entry.item.context for entry in prepared.dataset.validation}
    assert (len(train), len(held_out)) == (16, 4)
    assert not train & held_out


def test_negatives_are_added_unless_the_data_has_its_own() -> None:
    rows = [
        {
            "question": f"who saw film{number}?",
            "context": f"anna{number} saw film{number} with berta",
            "answer": f"anna{number}",
        }
        for number in range(40)
    ]
    records = {"train": [Record(f"train:{i}", row) for i, row in enumerate(rows)]}
    prepared = TASK.prepare(Recipe(data=["train"], no_answer_share=0.5), records)
    assert sum(not entry.target for entry in prepared.dataset.train) == 16
    assert "similar context" in prepared.notes[0]
    records["train"].append(Record("train:99", {"question": "why?", "context": "no reason", "is_impossible": True}))
    own = TASK.prepare(Recipe(data=["train"], split=0.9, no_answer_share=0.5), records)
    assert sum(not entry.target for entry in own.dataset.train) <= 1


# rows


def test_labels_are_the_tokens_of_the_answers_with_their_share() -> None:
    (row,) = TASK.training_rows([example(CONTEXT, (13, 22), (13, 22), (18, 22), (26, 34))], tiny_tokenizer(), {})
    found = {spelled(row.row, start, end): share for start, end, share in row.label.spans}
    assert found == {"very good": 0.5, "good": 0.25, "bad film": 0.25}
    assert row.row.input_ids[row.label.first_context - 1] == 3  # [SEP]


def test_a_window_without_the_whole_answer_says_not_here() -> None:
    context = "a film . " * 20 + "very good"
    rows = TASK.training_rows([example(context, (len(context) - 9, len(context)))], tiny_tokenizer(), {})
    assert len(rows) > 2
    labels = [row.label.spans for row in rows]
    assert labels[0] == [(0, 0, 1.0)]
    ((start, end, share),) = labels[-1]
    assert (spelled(rows[-1].row, start, end), share) == ("very good", 1.0)


def test_a_question_without_an_answer_points_at_the_first_token() -> None:
    (row,) = TASK.training_rows([example(CONTEXT)], tiny_tokenizer(), {})
    assert row.label.spans == [(0, 0, 1.0)]


def test_a_batch_of_labels_sums_to_one_per_row_and_ignores_padding() -> None:
    rows = [
        TrainingRow(Row([1] * 5, [0] * 5), SpanLabel(2, [(2, 3, 0.5), (2, 4, 0.5)])),
        TrainingRow(Row([1] * 3, [0] * 3), SpanLabel(2, [(0, 0, 1.0)])),
    ]
    labels = TASK.labels(rows, 6)
    assert labels[0, :, 0].tolist() == [0, 0, 1, 0, 0, IGNORED]
    assert labels[0, :, 1].tolist() == [0, 0, 0, 0.5, 0.5, IGNORED]
    assert labels[1, :, 0].tolist() == [1, 0, 0, IGNORED, IGNORED, IGNORED]


@given(st.integers(0, 10_000), st.integers(8, 60), st.integers(1, 3))
def test_a_crop_keeps_the_question_and_an_answer(seed: int, limit: int, count: int) -> None:
    draw = random.Random(seed)
    context, length = list(range(100, 100 + draw.randrange(10, 50))), 4
    ids = [2, 50, 51, 3, *context, 3]
    spans = []
    for _ in range(count):
        start = draw.randrange(length, length + len(context) - 3)
        spans.append((start, start + draw.randrange(3), 1 / count))
    given_row = TrainingRow(Row(ids, [0] * 4 + [1] * (len(ids) - 4)), SpanLabel(length, spans))
    cut = TASK.crop(given_row, limit, random.Random(seed))
    kept = list(cut.row.input_ids)
    assert kept[:4] == ids[:4]
    assert kept[-1] == 3
    assert len(kept) == len(cut.row.token_type_ids) == min(limit, len(ids))
    assert kept[4:-1] == list(range(kept[4], kept[4] + len(kept) - 5))
    before = {tuple(ids[s : e + 1]) for s, e, _ in spans}
    assert cut.label.spans
    assert {tuple(kept[s : e + 1]) for s, e, _ in cut.label.spans} <= before
    assert sum(share for *_, share in cut.label.spans) == pytest.approx(1.0)


def test_a_crop_of_a_row_without_an_answer_still_says_so() -> None:
    row = TrainingRow(Row([2, 50, 3, *range(100, 140), 3], [0] * 44), SpanLabel(3, [(0, 0, 1.0)]))
    cut = TASK.crop(row, 12, random.Random(1))
    assert cut.row.num_tokens == 12
    assert cut.label.spans == [(0, 0, 1.0)]


def test_a_row_is_right_where_its_start_and_end_were_chosen_by_somebody() -> None:
    labels = np.zeros((2, 4, 2), np.float32)
    labels[0, 1, 0] = labels[0, 2, 1] = labels[1, 0, 0] = labels[1, 0, 1] = 1
    labels[1, 3] = IGNORED
    logits = np.zeros((2, 4, 2), np.float32)
    logits[0, 1, 0] = logits[0, 2, 1] = logits[1, 1, 0] = logits[1, 0, 1] = 5
    logits[1, 3] = 99
    assert TASK.num_correct(logits, labels) == (1, 2)


# figures


def test_figures_are_squads_in_percent_and_per_source() -> None:
    examples = [example(CONTEXT, (13, 22)), example(CONTEXT, (26, 34))]
    figures = TASK.evaluate([answered("very good"), answered("bad")], examples, {})
    assert figures["headline"] == {"exact_match": 50.0, "f1": 83.33, "rows": 2}
    assert figures["by_source"] == {"train": figures["headline"]}


def test_questions_without_an_answer_are_judged_as_in_v2() -> None:
    examples = [example(CONTEXT, (13, 22)), example(CONTEXT)]
    told = TASK.evaluate([answered("very good"), answered("bad", 0.2, 0.7)], examples, {})["headline"]
    assert told == {"exact_match": 100.0, "f1": 100.0, "v2_exact_match": 100.0, "v2_f1": 100.0, "rows": 2}
    missed = TASK.evaluate([answered("very good", 0.2, 0.7), answered("bad")], examples, {})["headline"]
    assert (missed["v2_f1"], missed["f1"]) == (0.0, 100.0)


def sure_of_the_same(examples: list[Example], sureness: Sequence[float]) -> Predictions:
    """Answers of a model that is more or less sure of "very good", whatever is asked."""
    tokenizer = tiny_tokenizer()
    task = TASK.serving_task(tokenizer, {})
    encoded: Any = task.encode([example.item for example in examples], TASK.serving_options())
    outputs = []
    tokens = TASK.training_rows([example(CONTEXT, (13, 22))], tokenizer, {})[0].label.spans[0]
    for coded, logit in zip(encoded, sureness, strict=True):
        logits = np.zeros((coded.rows[0].num_tokens, 2), np.float32)
        logits[tokens[0], 0] = logits[tokens[1], 1] = logit
        outputs.append([{"logits": logits}])
    answers = [task.decode(coded, output, TASK.serving_options()) for coded, output in zip(encoded, outputs, strict=True)]
    return Predictions(answers, encoded, outputs)


def test_a_model_too_sure_of_itself_becomes_as_sure_as_it_is_right() -> None:
    # of ten answers three are right where it is sure, and seven where it is surer
    examples = [example(CONTEXT, (13, 22) if index % 10 < (3 if index < 100 else 7) else (0, 8)) for index in range(200)]
    predictions = sure_of_the_same(examples, [6.0] * 100 + [9.0] * 100)
    found = TASK.calibrate(predictions, examples, tiny_tokenizer(), {})
    task = TASK.serving_task(tiny_tokenizer(), found.task_options)
    scaled = read_again(task, TASK.serving_options(), predictions)
    assert [scaled.answers[number].answers[0].score for number in (0, 199)] == pytest.approx([0.3, 0.7], abs=0.01)
    assert found.metrics["expected_calibration_error_before"] > 0.4
    assert found.metrics["expected_calibration_error"] < 0.15
    assert (found.metrics["rows"], found.metrics["selective"]["score"]) == (200, None)
    assert "no_answer" not in found.metrics


def test_without_any_answer_there_is_nothing_to_calibrate() -> None:
    assert TASK.calibrate(Predictions([], [], []), [example(CONTEXT)], tiny_tokenizer(), {}).task_options == {}


def test_contexts_that_do_not_answer_are_made_only_where_there_are_none() -> None:
    fish = "The fish swam in the sea. It was a good fish."
    examples = [example(CONTEXT, (13, 22)), replace(example(fish, (4, 8)), item=QuestionItem("what swam", fish))]
    made = TASK.calibration_examples(examples)
    assert [entry.target for entry in made] == [(), ()]
    assert {entry.item.context for entry in made} == {CONTEXT, fish}
    assert TASK.calibration_examples([*examples, example(CONTEXT)]) == []


# golden


def test_golden_requests_are_json_objects() -> None:
    golden = ['{"question": "q?", "context": "c"}']
    assert TASK.golden_items(Recipe(golden=golden)) == [{"question": "q?", "context": "c"}]
    assert all({"question", "context"} == set(item) for item in TASK.golden_items(Recipe()))
    for wrong in ("good", '{"question": "q?"}', '{"text": "q?"}', "3"):
        with pytest.raises(InvalidSettings, match="golden"):
            TASK.golden_items(Recipe(golden=[wrong]))


def test_windows_hold_no_more_than_the_model_reads() -> None:
    rows = TASK.training_rows([example("good " * 200)], tiny_tokenizer(), {})
    assert max(row.row.num_tokens for row in rows) == MAX_TOKENS


def test_an_answer_that_a_window_cuts_in_two_is_not_in_it() -> None:
    context = "film " * 23 + "very good " + "film " * 20
    task = TASK.serving_task(tiny_tokenizer(), {})
    for shift in range(8):
        item = QuestionItem("a " * (shift + 1), context)
        (encoded,) = task.encode([item], AnswerOptions(stride=0))
        start = context.index("very good")
        gold = Gold("very good", start, start + 9)
        spans = [found.spans for found in labels_of(encoded.state, [gold])]  # type: ignore[union-attr]
        whole = [span for span in spans if span != [(0, 0, 1.0)]]
        assert len(whole) <= 1
        for ((first, last, share),) in whole:
            assert (last - first, share) == (1, 1.0)


def test_columns_are_found_however_their_names_are_written() -> None:
    row = {"Question": "How was it?", "CONTEXT": "It was good.", "Answers": "good", "Answer_Start": "7"}
    found = parse(Record("train:1", row), "train", Repair())
    assert isinstance(found, Example)
    assert found.target == (Gold("good", 7, 11),)


def test_span_loss_is_the_cross_entropy_against_the_annotators_shares() -> None:
    starts, ends = torch.tensor([[1.0, 2.0, 0.0, 99.0]]), torch.tensor([[0.0, 1.0, 3.0, 99.0]])
    labels = torch.tensor([[[0.0, 0.0], [0.75, 0.0], [0.25, 1.0], [IGNORED, IGNORED]]])
    loss = TASK.loss({"start_logits": starts, "end_logits": ends}, labels)

    def log_softmax(values: list[float]) -> np.ndarray:
        array = np.array(values)
        return np.asarray(array - np.log(np.exp(array).sum()))

    wanted_start = -(0.75 * log_softmax([1, 2, 0])[1] + 0.25 * log_softmax([1, 2, 0])[2])
    wanted_end = -log_softmax([0, 1, 3])[2]
    assert loss.item() == pytest.approx((wanted_start + wanted_end) / 2, abs=1e-5)


def test_a_shares_loss_is_least_where_the_model_says_the_same() -> None:
    labels = torch.tensor([[[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]])

    def loss(starts: list[float]) -> float:
        return TASK.loss({"start_logits": torch.tensor([starts]), "end_logits": torch.zeros(1, 3)}, labels).item()

    assert loss([5.0, 5.0, -5.0]) < loss([9.0, 1.0, -5.0])
