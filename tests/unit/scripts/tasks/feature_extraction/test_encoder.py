"""Vectors of sentence-transformers' models, beside those of the library itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import sentence_transformers
import torch
import transformers
from sentence_transformers import models

from app.core.errors import InvalidSettings
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.base import Encoded
from app.tasks.feature_extraction.task import EmbedItem, EmbedOptions
from app.tasks.tokenizer import Tokenizer
from scripts.export.export import try_export
from scripts.export.import_checkpoint import Checkpoint, open_checkpoint
from scripts.export.torch_reference import TorchRunner
from scripts.tasks.feature_extraction import SPEC
from scripts.tasks.feature_extraction.modules import MODES
from scripts.training.evaluation import RowRunner
from tests.unit.scripts.conftest import make_base

TEXTS = [
    "the film was very good",
    "  a bad one, and not a short one: the film was bad, the book was bad, and the day was bad \n",
    "GOOD",
    "the film " * 40,
    "very good, not bad",
]
PROMPTS = {"query": "the question is: ", "passage": "a text: ", "plain": ""}
TOLERANCE = 1e-4
MOST = tuple(mode for mode in MODES if mode != "max")
"""Where a prompt is left out, the library's own `max` writes -1e9 over the vector that its `cls` has just taken."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "base")


def library_model(base: Path, modes: tuple[str, ...], *layers: Any, include_prompt: bool = True, **options: Any) -> Any:
    """A model of the library over the tiny transformer."""
    transformer = models.Transformer(str(base), max_seq_length=32)
    settings = {
        f"pooling_mode_{mode}{'' if mode == 'lasttoken' else '_token' if mode == 'cls' else '_tokens'}": True for mode in modes
    }
    settings.setdefault("pooling_mode_mean_tokens", False)
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), include_prompt=include_prompt, **settings)
    return sentence_transformers.SentenceTransformer(modules=[transformer, pooling, *layers], device="cpu", **options)


def vectors(checkpoint: Checkpoint, runner: RowRunner, **options: Any) -> np.ndarray:
    """Of the texts, by the service's own code: (texts, dimensions)."""
    task = SPEC.serving_task(Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens), checkpoint.task_options)
    wished = EmbedOptions(normalize=False, truncation="truncate", **options)
    encoded = [item for item in task.encode([EmbedItem(text) for text in TEXTS], wished) if isinstance(item, Encoded)]
    outputs = runner.run_rows([row for item in encoded for row in item.rows])
    return np.array([task.decode(item, [output], wished).vector for item, output in zip(encoded, outputs, strict=True)])


@pytest.mark.parametrize("modes", [*((mode,) for mode in MODES), ("max", "cls"), MODES])
def test_each_way_to_pool_gives_the_librarys_vectors(base: Path, tmp_path: Path, modes: tuple[str, ...]) -> None:
    model = library_model(base, modes)
    model.save(str(tmp_path / "saved"))
    checkpoint = open_checkpoint(str(tmp_path / "saved"))
    found = vectors(checkpoint, TorchRunner(checkpoint.model, "row"))
    assert found.shape == (len(TEXTS), checkpoint.task_options["dimensions"])
    assert np.abs(found - model.encode(TEXTS)).max() < TOLERANCE
    assert checkpoint.task_options["pooling"] == "+".join(mode for mode in MODES if mode in modes)


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Checkpoint]:
    """A model with everything: nearly all modes, dense layers, prompts that its vectors are not made of."""
    width = library_model(base, MOST).get_sentence_embedding_dimension()
    layers = [models.Dense(width, 24), models.Dense(24, 16, bias=False, activation_function=None), models.Normalize()]
    model = library_model(base, MOST, *layers, include_prompt=False, prompts=PROMPTS, default_prompt_name="passage")
    folder = tmp_path_factory.mktemp("saved") / "whole"
    model.save(str(folder))
    return model, open_checkpoint(str(folder))


@pytest.fixture(scope="module")
def graph(whole: tuple[Any, Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> EncoderEngine:
    _, checkpoint = whole
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens)
    exported = try_export(checkpoint.model, SPEC, tokenizer, checkpoint.task_options, tmp_path_factory.mktemp("graph"))
    assert exported.graph.layout == "packed"
    return EncoderEngine(exported.file, exported.graph, choose_provider("cpu"))


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        ({}, {}),
        ({"prompt": "query"}, {"prompt_name": "query"}),
        ({"prompt": "so: "}, {"prompt": "so: "}),
        ({"prompt": ""}, {"prompt": ""}),
    ],
)
def test_the_packed_graph_gives_the_librarys_vectors(
    whole: tuple[Any, Checkpoint], graph: EncoderEngine, options: Mapping[str, Any], prompt: Mapping[str, Any]
) -> None:
    """Rows share tensor rows there, and each is pooled from behind its own prompt on."""
    model, checkpoint = whole
    found = vectors(checkpoint, graph, **options)
    assert np.abs(found - model.encode(TEXTS, **prompt)).max() < TOLERANCE


def test_the_vectors_of_tokens_are_the_librarys_and_are_computed_only_where_they_are_wished(
    whole: tuple[Any, Checkpoint], graph: EncoderEngine
) -> None:
    model, checkpoint = whole
    task = SPEC.serving_task(Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens), checkpoint.task_options)
    wished = EmbedOptions(of_tokens=True, truncation="truncate")
    encoded = [item for item in task.encode([EmbedItem(text) for text in TEXTS], wished) if isinstance(item, Encoded)]
    plain = [replace(item.rows[0], extra_outputs=()) for item in encoded]
    outputs = graph.run_rows([row for item, other in zip(encoded, plain, strict=True) for row in (*item.rows, other)])
    expected = model.encode(TEXTS, output_value="token_embeddings")
    for item, output, tokens in zip(encoded, outputs[::2], expected, strict=True):
        found = task.decode(item, [output], wished).vectors
        assert found.shape == tuple(tokens.shape)
        assert np.abs(found - tokens.numpy()).max() < TOLERANCE
    assert all(list(output) == ["logits"] for output in graph.run_rows(plain))


def test_what_the_library_wrote_stands_in_the_manifest(whole: tuple[Any, Checkpoint]) -> None:
    _, checkpoint = whole
    assert checkpoint.max_tokens == 32
    assert checkpoint.task_options == {
        "dimensions": 16,
        "token_dimensions": 16,
        "pooling": "+".join(MOST),
        "prompts": {**PROMPTS, "document": ""},  # the library adds its own names
        "default_prompt": "passage",
        "include_prompt": False,
        "is_normalized": True,
    }


def test_a_transformer_alone_is_pooled_by_the_mean_where_its_task_is_named(base: Path) -> None:
    with pytest.raises(InvalidSettings, match="or say --task feature-extraction to publish the mean of its tokens' vectors"):
        open_checkpoint(str(base))
    checkpoint = open_checkpoint(str(base), "feature-extraction")
    assert checkpoint.task_options["pooling"] == "mean"
    assert "it does not say how its token vectors become one" in checkpoint.notes[0]
    expected = library_model(base, ("mean",)).encode(TEXTS[:1])
    found = vectors(checkpoint, TorchRunner(checkpoint.model, "row"))[:1]
    assert np.abs(found - expected).max() < TOLERANCE


def test_of_a_model_that_writes_the_encoder_gives_the_vectors(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "writer"))
    (folder / "config.json").unlink()
    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    whole = transformers.T5Model(transformers.T5Config(vocab_size=64, **size)).eval()
    whole.save_pretrained(folder)
    checkpoint = open_checkpoint(str(folder), "feature-extraction")
    task = SPEC.serving_task(Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens), checkpoint.task_options)
    (encoded,) = task.encode([EmbedItem("the film was good")], EmbedOptions(normalize=False))
    assert isinstance(encoded, Encoded)
    (output,) = TorchRunner(checkpoint.model, "row").run_rows(encoded.rows)
    with torch.no_grad():
        hidden = whole.encoder(torch.tensor([list(encoded.rows[0].input_ids)])).last_hidden_state
    np.testing.assert_allclose(output["logits"], hidden[0].mean(0).numpy(), atol=TOLERANCE)


def test_weights_that_are_a_pickle_are_refused(whole: tuple[Any, Checkpoint], base: Path, tmp_path: Path) -> None:
    model = library_model(base, ("mean",), models.Dense(library_model(base, ("mean",)).get_sentence_embedding_dimension(), 8))
    model.save(str(tmp_path / "saved"), safe_serialization=True)
    (tmp_path / "saved" / "2_Dense" / "model.safetensors").rename(tmp_path / "saved" / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(InvalidSettings, match="2_Dense holds no weights as safetensors, and a pickle could run any code"):
        open_checkpoint(str(tmp_path / "saved"))


def test_what_is_saved_here_is_read_by_the_library_and_read_again_here(
    whole: tuple[Any, Checkpoint], base: Path, tmp_path: Path
) -> None:
    model, checkpoint = whole
    checkpoint.model.save_pretrained(tmp_path)
    for file in base.glob("*token*"):
        shutil.copy(file, tmp_path)
    again = open_checkpoint(str(tmp_path))
    assert (again.max_tokens, again.task_options) == (checkpoint.max_tokens, checkpoint.task_options)
    library = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    for found in (vectors(again, TorchRunner(again.model, "row")), library.encode(TEXTS)):
        assert np.abs(found - model.encode(TEXTS)).max() < TOLERANCE
