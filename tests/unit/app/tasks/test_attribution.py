"""Methods: what the weights of words promise, whatever the model says and however little may be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.types import Row
from app.tasks.attribution import METHODS, Attribution, Method, Spending, occlusion, shapley
from app.tasks.base import Encoded
from app.tasks.passage import Keep, Passage, Word
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from tests.support.tiny_model import WORDS, logits_of, tiny_tokenizer

PLENTY = Spending(1_000_000)
Game = Callable[[Keep], float]


def passage_of(num_words: int, gaps: Sequence[int] | None = None, mask_id: int | None = None) -> Passage:
    """Words of one token each between two special tokens."""
    parted = gaps or [0] * num_words
    found = [Word("text", "w", 2 * i, 2 * i + 1, [i + 1], parted[i]) for i in range(num_words)]
    row = Row(range(num_words + 2), [0] * (num_words + 2))
    return Passage(row, found, "good", lambda output: 0.0, mask_id)


def play(method: Method, passage: Passage, game: Game, spending: Spending = PLENTY) -> tuple[Attribution, list[list[Keep]]]:
    """The attribution, and the waves that were asked for."""
    search = METHODS[method](passage, spending)
    waves = [list(next(search))]
    while True:
        try:
            waves.append(list(search.send([game(keep) for keep in waves[-1]])))
        except StopIteration as end:
            return end.value, waves


def asked(passage: Passage, waves: list[list[Keep]]) -> int:
    """Tokens of all rows."""
    return sum(passage.without(keep).num_tokens for wave in waves for keep in wave)


def table(seed: int, num_words: int) -> Game:
    """A model that says anything at all."""
    values = np.random.default_rng(seed).normal(size=2**num_words)
    return lambda keep: float(values[int(keep @ (1 << np.arange(num_words)))])


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 9), st.integers(0, 400), st.booleans(), st.integers(0, 60))
def test_shapley_weights_add_up_however_little_is_spent(
    seed: int, num_words: int, budget: int, is_masked: bool, wave_tokens: int
) -> None:
    passage, game = passage_of(num_words, mask_id=0 if is_masked else None), table(seed, num_words)
    found, _ = play("shapley", passage, game, Spending(budget, wave_tokens))
    assert found.whole == game(np.ones(num_words, bool))
    assert found.empty == game(np.zeros(num_words, bool))
    assert found.weights.sum() == pytest.approx(found.whole - found.empty, abs=1e-9)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=20), st.integers(0, 2000), st.sampled_from(["bad", "good"]))
def test_weights_of_a_real_text_add_up_to_what_the_model_says_with_it_and_without(
    chosen: list[str], budget: int, label: str
) -> None:
    task = TextClassification(tiny_tokenizer(), ["bad", "good"])
    item = ClassificationItem(" ".join(chosen))
    (encoded,) = task.encode([item], ClassificationOptions())
    assert isinstance(encoded, Encoded)
    passage = task.passage(item, encoded, [{"logits": logits_of(encoded.rows[0])}], label)

    def model(keep: Keep) -> float:
        return passage.log_odds({"logits": logits_of(passage.without(keep))})

    found, _ = play("shapley", passage, model, Spending(budget))
    assert found.weights.sum() == pytest.approx(found.whole - found.empty, abs=1e-6)
    assert found.whole == passage.log_odds({"logits": logits_of(encoded.rows[0])})


@given(seeds)
def test_with_two_words_they_are_shapley_values(seed: int) -> None:
    game = table(seed, 2)
    found, _ = play("shapley", passage_of(2), game)
    assert found.weights == pytest.approx(exact_shapley(game, 2), abs=1e-9)


@pytest.mark.parametrize("num_words", [1, 2, 3, 5, 8])
def test_of_a_model_that_adds_words_up_every_method_finds_each_words_own_part(num_words: int) -> None:
    parts = np.arange(num_words) - 1.5
    for method in METHODS:
        found, _ = play(method, passage_of(num_words), lambda keep: float(parts[keep].sum()))
        assert found.weights == pytest.approx(parts, abs=1e-9), method


@given(seeds, st.integers(2, 7))
def test_each_half_gets_what_it_adds_alone_and_beside_the_other_in_both_companies(seed: int, num_words: int) -> None:
    game = table(seed, num_words)
    found, _ = play("shapley", passage_of(num_words), game)
    expected = np.zeros(num_words)
    share_out(game, num_words, 0, num_words, found.whole - found.empty, expected)
    assert found.weights == pytest.approx(expected, abs=1e-9)


def test_the_tree_is_cut_at_sentences_before_clauses_before_words() -> None:
    passage = passage_of(6, gaps=[1, 0, 0, 0, 2, 0])
    _, waves = play("occlusion", passage, lambda keep: float(keep.sum()))
    hidden = [np.flatnonzero(~keep).tolist() for wave in waves[1:] for keep in wave]
    assert hidden[:4] == [[0, 1, 2, 3, 4], [5], [0], [1, 2, 3, 4]]


def test_the_part_of_the_text_that_matters_is_looked_at_first() -> None:
    def only_the_last(keep: Keep) -> float:
        return 5.0 if keep[63] else 0.0

    passage = passage_of(64)
    for method in METHODS:
        found, waves = play(method, passage, only_the_last, Spending(1500, 100))
        assert found.weights.argmax() == 63, method
        assert found.weights[63] == pytest.approx(5.0), method
        assert asked(passage, waves) <= 1500 + 66 + 2


@given(seeds, st.integers(1, 9), st.integers(0, 500), st.integers(0, 100), st.sampled_from(sorted(METHODS)), st.booleans())
def test_no_more_is_asked_than_may_be_spent(
    seed: int, num_words: int, budget: int, wave_tokens: int, method: Method, is_masked: bool
) -> None:
    passage = passage_of(num_words, mask_id=0 if is_masked else None)
    _, waves = play(method, passage, table(seed, num_words), Spending(budget, wave_tokens))
    least = asked(passage, waves[:1])  # the whole and nothing of it are always asked for
    assert asked(passage, waves) <= max(budget, least)


def test_rows_are_asked_for_in_waves_and_not_one_by_one() -> None:
    _, waves = play("shapley", passage_of(32), lambda keep: float(keep.sum()), Spending(100_000, 1000))
    sizes = [len(wave) for wave in waves]
    assert sum(sizes) / len(sizes) > 10


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_text_in_which_the_tokenizer_sees_no_word_has_no_weights(method: Method) -> None:
    found, _ = play(method, passage_of(0), lambda keep: 1.0)
    assert found.weights.size == 0


def test_occlusion_is_what_the_whole_loses_without_the_word() -> None:
    game = table(3, 4)
    found, _ = play("occlusion", passage_of(4), game)
    everybody = np.ones(4, bool)
    lost = [game(everybody) - game(everybody & (np.arange(4) != i)) for i in range(4)]
    assert found.weights == pytest.approx(lost)


def test_methods_are_those_that_a_caller_may_name() -> None:
    assert list(METHODS.items()) == [("shapley", shapley), ("occlusion", occlusion)]


def exact_shapley(game: Game, count: int) -> list[float]:
    def members(chosen: Sequence[int]) -> Keep:
        return np.isin(np.arange(count), chosen)

    weights = []
    for word in range(count):
        others = [number for number in range(count) if number != word]
        total = 0.0
        for size in range(count):
            share = factorial(size) * factorial(count - size - 1) / factorial(count)
            for chosen in combinations(others, size):
                total += share * (game(members([*chosen, word])) - game(members(chosen)))
        weights.append(total)
    return weights


def share_out(game: Game, count: int, start: int, stop: int, total: float, weights: np.ndarray) -> None:
    """The definition, word for word: two halves are two players, once with nobody and once with everybody else there."""
    if stop - start == 1:
        weights[start] = total
        return
    middle = min(range(start + 1, stop), key=lambda place: (abs(place - (start + stop) / 2), place))
    places = np.arange(count)
    left, right = (places >= start) & (places < middle), (places >= middle) & (places < stop)
    shares, sums = [], []
    for company in (np.zeros(count, bool), ~(left | right)):
        nobody, one, other, both = (game(company | added) for added in (left & right, left, right, left | right))
        shares.append((one - nobody + both - other) / 2)
        sums.append(both - nobody)
    rest = (total - np.mean(sums)) / (stop - start)
    of_left = float(np.mean(shares)) + rest * (middle - start)
    share_out(game, count, start, middle, of_left, weights)
    share_out(game, count, middle, stop, total - of_left, weights)
