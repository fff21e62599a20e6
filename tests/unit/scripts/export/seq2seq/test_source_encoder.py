"""The encoder of a model that writes, as it is exported."""

from __future__ import annotations

import torch

from scripts.export.seq2seq.source_encoder import SourceEncoder
from tests.support.tiny_writer import bart_model


def test_ids_behind_the_vocabulary_are_read_as_the_unknown_token() -> None:
    model = bart_model(40).eval()
    ids, mask = torch.tensor([[5, 40, 1]]), torch.ones(1, 3, dtype=torch.long)
    with torch.no_grad():
        expected = SourceEncoder(model)(torch.tensor([[5, 2, 1]]), mask)["logits"]
        given = SourceEncoder(model, (40, 2))(ids, mask)["logits"]
    assert torch.equal(given, expected)


def test_a_copy_that_the_exporter_makes_knows_them_too() -> None:
    encoder = SourceEncoder(bart_model(40), (40, 2))
    twin = SourceEncoder._from_config(encoder.config)
    assert twin(torch.tensor([[5, 41, 1]]), torch.ones(1, 3, dtype=torch.long))["logits"].shape == (1, 3, 2 * 2 * 16)


def test_it_is_in_training_only_where_its_model_is() -> None:
    model = bart_model(40).eval()
    assert not SourceEncoder(model).training
    assert not model.training
