"""Rankings offline: queries stay together, are judged one by one, and a checkpoint is known by its signs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from transformers import BertConfig

from app.core.errors import InvalidSettings
from app.tasks.text_ranking.task import RankingItem, Relevance
from scripts.tasks.spec import Prepared
from scripts.tasks.text_ranking import SPEC as TASK
from scripts.tasks.text_ranking import ndcg, reciprocal_rank
from scripts.training.columns import TableSample
from scripts.training.data import Example
from scripts.training.recipe import Recipe
from scripts.training.records import read_records
from tests.support.tiny_model import tiny_tokenizer

CROSS_ENCODER = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def pairs(num_queries: int = 10, levels: tuple[Any, ...] = (1, 0)) -> list[dict[str, Any]]:
    return [
        {"query": f"query {query}", "document": f"document {query} {level}", "label": level}
        for query in range(num_queries)
        for level in levels
    ]


def prepare(path: Path, rows: list[dict[str, Any]], **keys: Any) -> Prepared:
    source = write(path / "data.jsonl", rows)
    recipe = Recipe(data=[source], task="text-ranking", **keys)
    return TASK.prepare(recipe, {source: read_records(source)})


def example(query: str, relevance: float, document: str = "x") -> Example:
    return Example(RankingItem(query, document), relevance, "a", "a:1")


def answers(*logits: float) -> list[Relevance]:
    return [Relevance(1 / (1 + np.exp(-logit)), logit) for logit in logits]


# --- data


def test_the_documents_of_a_query_are_held_out_together(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, pairs(20, (2, 1, 0))).dataset
    trained, held_out = ({entry.item.query for entry in part} for part in (dataset.train, dataset.validation))
    assert trained
    assert held_out
    assert trained & held_out == set()


def test_relevance_of_any_range_is_learnt_between_0_and_1(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, pairs(10, (3, 1.5, 0)))
    assert {entry.target for entry in prepared.dataset.train} == {1.0, 0.5, 0.0}
    assert prepared.task_options == {"labels": ["relevance"]}
    assert "10 queries, relevance from 0 to 3" in prepared.notes[0]
    rows = TASK.training_rows(prepared.dataset.train, tiny_tokenizer(), prepared.task_options)
    assert TASK.labels(rows, 8).dtype == np.float32
    assert any(rows[0].row.token_type_ids)


def test_true_and_false_are_relevances(tmp_path: Path) -> None:
    assert {entry.target for entry in prepare(tmp_path, pairs(10, (True, False))).dataset.train} == {1.0, 0.0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pairs(10, (1,)), "every row has the relevance 1"),
        (pairs(10, ("yes", "no")), "no row has a relevance that is a number"),
        (
            [{"query": f"q {number}", "document": f"d {number}", "label": number % 2} for number in range(20)],
            "queries that are held out has both better and worse documents",
        ),
    ],
)
def test_data_that_no_ranking_can_be_learnt_from_is_refused(rows: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=message):
        prepare(tmp_path, rows)


def test_the_task_is_known_by_its_columns(tmp_path: Path) -> None:
    def surely(*names: str) -> float:
        rows = read_records(write(tmp_path / "data.jsonl", [dict.fromkeys(names, "1")] * 5))
        return TASK.recognizes(Recipe(data=["x"]), TableSample.of(rows))

    assert surely("query", "passage", "label") == surely("query", "document", "relevance") == 0.9
    assert surely("query", "document") == surely("question", "context", "label") == surely("text", "label") == 0.0


# --- figures


def test_ndcg_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        relevance, scores = generator.integers(0, 4, 15) / 3, generator.normal(size=15)
        if relevance.max() > 0:
            ranked = relevance[np.argsort(-scores)].tolist()
            assert ndcg(ranked) == pytest.approx(ndcg_score([relevance], [scores], k=10))


def test_the_reciprocal_rank_is_that_of_the_first_relevant_document() -> None:
    assert reciprocal_rank([0.0, 0.4, 1.0, 1.0]) == pytest.approx(1 / 3)
    assert reciprocal_rank([0.0] * 10 + [1.0]) == 0.0


def test_figures_are_means_over_queries_and_ties_are_no_merit() -> None:
    examples = [example("a", 1.0), example("A ", 0.0), example("b", 0.0), example("b", 1.0), example("c", 1.0)]
    right, wrong, tied = answers(2, 1, 1, 2, 0), answers(1, 2, 2, 1, 0), answers(1, 1, 1, 1, 0)
    assert TASK.evaluate(right, examples, {})["headline"] == {"ndcg_at_10": 1.0, "mrr_at_10": 1.0, "queries": 2, "rows": 5}
    assert TASK.evaluate(wrong, examples, {})["headline"]["mrr_at_10"] == 0.5
    assert TASK.evaluate(tied, examples, {}) == TASK.evaluate(wrong, examples, {})


def test_row_scores_average_to_the_figure_that_models_are_compared_by() -> None:
    examples = [
        example("a", 1.0),
        example("a", 0.0),
        example("a", 0.0),
        example("b", 0.0),
        example("b", 1.0),
        example("c", 1.0),
    ]
    given = answers(1, 2, 0, 5, 6, 0)
    figure = TASK.evaluate(given, examples, {})["headline"][TASK.primary_metric]
    assert TASK.row_scores(given, examples).mean() == pytest.approx(figure, abs=1e-4)
    assert np.isnan(TASK.row_scores(given[:1], examples[:1])).all()


def test_the_loss_is_the_binary_cross_entropy_of_the_one_logit() -> None:
    class Outputs:
        logits = torch.tensor([[0.0], [2.0]])

    expected = (np.log(2) + np.log(1 + np.exp(-2))) / 2
    assert float(TASK.loss(Outputs(), torch.tensor([1.0, 1.0]))) == pytest.approx(expected)


def test_the_baseline_is_better_where_words_are_shared() -> None:
    train = [example("q", 1.0, text) for text in ("red cars", "blue boats", "green trees")]
    judged = [example("red cars", 1.0, "red cars are fast"), example("red cars", 0.0, "boats are slow")]
    ((name, given),) = list(TASK.baselines(train, judged, {}))
    assert name == "TF-IDF cosine"
    assert TASK.evaluate(given, judged, {})["headline"]["ndcg_at_10"] == 1.0


# --- checkpoints


def config(num_labels: int = 1, **more: Any) -> BertConfig:
    return BertConfig(num_labels=num_labels, **more)


def test_a_checkpoint_is_known_by_what_its_makers_wrote() -> None:
    assert "sentence_transformers" in TASK.head_sign(config(**CROSS_ENCODER), "")
    old = config(sbert_ce_default_activation_function="torch.nn.modules.activation.Sigmoid")
    assert "sbert_ce_default_activation_function" in TASK.head_sign(old, "")
    assert "pipeline_tag" in TASK.head_sign(config(), "text-ranking")
    assert TASK.head_sign(config(), "text-classification") == ""


def test_its_own_activation_is_told_where_it_is_another_one() -> None:
    options, (note,) = TASK.checkpoint_options(config(**CROSS_ENCODER), [])
    assert options == {"labels": ["relevance"]}
    assert "names Identity for its scores; the service tells the sigmoid" in note
    sigmoid = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    assert TASK.checkpoint_options(config(**sigmoid), []) == ({"labels": ["relevance"]}, [])


def test_of_several_outputs_the_last_is_named() -> None:
    options, (note,) = TASK.checkpoint_options(config(2, id2label={0: "no", 1: "yes"}), [])
    assert options == {"labels": ["no", "yes"]}
    assert "the probability of the last, 'yes', is the score" in note
