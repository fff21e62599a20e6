"""Scores of labels that a request brings: those of transformers' pipeline, whatever the order of the model's own labels."""

from __future__ import annotations

import numpy as np
import pytest

from app.tasks.zero_shot_classification.entailment import entailment_labels, refusal, scores_of

NLI = ("contradiction", "neutral", "entailment")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (NLI, ("entailment", "contradiction")),
        (("entailment", "neutral", "contradiction"), ("entailment", "contradiction")),
        (("neutral", "ENTAILMENT", "CONTRADICTION"), ("ENTAILMENT", "CONTRADICTION")),
        (("not_entailment", "entailment"), ("entailment", "not_entailment")),
        (("entailment", "not_entailment"), ("entailment", "not_entailment")),
        (("Entailed", "other"), ("Entailed", "other")),
        (("not_entailment", "yes"), None),
        (("entailment", "a", "b"), None),
        (("entailment",), None),
        (("negative", "positive"), None),
        ((), None),
    ],
)
def test_entailment_and_contradiction_are_known_by_their_names(labels: tuple[str, ...], expected: object) -> None:
    assert entailment_labels(labels) == expected
    assert bool(refusal({"labels": labels})) == (expected is None)


def test_a_model_that_gives_texts_several_labels_is_no_model_of_inference() -> None:
    assert refusal({"labels": NLI, "problem_type": "multi_label_classification"})


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values)
    shares: np.ndarray = exponentials / exponentials.sum(-1, keepdims=True)
    return shares


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("num_labels", [1, 2, 5])
def test_scores_are_those_of_the_pipelines_own_formula(num_labels: int, multi_label: bool) -> None:
    """`ZeroShotClassificationPipeline.postprocess` of transformers 4.57, for the order contradiction, neutral, entailment."""
    logits = np.random.default_rng(7).normal(size=(num_labels, 3), scale=3)
    by_itself = multi_label or num_labels == 1
    expected = softmax(logits[:, [0, 2]])[:, 1] if by_itself else softmax(logits[:, 2])
    given = [dict(zip(NLI, row, strict=True)) for row in logits.tolist()]
    assert scores_of(given, multi_label) == pytest.approx(expected.tolist(), rel=1e-9)


def test_large_logits_do_not_overflow() -> None:
    assert scores_of([{"entailment": 900.0, "no": 0.0}, {"entailment": -900.0, "no": 0.0}], False) == [1.0, 0.0]
