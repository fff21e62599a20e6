"""What a model wrote for its golden requests when it was published, token by token, and whether it still does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from app.core.types import Precision, RowOutput

ROWS = "rows"
"""Key of a golden answer: of each row its `token_ids`, and in `gaps` how far each one's score was above the next best."""


def rows_in(precision: Precision) -> str:
    """Key of the same for a form of the decoder that was published as writing otherwise than in fp32."""
    return f"{ROWS}_{precision}"


def written_in(precision: Precision, answer: Any) -> Any:
    """The golden answer with the tokens that were written in this precision, where it has some of its own."""
    own = answer.get(rows_in(precision)) if isinstance(answer, Mapping) else None
    return answer if own is None else {**answer, ROWS: own}


def are_as_published(outputs: Sequence[RowOutput], rows: Sequence[Mapping[str, Any]], tolerance: float) -> bool:
    """Whether each row's tokens are those published, up to the first near tie, behind which another text may follow.

    Args:
        outputs: of the rows, as for `Task.decode`.
        rows: as they stand in golden.json.
        tolerance: a smaller gap is a near tie.
    """
    pairs = zip(outputs, rows, strict=True)
    return all(_is_as_published(output["token_ids"].tolist(), row, tolerance) for output, row in pairs)


def _is_as_published(token_ids: Sequence[int], row: Mapping[str, Any], tolerance: float) -> bool:
    pairs = zip_longest(token_ids, row["token_ids"])
    differing = next((place for place, (token, published) in enumerate(pairs) if token != published), None)
    return differing is None or any(gap < tolerance for gap in row["gaps"][: differing + 1])
