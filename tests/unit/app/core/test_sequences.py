"""What the scheduler and its engines exchange."""

from __future__ import annotations

from app.core.sequences import Batch, Sequence
from app.core.types import Row


def test_rows_become_waiting_sequences_that_end_with_their_first_step() -> None:
    rows = [Row([1, 2], [0, 0]), Row([3], [0])]
    batch = Batch.of_rows(iter(rows))
    assert batch.phase == "encode"
    assert [sequence.row for sequence in batch.sequences] == rows
    assert {(sequence.state, sequence.sampling, sequence.cache_slot) for sequence in batch.sequences} == {
        ("waiting", None, None)
    }


def test_two_sequences_of_the_same_row_are_two_and_share_no_outputs() -> None:
    row = Row([1], [0])
    first, second = Sequence(row), Sequence(row)
    assert first != second
    first.outputs.append(KeyError)  # type: ignore[arg-type]
    assert second.outputs == []
