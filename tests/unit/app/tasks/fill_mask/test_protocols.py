"""Masks in the words of Hugging Face's API and of the Open Inference Protocol."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.fill_mask.protocols import HUGGING_FACE, NATIVE, OPEN_INFERENCE
from app.tasks.fill_mask.task import Fill, FilledMask, FilledMasks, FillOptions, MaskedItem

FILM = FilledMask(2, 8, [Fill(6, "film", 0.5, "a film"), Fill(11, "good", 0.25, "a good")])


def result(*masks: FilledMask) -> Result:
    return Result(FilledMasks(masks), 4, False)


def test_one_mask_is_a_list_of_tokens_and_several_are_a_list_of_such() -> None:
    tokens = [
        {"score": 0.5, "token": 6, "token_str": "film", "sequence": "a film"},
        {"score": 0.25, "token": 11, "token_str": "good", "sequence": "a good"},
    ]
    assert HUGGING_FACE.answer(result(FILM)) == tokens
    assert HUGGING_FACE.answer(result(FILM, FILM)) == [tokens, tokens]
    assert HUGGING_FACE.for_hub_client(tokens, None) == tokens


def test_parameters_are_those_of_the_pipeline() -> None:
    parameters = SimpleNamespace(top_k=None, targets=None)
    assert HUGGING_FACE.options(parameters) == FillOptions(is_hub=True)
    parameters = SimpleNamespace(top_k=3, targets=["good"])
    assert HUGGING_FACE.options(parameters) == FillOptions(3, ("good",), is_hub=True)
    with pytest.raises(InvalidInput, match="less than or equal to 100"):
        HUGGING_FACE.options(SimpleNamespace(top_k=101, targets=None))


def test_an_item_is_one_text() -> None:
    assert NATIVE.item("a [MASK]") == MaskedItem("a [MASK]")
    assert NATIVE.item(SimpleNamespace(text="a")) == MaskedItem("a")
    assert isinstance(NATIVE.item(SimpleNamespace(text="a", text_pair="b")), InvalidInput)
    assert HUGGING_FACE.item({"question": "?"}) is None


def test_the_masks_of_an_item_are_one_text_of_json() -> None:
    columns, shape = OPEN_INFERENCE.columns([result(FILM), result(FILM, FILM)])
    assert shape == [2]
    assert [len(json.loads(text)) for text in columns["masks"]] == [1, 2]
    assert json.loads(columns["masks"][0])[0]["fills"][0] == {"token": "film", "score": 0.5, "sequence": "a film"}
