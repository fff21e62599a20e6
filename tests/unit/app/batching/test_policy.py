"""Budget and selection: who runs together."""

from hypothesis import given
from hypothesis import strategies as st

from app.batching.policy import BULK_PATIENCE, LOOKAHEAD_ROWS, Budget, offered, offline_order, select
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
        older = [lengths[one] for one in chosen if one < index]
        assert cost([*older, lengths[index]], budget) > budget.max_batch_tokens


def test_offline_padded_rows_run_beside_those_of_their_length() -> None:
    assert offline_order([5, 9, 7, 9], "padded", 8) == [1, 3, 2, 0]


def test_offline_packed_rows_that_widen_the_tensor_run_first_and_the_others_as_they_came() -> None:
    assert offline_order([5, 9, 7, 12, 8, 1], "packed", 8) == [3, 1, 0, 2, 4, 5]


@given(queues, st.sampled_from(["packed", "padded"]))
def test_offline_every_row_runs_once(lengths: list[int], layout: str) -> None:
    assert sorted(offline_order(lengths, layout, 64)) == list(range(len(lengths)))  # type: ignore[arg-type]
