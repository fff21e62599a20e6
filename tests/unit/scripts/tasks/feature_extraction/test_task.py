"""What feature extraction says of itself offline: labelled pairs, and how near all vectors together are to PyTorch's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from app.core.errors import InvalidSettings
from app.tasks.feature_extraction.task import Embedding, EmbedItem, Similarities, SimilarityItem
from scripts.export.eval_data import load_eval_data
from scripts.tasks import published_names, task_names
from scripts.tasks.feature_extraction import SPEC
from scripts.tasks.feature_extraction.task import num_wrong_neighbours
from scripts.training.data import Example
from scripts.training.recipe import Recipe

GENERATOR = np.random.default_rng(0)


def write(path: Path, rows: list[dict[str, Any]]) -> Recipe:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Recipe(validation=[str(path)])


def embeddings(vectors: np.ndarray) -> list[Embedding]:
    return [Embedding(vector.tolist()) for vector in vectors]


def turned(vectors: np.ndarray, by: float) -> np.ndarray:
    """Each with a part of another direction, so that the cosine with it is about 1 - by."""
    noise = GENERATOR.normal(size=vectors.shape)
    noise -= (noise * vectors).sum(1, keepdims=True) / (vectors**2).sum(1, keepdims=True) * vectors
    noise *= np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    mixed: np.ndarray = vectors + np.sqrt(2 * by) * noise
    return mixed


def test_it_is_published_and_not_offered_to_whoever_trains() -> None:
    assert SPEC.name in published_names()
    assert SPEC.name not in task_names()
    with pytest.raises(InvalidSettings, match="cannot be trained here; publish one: hooper models add"):
        SPEC.prepare(Recipe(), {})


def test_pairs_with_a_number_are_judged_by_the_rank_of_their_cosines(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {number}", "sentence2": "b", "score": number} for number in range(4)]
    data = load_eval_data(SPEC, {}, write(tmp_path / "pairs.jsonl", rows))
    assert data.is_labelled
    assert data.examples[1].item == SimilarityItem("a 1", ("b",))
    answers = [Similarities([score], np.eye(2)) for score in (0.1, 0.2, 0.9, 0.95)]
    headline = SPEC.evaluate(answers, data.examples, {})["headline"]
    assert headline == {"spearman": 1.0, "pearson": 0.9329, "rows": 4}
    (worst,) = SPEC.worst_errors(_report(answers[::-1], data.examples), 1)
    assert worst["fields"] == {"text": "a 0", "text_pair": "b"}


def _report(answers: list[Similarities], examples: Any) -> Any:
    class Evaluated:
        predictions = type("Predictions", (), {"answers": answers})

    Evaluated.examples = examples  # type: ignore[attr-defined]
    return Evaluated


def test_texts_alone_are_texts_and_a_number_wants_two(tmp_path: Path) -> None:
    data = load_eval_data(SPEC, {}, write(tmp_path / "texts.jsonl", [{"text": "a"}, {"text": "b"}]))
    assert (data.is_labelled, data.examples[0].item) == (False, EmbedItem("a"))
    with pytest.raises(InvalidSettings, match="a number says how alike two texts are"):
        load_eval_data(SPEC, {}, write(tmp_path / "one.jsonl", [{"text": "a", "score": 1}]))


@pytest.mark.parametrize(
    ("share", "by", "agrees"), [(1.0, 0.0005, True), (1.0, 0.002, False), (0.002, 0.5, True), (0.05, 0.5, False)]
)
def test_99_of_100_vectors_must_be_near_to_pytorchs(share: float, by: float, agrees: bool) -> None:
    """Each text has a twin, so that it is clear which one is nearest."""
    twins = np.repeat(GENERATOR.normal(size=(250, 64)), 2, axis=0)
    vectors = turned(twins, 0.01)
    others = vectors.copy()
    count = round(share * len(vectors))
    others[:count] = turned(vectors[:count], by)
    difference = SPEC.set_difference(embeddings(vectors), embeddings(others))
    assert (difference == "") == agrees, difference
    if not agrees:
        assert "at its 1st percentile, wanted is 0.999" in difference


def test_who_finds_another_nearest_neighbour_finds_a_wrong_one() -> None:
    vectors = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.9, 0.0, 0.2], [0.0, 0.0, 1.0]])
    assert num_wrong_neighbours(vectors, vectors) == 0
    swapped = vectors[[0, 2, 1, 3]]
    assert num_wrong_neighbours(vectors, swapped) == 2  # the first, and the last
    tied = np.array([[1.0, 0.0], [0.9, 0.1], [0.9, 0.1001]])
    assert num_wrong_neighbours(tied, tied[[0, 2, 1]]) == 0


def test_an_answer_that_is_a_pair_is_compared_by_all_of_its_vectors() -> None:
    vectors = GENERATOR.normal(size=(4, 8))
    same = [Similarities([0.0], vectors[:2]), Similarities([0.0], vectors[2:])]
    other = [Similarities([0.0], vectors[:2]), Similarities([0.0], -vectors[2:])]
    assert SPEC.set_difference(same, same) == ""
    assert "cosine" in SPEC.set_difference(same, other)


def test_an_example_and_an_answer_are_told_in_words() -> None:
    example = Example(SimilarityItem("a", ("b",)), 2.5, "pairs", "pairs:1")
    assert SPEC.label_texts(example) == ["2.5"]
    assert SPEC.answer_texts(Similarities([0.25], np.eye(2)), {}) == ["0.2500"]
    assert SPEC.answer_texts(Embedding([0.1, 0.2]), {}) == ["2 numbers"]
