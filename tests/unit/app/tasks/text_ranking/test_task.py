"""Relevance of documents: rows as sentence-transformers makes them, windows of long documents, scores of any head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import EngineFailed, InvalidInput, TooLarge
from app.tasks.base import Encoded, Result
from app.tasks.text_ranking.task import (
    RankingItem,
    RankingOptions,
    Relevance,
    TextRanking,
    by_relevance,
    longest_first,
)
from tests.support.tiny_model import VOCABULARY, tiny_tokenizer

ITEM = RankingItem("good film", "the film was very good .")
FILM, GOOD = VOCABULARY["film"], VOCABULARY["good"]


def ranking(max_tokens: int = 32, labels: tuple[str, ...] = ("relevance",), overlap: int = 64) -> TextRanking:
    return TextRanking(tiny_tokenizer(max_tokens), labels, overlap)


def encoded_of(task: TextRanking, item: RankingItem, **options: Any) -> Encoded:
    (encoded,) = task.encode([item], RankingOptions(**options))
    assert isinstance(encoded, Encoded), encoded
    return encoded


def output(*logits: float) -> dict[str, np.ndarray]:
    return {"logits": np.array(logits, np.float32)}


def decoded(task: TextRanking, *outputs: dict[str, np.ndarray]) -> Relevance:
    encoded = encoded_of(task, ITEM)
    return task.decode(encoded, outputs, RankingOptions())


# --- rows


def test_a_pair_is_the_row_that_the_tokenizer_makes_of_it() -> None:
    """The query first, then the document as second sequence, without the blanks at their ends."""
    (window,) = tiny_tokenizer().windows([(ITEM.query, ITEM.document)])[0]
    (row,) = encoded_of(ranking(), RankingItem(f"  {ITEM.query}\n", f"\t{ITEM.document} ")).rows
    assert (list(row.input_ids), list(row.token_type_ids)) == (list(window.input_ids), list(window.token_type_ids))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(8, 32))
def test_a_pair_is_cut_as_the_tokenizer_cuts_it(num_query: int, num_document: int, max_tokens: int) -> None:
    query, document = " ".join(["film"] * num_query), " ".join(["good"] * num_document)
    window = tiny_tokenizer(max_tokens).windows([(query, document)])[0][0]
    encoded = encoded_of(ranking(max_tokens), RankingItem(query, document), truncation="truncate")
    (row,) = encoded.rows
    assert list(row.input_ids) == list(window.input_ids)
    assert encoded.truncated == (num_query + num_document + 3 > max_tokens)
    kept = longest_first(num_query, num_document, max_tokens - 3)
    assert kept == (list(row.input_ids).count(FILM), list(row.input_ids).count(GOOD))


@given(st.integers(1, 30), st.integers(1, 200), st.integers(0, 64))
def test_windows_read_all_of_a_document_each_with_the_query(num_query: int, num_document: int, overlap: int) -> None:
    words = " ".join(["good", "bad", "was", "the", "very"][number % 5] for number in range(num_document))
    encoded = encoded_of(ranking(16, overlap=overlap), RankingItem(" ".join(["film"] * num_query), words))
    read = {place for window in encoded.state.windows for place in window}
    assert read == set(range(num_document))
    num_kept = min(num_query, 13 // 2) if num_query + num_document > 13 else num_query
    for row in encoded.rows:
        assert row.num_tokens <= 16
        assert list(row.input_ids).count(FILM) >= min(num_kept, num_query)
    assert encoded.truncated == (list(encoded.rows[0].input_ids).count(FILM) < num_query)
    assert encoded.num_tokens == sum(row.num_tokens for row in encoded.rows)


def test_a_long_document_is_cut_on_the_side_that_the_caller_names() -> None:
    item = RankingItem("film", "good " * 20 + "bad " * 20)
    rows = {
        side: encoded_of(ranking(16), item, truncation="truncate", truncation_side=side).rows[0] for side in ("left", "right")
    }
    assert GOOD in rows["right"].input_ids
    assert VOCABULARY["bad"] not in rows["right"].input_ids
    assert GOOD not in rows["left"].input_ids


def test_what_is_too_long_is_refused_where_that_is_wished() -> None:
    (error,) = ranking(8).encode([RankingItem("film", "good " * 20)], RankingOptions("error"))
    assert isinstance(error, TooLarge)
    assert error.truncations == ("truncate", "window")


def test_an_empty_text_is_refused_by_its_name_and_alone() -> None:
    empty_query, empty_document, good = ranking().encode(
        [RankingItem(" ", "good"), RankingItem("film", "\n"), ITEM], RankingOptions()
    )
    assert isinstance(empty_query, InvalidInput)
    assert isinstance(empty_document, InvalidInput)
    assert (empty_query.field, empty_document.field) == ("query", "document")
    assert isinstance(good, Encoded)


def test_a_query_that_many_documents_share_is_tokenized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = ranking()
    seen: list[str] = []
    encode = task._pieces.encode
    monkeypatch.setattr(task._pieces, "encode", lambda texts: seen.extend(texts) or encode(texts))
    task.encode([RankingItem("good film", word) for word in ("a", "the", "bad")], RankingOptions())
    assert seen == ["good film", "a", "the", "bad"]


# --- scores


def test_the_score_of_one_logit_is_its_sigmoid() -> None:
    answer = decoded(ranking(), output(1.5))
    assert answer == Relevance(pytest.approx(1 / (1 + np.exp(-1.5))), 1.5)


def test_of_several_outputs_the_score_is_the_probability_of_the_last() -> None:
    logits = np.array([0.3, -1.2, 2.1])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert decoded(ranking(labels=("a", "b", "c")), output(*logits)).score == pytest.approx(expected[-1], rel=1e-6)


def test_the_best_window_of_a_document_counts() -> None:
    assert decoded(ranking(), output(-2.0), output(3.0), output(1.0)).logit == 3.0


def test_scores_that_are_rounded_to_ties_are_ordered_by_their_logits() -> None:
    """The sigmoid of 40 and that of 50 are both 1; of equal logits the first one sent comes first."""
    task = ranking()
    answers = [decoded(task, output(logit)) for logit in (40.0, 50.0, -3.0, 50.0)]
    assert answers[0].score == answers[1].score == 1.0
    results = [Result(answer, 1, False) for answer in answers]
    ranked = by_relevance([*results[:2], EngineFailed("no"), *results[2:]])
    assert [number for number, _ in ranked] == [1, 4, 0, 3]


def test_decisions_are_the_same_where_scores_are_near() -> None:
    task, answer = ranking(), Relevance(0.5, 0.0)
    assert task.same_decision(answer, Relevance(0.54, 0.16), RankingOptions())
    assert not task.same_decision(answer, Relevance(0.56, 0.24), RankingOptions())
    assert task.decision(answer, RankingOptions()).confidence == 0.5


@pytest.mark.parametrize(
    ("score", "logit", "difference"),
    [
        (0.5, 0.0, ""),
        (0.52, 0.08, ""),
        (0.4, -0.4, "the document scores 0.5000, was 0.4000"),
        (0.5, 0.9, "the logit is 0.000, was 0.900"),
        (float("nan"), 0.0, "the document scores 0.5000, was nan"),
    ],
)
def test_a_model_that_answers_otherwise_than_published_is_found_out(score: float, logit: float, difference: str) -> None:
    task = ranking()
    expected = {"score": score, "logit": logit}
    assert task.golden_difference(encoded_of(task, ITEM), [output(0.0)], expected, 0.05) == difference


def test_of_large_logits_only_a_part_may_change() -> None:
    task = ranking()
    expected = {"score": 0.0, "logit": -10.0}
    assert task.golden_difference(encoded_of(task, ITEM), [output(-11.0)], expected, 0.05) == ""
    assert "was -10.000" in task.golden_difference(encoded_of(task, ITEM), [output(-12.0)], expected, 0.05)


# --- explanations


def test_words_are_places_of_the_callers_own_texts_in_the_window_that_counts() -> None:
    item = RankingItem("  good film", "\n" + "bad . " * 10 + "very good")
    task = ranking(16, overlap=2)
    encoded = encoded_of(task, item)
    outputs = [output(-1.0)] * (len(encoded.rows) - 1) + [output(2.0)]
    passage = task.passage(item, encoded, outputs, None)
    fields = {"query": item.query, "document": item.document}
    assert {word.field for word in passage.words} == set(fields)
    assert all(fields[word.field][word.start : word.end] == word.text for word in passage.words)
    assert [word.text for word in passage.words][-2:] == ["very", "good"]
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    for word in passage.words:
        assert [passage.row.input_ids[place] for place in word.positions] == [ids[word.text]]
    assert passage.log_odds(output(2.0)) == 2.0
    with pytest.raises(InvalidInput, match="what is explained is 'relevance'"):
        task.passage(item, encoded, outputs, "nonsense")
