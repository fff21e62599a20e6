"""The torch reference: one row's output is its own, whatever it is batched with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from app.core.types import Row
from scripts.export.torch_reference import TorchRunner


def runner(model: Any, axis: Any = "row") -> TorchRunner:
    return TorchRunner(model, axis)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_a_row_gets_the_same_logits_alone_and_in_a_batch(family: str, tiny_model: Any, rows: list[Row]) -> None:
    reference = runner(tiny_model(family))
    together = reference.run_rows(rows)
    for row, output in zip(rows, together, strict=True):
        assert output["logits"].shape == (3,)
        np.testing.assert_allclose(output["logits"], reference.run_rows([row])[0]["logits"], atol=1e-5)


def test_the_logits_are_those_of_the_plain_model(tiny_model: Any, rows: list[Row]) -> None:
    model = tiny_model("Bert")
    with torch.no_grad():
        expected = model(torch.tensor([rows[2].input_ids]), token_type_ids=torch.tensor([rows[2].token_type_ids])).logits[0]
    np.testing.assert_allclose(runner(model).run_rows([rows[2]])[0]["logits"], expected.numpy(), atol=1e-5)


def test_dropout_and_half_precision_do_not_reach_the_reference(tiny_model: Any, rows: list[Row]) -> None:
    model = tiny_model("Bert", hidden_dropout_prob=0.5).to(torch.bfloat16).train()
    first, second = (runner(model).run_rows(rows)[0]["logits"] for _ in range(2))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)


def test_output_positions_read_the_logits_of_their_own_tokens(tiny_model: Any, marked_rows: list[Row]) -> None:
    model = tiny_model("Bert", "TokenClassification")
    tokens = runner(model, "token").run_rows(marked_rows)
    positions = runner(model, "position").run_rows(marked_rows)
    for row, every, marked in zip(marked_rows, tokens, positions, strict=True):
        assert every["logits"].shape == (row.num_tokens, 3)
        np.testing.assert_allclose(marked["logits"], every["logits"][list(row.output_positions)], atol=1e-5)


def test_start_and_end_of_answers_are_one_output_with_two_features(tiny_model: Any, rows: list[Row]) -> None:
    outputs = runner(tiny_model("Bert", "QuestionAnswering"), "token").run_rows(rows)
    assert [output["logits"].shape for output in outputs] == [(row.num_tokens, 2) for row in rows]
