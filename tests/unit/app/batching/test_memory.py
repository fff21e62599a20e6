"""The budget while memory is short: halved at once, given back slowly, never more than was configured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.batching.memory import GOOD_BATCHES, SMALLEST, Allowance
from app.batching.policy import Budget

CONFIGURED = Budget(max_batch_tokens=1000, max_batch_rows=8, layout="packed")


def tokens(allowance: Allowance) -> int:
    return allowance.budget.max_batch_tokens


def after_good(allowance: Allowance, num_batches: int) -> Allowance:
    for _ in range(num_batches):
        allowance = allowance.after_success()
    return allowance


def test_at_first_it_is_what_was_configured() -> None:
    assert Allowance.of(CONFIGURED).budget == CONFIGURED
    assert Allowance.of(CONFIGURED).after_success().budget == CONFIGURED


def test_out_of_memory_halves_the_tokens_and_nothing_else() -> None:
    once = Allowance.of(CONFIGURED).after_out_of_memory()
    assert once.budget == Budget(500, 8, "packed")
    assert tokens(once.after_out_of_memory()) == 250


def test_a_budget_is_whole_tokens() -> None:
    odd = Allowance.of(Budget(125, 8, "packed")).after_out_of_memory()
    assert tokens(odd) == 62
    assert tokens(after_good(odd, GOOD_BATCHES)) == 124
    assert tokens(after_good(odd, 2 * GOOD_BATCHES)) == 125


def test_it_is_doubled_only_after_so_many_good_batches_in_a_row() -> None:
    halved = Allowance.of(CONFIGURED).after_out_of_memory()
    assert tokens(after_good(halved, GOOD_BATCHES - 1)) == 500
    assert tokens(after_good(halved, GOOD_BATCHES)) == 1000
    twice = after_good(halved, GOOD_BATCHES - 1).after_out_of_memory()
    assert tokens(after_good(twice, GOOD_BATCHES - 1)) == 250
    assert tokens(after_good(twice, GOOD_BATCHES)) == 500
    assert tokens(after_good(twice, 2 * GOOD_BATCHES)) == 1000


def test_it_is_never_halved_to_nothing() -> None:
    allowance = Allowance.of(CONFIGURED)
    for _ in range(20):
        allowance = allowance.after_out_of_memory()
    assert tokens(allowance) == SMALLEST


@given(st.integers(1, 10_000), st.lists(st.sampled_from(["good", "many good", "short"]), max_size=30))
def test_whatever_happens_it_lies_between_the_smallest_and_the_configured(most: int, steps: list[str]) -> None:
    allowance = Allowance.of(Budget(most, 8, "padded"))
    for step in steps:
        allowance = (
            allowance.after_out_of_memory() if step == "short" else after_good(allowance, 1 if step == "good" else GOOD_BATCHES)
        )
        assert min(SMALLEST, most) <= tokens(allowance) <= most
