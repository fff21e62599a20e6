"""The parity gate counts decisions, not ties: what the reference decides by less than rounding moves a logit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from app.core.types import Row
from app.tasks.base import Encoded
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.question_answering.task import Answer, Answers, QuestionItem
from app.tasks.text_classification.task import ClassificationItem, TextClassification
from scripts.export.formatting import describe_parity, without_option
from scripts.export.verify import EXPORTED, QUANTIZED, Reference, median_error
from scripts.tasks.extractive_summarization import SummarizationTraining
from scripts.tasks.question_answering.task import QuestionAnsweringTraining
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.tasks.text_regression import TextRegressionTraining
from scripts.training.data import Example
from scripts.training.evaluation import Predictions
from tests.support.tiny_model import tiny_tokenizer

SINGLE = {"labels": ["a", "b"], "problem_type": "single_label_classification"}
MULTI = {"labels": ["a", "b"], "problem_type": "multi_label_classification"}


def predictions(task: TextClassification, logits: Sequence[Sequence[float]]) -> Predictions:
    encoded = Encoded([Row([2, 4, 3], [0, 0, 0])], 3, False)
    outputs = [[{"logits": np.array(row, np.float32)}] for row in logits]
    options = TextClassificationTraining().serving_options()
    return Predictions([task.decode(encoded, output, options) for output in outputs], [encoded] * len(outputs), outputs)


def compared(reference: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]], gate=QUANTIZED, options=SINGLE):  # type: ignore[no-untyped-def]
    training = TextClassificationTraining()
    task = training.serving_task(tiny_tokenizer(), options)
    examples = [Example(ClassificationItem("a film"), "a", "f.csv", f"f.csv:{n}") for n in range(len(reference))]
    expected = Reference(training, task, options, examples, predictions(task, reference))
    return expected.compare(predictions(task, candidate), gate).parity


def rows(count: int, margin: float, changed: int, moved: float = 0.1) -> tuple[list[list[float]], list[list[float]]]:
    """Every logit moves by `moved`; of the first rows, which the reference decides by `margin`, the decision changes."""
    clear, clear_moved = [3.0, 0.0], [3.0 + moved, -moved]
    tight, tight_moved = [margin, 0.0], [margin / 2 - 0.01, margin / 2 + 0.01]
    return [tight] * changed + [clear] * (count - changed), [tight_moved] * changed + [clear_moved] * (count - changed)


@pytest.mark.parametrize(
    ("count", "margin", "changed", "ties", "passed"),
    [
        (1000, 0.19, 20, 20, True),  # within twice the median error of 0.1
        (1000, 0.21, 20, 0, False),  # beyond it: decisions
        (1000, 0.21, 5, 0, True),  # half of a hundredth
        (1000, 0.21, 6, 0, False),
        (1000, 0.19, 25, 25, True),  # five more than a fiftieth, which count
        (1000, 0.19, 26, 26, False),
        (60, 0.5, 1, 0, True),  # of few rows one
        (60, 0.5, 2, 0, False),
        (60, 0.19, 2, 2, True),  # one is a tie, and the other counts
        (199, 0.5, 1, 0, True),
    ],
)
def test_a_changed_decision_counts_unless_it_is_a_tie(count: int, margin: float, changed: int, ties: int, passed: bool) -> None:
    parity = compared(*rows(count, margin, changed))
    assert (parity.num_differing, parity.ties, parity.passed) == (changed, ties, passed)


def test_the_exact_graph_may_not_hide_behind_ties() -> None:
    assert not compared(*rows(1000, 0.19, 1), gate=EXPORTED).passed


def test_of_several_labels_each_that_changed_must_be_near_even_odds() -> None:
    reference = [[0.1, 0.1], [0.1, 0.5], *[[3.0, -3.0]] * 98]
    candidate = [[-0.1, -0.1], [-0.1, -0.1], *[[3.1, -3.1]] * 98]
    parity = compared(reference, candidate, options=MULTI)
    assert (parity.num_differing, parity.ties) == (2, 1)


CONTEXT = "the film was good and the film was very bad"


@pytest.mark.parametrize(("other", "is_tie"), [("very bad", True), ("good", False), ("", False), ("nowhere", False)])
def test_a_span_is_a_tie_where_both_answers_have_nearly_the_same_logits(other: str, is_tie: bool) -> None:
    training = QuestionAnsweringTraining()
    task, options = training.serving_task(tiny_tokenizer(), {}), training.serving_options()
    item = QuestionItem("was the film good", CONTEXT)
    (encoded,) = task.encode([item], options)
    assert isinstance(encoded, Encoded)
    logits = np.full((encoded.rows[0].num_tokens, 2), -5.0, np.float32)
    first = encoded.state.first_context
    offsets = [CONTEXT[start:end] for start, end in encoded.state.context.offsets]
    for start, end, value in (("film", "film", 5.0), ("very", "bad", 4.9)):
        logits[first + offsets.index(start), 0] = logits[first + offsets.index(end), 1] = value
    answers = Answers([Answer(other, 0.5, 0, 0)] if other else [], 0.1)
    assert training.is_tie(task, item, encoded, [{"logits": logits}], answers, 0.2) is is_tie


@pytest.mark.parametrize(("reach", "is_tie"), [(0.4, True), (0.1, False)])
def test_sentences_are_a_tie_where_rounding_would_choose_the_others(reach: float, is_tie: bool) -> None:
    training = SummarizationTraining()
    task, options = training.serving_task(tiny_tokenizer(), {}), training.serving_options()
    item = SummaryItem("Good film. Bad day. Very long. Not dull. It was.")
    (encoded,) = task.encode([item], options)
    assert isinstance(encoded, Encoded)
    row = encoded.rows[0]
    counts = np.diff([*row.output_positions, row.num_tokens])
    outputs = [
        [{"logits": np.repeat(np.array(values, np.float32), counts)[:, None]}]
        for values in ([2.0, 2.0, 1.0, 0.9, -5.0], [2.0, 2.0, 0.9, 1.0, -5.0])
    ]
    answer, other = (task.decode(encoded, output, options) for output in outputs)
    assert not task.same_decision(answer, other, options)
    assert training.is_tie(task, item, encoded, outputs[0], other, reach) is is_tie


def test_numbers_have_no_ties() -> None:
    encoded = Encoded([Row([2, 4, 3], [0, 0, 0])], 3, False)
    assert not TextRegressionTraining().is_tie(None, None, encoded, [], None, 1e9)


def test_the_median_leaves_out_what_is_not_finite() -> None:
    task = TextClassificationTraining().serving_task(tiny_tokenizer(), SINGLE)
    good, bad = predictions(task, [[1.0, 0.0], [1.0, 0.0]]), predictions(task, [[1.5, 0.5], [1.0, 0.0]])
    bad.outputs[1][0]["logits"][0] = np.inf
    assert median_error(good, bad) == 0.5


def test_ties_are_said() -> None:
    parity = compared(*rows(1000, 0.19, 20))
    assert describe_parity(parity) == (
        "same prediction as PyTorch: 98 % (1,000 rows), 20 of the 20 that differ are ties, largest logit error 0.1"
    )


@pytest.mark.parametrize(
    "words", [["a.csv", "--storage", "int8", "--epochs", "1"], ["a.csv", "--storage=int8", "--epochs", "1"]]
)
def test_advice_does_not_repeat_what_it_replaces(words: list[str]) -> None:
    assert without_option(words, "--storage") == ["a.csv", "--epochs", "1"]
