"""Budget and selection: who runs together."""

from hypothesis import given
from hypothesis import strategies as st

from app.batching.policy import (
    BULK_PATIENCE,
    GOOD_BATCHES,
    LOOKAHEAD_ROWS,
    SMALLEST_BUDGET,
    AdaptiveTokenBudget,
    Budget,
    admits_first,
    offered,
    offline_order,
    select,
)
from app.runtime.layout import plan

PACKED = Budget(max_batch_tokens=100, max_batch_rows=4, layout="packed")
PADDED = Budget(max_batch_tokens=100, max_batch_rows=4, layout="padded")

budgets = st.builds(Budget, st.integers(1, 300), st.integers(1, 20), st.sampled_from(["packed", "padded"]))
queues = st.lists(st.integers(1, 200), min_size=1, max_size=40)


def cost(lengths: list[int], budget: Budget) -> int:
    return budget.cost(len(lengths), max(lengths), sum(lengths))


def test_a_packed_batch_costs_the_sum_and_a_padded_one_rows_times_longest() -> None:
    assert PACKED.cost(3, 50, 70) == 70
    assert PADDED.cost(3, 50, 70) == 150


def test_a_row_fits_up_to_and_including_the_whole_budget() -> None:
    assert PACKED.fits(100)
    assert not PACKED.fits(101)


def test_what_fits_the_budget_fits_the_tensor() -> None:
    waiting = [5 + (7 * number) % 36 for number in range(200)]
    heights = []
    for budget in (Budget.for_tensors(1024, 200, "packed"), Budget(1024, 200, "packed")):
        chosen = [waiting[index] for index in select(waiting, budget)]
        heights.append(plan(chosen, "packed", fixed_shapes=True).height)
    assert heights == [8, 12]


def test_padded_rows_and_a_row_alone_leave_no_gaps() -> None:
    packed, padded = Budget.for_tensors(128, 8, "packed"), Budget.for_tensors(128, 8, "padded")
    assert select([32] * 5, padded) == [0, 1, 2, 3]
    assert select([32] * 5, packed) == [0, 1, 2]
    assert packed.fits(128)
    assert select([128, 1], packed) == [0]


def test_rows_run_in_the_order_of_arrival_until_the_budget_is_full() -> None:
    assert select([40, 30, 30, 1], PACKED) == [0, 1, 2]


def test_padding_counts_where_rows_are_padded() -> None:
    assert select([40, 30, 30], PADDED) == [0, 1]
    assert select([10, 10, 90], PADDED) == [0, 1]


def test_a_row_that_does_not_fit_is_passed_over_for_a_younger_one_that_does() -> None:
    assert select([60, 70, 40], PACKED) == [0, 2]


def test_the_oldest_row_runs_even_where_everything_else_must_wait_for_it() -> None:
    assert select([100, 1, 1], PACKED) == [0]


def test_a_batch_never_holds_more_rows_than_allowed() -> None:
    assert select([1] * 9, PACKED) == [0, 1, 2, 3]


def test_a_batch_that_fills_a_tensor_never_holds_more_rows_than_allowed() -> None:
    assert select([1] * 9, Budget.for_tensors(100, 4, "packed")) == [0, 1, 2, 3]


def test_only_so_many_rows_are_looked_at() -> None:
    full_but_for_one = [99, *[2] * (LOOKAHEAD_ROWS - 1), 1]
    assert select(full_but_for_one, PACKED) == [0]
    assert select(full_but_for_one[1:], PACKED)[-1] < LOOKAHEAD_ROWS


def test_interactive_rows_are_offered_before_bulk_ones() -> None:
    assert offered(["i", "j"], ["b", "c"], num_passed_over=BULK_PATIENCE - 1) == ["i", "j", "b", "c"]


def test_the_oldest_bulk_row_goes_first_once_it_was_passed_over_often_enough() -> None:
    assert offered(["i", "j"], ["b", "c"], num_passed_over=BULK_PATIENCE) == ["b", "i", "j", "c"]
    assert offered(["i"], [], num_passed_over=BULK_PATIENCE) == ["i"]


@given(queues, budgets)
def test_a_choice_starts_with_the_oldest_and_keeps_to_the_budget(lengths: list[int], budget: Budget) -> None:
    chosen = select(lengths, budget)
    assert chosen[0] == 0
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= budget.max_batch_rows
    assert len(chosen) == 1 or cost([lengths[index] for index in chosen], budget) <= budget.max_batch_tokens


@given(queues, budgets)
def test_no_row_is_passed_over_that_would_have_fitted(lengths: list[int], budget: Budget) -> None:
    chosen = select(lengths, budget)
    if len(chosen) == budget.max_batch_rows:
        return
    for index in set(range(len(lengths))) - set(chosen):
        older = [lengths[earlier] for earlier in chosen if earlier < index]
        assert cost([*older, lengths[index]], budget) > budget.max_batch_tokens


def test_offline_padded_rows_run_beside_those_of_their_length() -> None:
    assert offline_order([5, 9, 7, 9], "padded", 8) == [1, 3, 2, 0]


def test_offline_packed_rows_that_widen_the_tensor_run_first_and_the_others_as_they_came() -> None:
    assert offline_order([5, 9, 7, 12, 8, 1], "packed", 8) == [3, 1, 0, 2, 4, 5]


@given(queues, st.sampled_from(["packed", "padded"]))
def test_offline_every_row_runs_once(lengths: list[int], layout: str) -> None:
    assert sorted(offline_order(lengths, layout, 64)) == list(range(len(lengths)))  # type: ignore[arg-type]


# --- while memory is short: halved at once, given back slowly, never more than was configured

CONFIGURED = Budget(max_batch_tokens=1000, max_batch_rows=8, layout="packed")


def tokens(adaptive: AdaptiveTokenBudget) -> int:
    return adaptive.budget.max_batch_tokens


def after_good(adaptive: AdaptiveTokenBudget, num_batches: int) -> AdaptiveTokenBudget:
    for _ in range(num_batches):
        adaptive = adaptive.after_success()
    return adaptive


def test_at_first_it_is_what_was_configured() -> None:
    assert AdaptiveTokenBudget.of(CONFIGURED).budget == CONFIGURED
    assert AdaptiveTokenBudget.of(CONFIGURED).after_success().budget == CONFIGURED


def test_out_of_memory_halves_the_tokens_and_nothing_else() -> None:
    once = AdaptiveTokenBudget.of(CONFIGURED).after_out_of_memory()
    assert once.budget == Budget(500, 8, "packed")
    assert tokens(once.after_out_of_memory()) == 250


def test_a_budget_is_whole_tokens() -> None:
    odd = AdaptiveTokenBudget.of(Budget(125, 8, "packed")).after_out_of_memory()
    assert tokens(odd) == 62
    assert tokens(after_good(odd, GOOD_BATCHES)) == 124
    assert tokens(after_good(odd, 2 * GOOD_BATCHES)) == 125


def test_it_is_doubled_only_after_so_many_good_batches_in_a_row() -> None:
    halved = AdaptiveTokenBudget.of(CONFIGURED).after_out_of_memory()
    assert tokens(after_good(halved, GOOD_BATCHES - 1)) == 500
    assert tokens(after_good(halved, GOOD_BATCHES)) == 1000
    twice = after_good(halved, GOOD_BATCHES - 1).after_out_of_memory()
    assert tokens(after_good(twice, GOOD_BATCHES - 1)) == 250
    assert tokens(after_good(twice, GOOD_BATCHES)) == 500
    assert tokens(after_good(twice, 2 * GOOD_BATCHES)) == 1000


def test_it_is_never_halved_to_nothing() -> None:
    adaptive = AdaptiveTokenBudget.of(CONFIGURED)
    for _ in range(20):
        adaptive = adaptive.after_out_of_memory()
    assert tokens(adaptive) == SMALLEST_BUDGET


@given(st.integers(1, 10_000), st.lists(st.sampled_from(["good", "many good", "short"]), max_size=30))
def test_whatever_happens_it_lies_between_the_smallest_and_the_configured(limit: int, steps: list[str]) -> None:
    adaptive = AdaptiveTokenBudget.of(Budget(limit, 8, "padded"))
    for step in steps:
        adaptive = (
            adaptive.after_out_of_memory() if step == "short" else after_good(adaptive, 1 if step == "good" else GOOD_BATCHES)
        )
        assert min(SMALLEST_BUDGET, limit) <= tokens(adaptive) <= limit


# --- waiting sequences and those that are being generated take turns


def test_newcomers_come_first_only_after_a_decode_step() -> None:
    assert admits_first(num_active=3, last_phase="decode")
    assert not admits_first(num_active=3, last_phase="prefill")
    assert not admits_first(num_active=3, last_phase="encode")


def test_newcomers_come_first_where_nothing_is_being_generated() -> None:
    assert admits_first(num_active=0, last_phase="prefill")
