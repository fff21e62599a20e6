"""The body of `POST /v1/fill` and its answer."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.fill_mask.schemas import FillRequest, FillResult
from app.tasks.fill_mask.task import Fill, FilledMask, FilledMasks, FillOptions, MaskedItem


def test_a_text_or_a_list_of_texts_become_items() -> None:
    request = FillRequest.model_validate({"inputs": ["a [MASK]", 7], "top_k": 2, "targets": ["good"]})
    good, wrong = request.items()
    assert good == MaskedItem("a [MASK]")
    assert isinstance(wrong, InvalidInput)
    assert request.options() == FillOptions(2, ("good",), "window")
    assert FillRequest.model_validate({"inputs": "a [MASK]"}).options() == FillOptions()


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"top_k": 101}, {"targets": []}, {"targets": [""]}, {"targets": ["a"] * 101}]
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FillRequest.model_validate({"inputs": "a [MASK]", **options})


def test_an_answer_has_the_masks_with_their_tokens() -> None:
    answer = FilledMasks([FilledMask(2, 8, [Fill(7, "film", 0.5, "a film")])])
    assert FillResult.of(Result(answer, 4, False)).model_dump() == {
        "masks": [{"start": 2, "end": 8, "fills": [{"token": "film", "score": 0.5, "sequence": "a film"}]}],
        "num_tokens": 4,
        "truncated": False,
    }
