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
    assert queue.choose(BUDGET, num_free_slots=1) == generated[:1]
    assert queue.choose(BUDGET, num_free_slots=2) == generated[:2]
    assert queue.choose(BUDGET, num_free_slots=0) == [encoded]
