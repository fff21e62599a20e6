"""What waits keeps its order and its count, and interactive rows go before bulk ones without starving them."""

from __future__ import annotations

from typing import Any

from app.batching.policy import Budget
from app.batching.queue import ArrivalQueue, PriorityQueue
from app.batching.results import SubmittedSequence
from app.core.sequences import SamplingParams
from app.core.types import Priority
from tests.support.tiny_model import row

BUDGET = Budget(8, 2, "packed")


def sequence(num_tokens: int, priority: Priority = "interactive", sampling: SamplingParams | None = None) -> SubmittedSequence:
    nobody: Any = None  # the queue never asks whose a sequence is
    return SubmittedSequence(row(*[1] * num_tokens), sampling=sampling, priority=priority, submission=nobody, index=0)


def test_what_is_overtaken_keeps_its_place_and_tokens_are_counted() -> None:
    queue = ArrivalQueue()
    first, second, third = sequences = [sequence(number) for number in (3, 4, 5)]
    for each in sequences:
        queue.push(each)
    queue.take([second])
    assert list(queue.sequences) == [first, third]
    assert queue.num_tokens == 8
    queue.drop(lambda waiting: waiting is first)
    assert (list(queue.sequences), queue.num_tokens) == ([third], 5)


def test_a_batch_holds_what_fits_into_the_budget_and_waits_until_it_is_taken() -> None:
    queue = PriorityQueue()
    sequences = [sequence(4) for _ in range(3)]
    for each in sequences:
        queue.push(each)
    assert queue.choose(BUDGET) == queue.choose(BUDGET) == sequences[:2]
    queue.take(sequences[:2])
    assert queue.sequences == sequences[2:]
    assert (queue.num_rows, queue.num_tokens) == (1, 4)


def test_interactive_rows_go_first_and_bulk_rows_are_not_passed_over_for_ever() -> None:
    queue = PriorityQueue()
    bulk = sequence(8, "bulk")
    queue.push(bulk)
    batches = 0
    while queue.num_rows:
        queue.push(sequence(8))
        chosen = queue.choose(BUDGET)
        queue.take(chosen)
        batches += 1
        if bulk in chosen:
            break
    assert batches > 1, "a bulk row went before an interactive one at once"
    assert bulk not in queue.sequences
    assert queue.num_passed_over == 0


def test_how_many_were_dropped_is_told() -> None:
    queue = PriorityQueue()
    for priority in ("interactive", "bulk", "bulk"):
        queue.push(sequence(2, priority))
    assert queue.drop(lambda waiting: waiting.priority == "bulk") == 2
    assert queue.num_rows == 1


def test_sequences_that_are_generated_need_a_free_slot_and_run_apart_from_those_that_are_encoded() -> None:
    queue = PriorityQueue()
    sampling = SamplingParams(max_new_tokens=4)
    generated, encoded = [sequence(2, sampling=sampling) for _ in range(3)], sequence(2)
    for each in (*generated, encoded):
        queue.push(each)
    assert queue.choose(BUDGET, num_free_rows=1) == generated[:1]
    assert queue.choose(BUDGET, num_free_rows=2) == generated[:2]
    assert queue.choose(BUDGET, num_free_rows=0) == [encoded]


# --- rows of the cache


def beams(number: int) -> SamplingParams:
    return SamplingParams(max_new_tokens=4, num_beams=number)


def queue_of(*sequences: SubmittedSequence) -> PriorityQueue:
    queue = PriorityQueue()
    for each in sequences:
        queue.push(each)
    return queue


def test_sequences_are_chosen_while_the_cache_has_rows_for_all_their_beams() -> None:
    sequences = [sequence(1, sampling=beams(number)) for number in (2, 3, 1, 1)]
    budget = Budget(99, 9, "packed")
    assert queue_of(*sequences).choose(budget, 7) == sequences
    assert queue_of(*sequences).choose(budget, 4) == [sequences[0], *sequences[2:]]
    assert queue_of(*sequences).choose(budget, 2) == sequences[:1]


def test_the_oldest_sequence_waits_for_its_rows_and_no_later_one_takes_them() -> None:
    wide, narrow, to_encode = sequence(1, sampling=beams(4)), sequence(1, sampling=beams(1)), sequence(1)
    queue = queue_of(wide, narrow, to_encode)
    assert queue.choose(BUDGET, 3) == [to_encode], "a sequence of fewer rows went before one that waits for more"
    assert queue.choose(BUDGET, 4) == [wide]
