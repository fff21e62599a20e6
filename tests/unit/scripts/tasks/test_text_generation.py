"""`hooper models add` on checkpoints that continue a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from app.batching.admission import QueueLimit
from app.core.artefact import Artefact, open_artefact
from app.observability.metrics import Metrics
from app.serving.loader import LoadOptions, load
from app.settings import Settings
from app.tasks.base import Result
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import ContinueOptions
from scripts.export.commands import add
from scripts.tasks import published_names, task_names
from tests.support.tiny_causal import model_of, save_checkpoint

NAME = "text-generation"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Few texts: each is continued by transformers too."""
    file = tmp_path / "texts.txt"
    file.write_text("the film was\nit opened in the old town and it was very good\nnot\n", encoding="utf-8")
    return file


def published(folder: Path, data: Path, *words: str) -> Artefact:
    models = folder.parent / "models"
    assert add([str(folder), "--models", str(models), "--data", str(data), *words]) == 0
    return open_artefact(models / folder.name / "1")


@pytest.mark.parametrize(("family", "storage"), [("llama", "fp32"), ("gemma2", "int8")])
async def test_a_checkpoint_is_published_loaded_and_continues_as_transformers_does(
    family: str, storage: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_checkpoint(family, tmp_path / "story")
    artefact = published(folder, data, "--storage", storage)
    manifest, decoder = artefact.manifest, artefact.manifest.decoder
    assert decoder is not None
    assert (manifest.task, decoder.has_encoder, decoder.max_length, manifest.max_tokens) == (NAME, False, 64, 64)
    assert manifest.graph.file == decoder.file == "model.onnx"
    assert {path.name for path in artefact.folder.iterdir()} == {
        "model.onnx", "tokenizer.json", "golden.json", "evaluation.json", "README.md", "manifest.json",
    }  # fmt: skip
    assert "texts and what continues them of up to 64 tokens" in capsys.readouterr().out
    options = LoadOptions.from_settings(Settings(device="cpu", engine_threads=1), QueueLimit(100, 10_000))
    deployment = await load(artefact, options, Metrics())
    if storage == "fp32":
        text = "the old film was"
        (result,) = (await deployment.predict([SourceText(text)], ContinueOptions(max_new_tokens=9))).results
        assert isinstance(result, Result)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = torch.tensor([tokenizer(text).input_ids])
        expected = model_of(family).generate(ids, max_new_tokens=9, do_sample=False)[0]
        whole, before = (tokenizer.decode(tokens, skip_special_tokens=True) for tokens in (expected, ids[0]))
        assert result.answer.text == whole.removeprefix(before)
        assert result.num_tokens == ids.shape[1]
    await deployment.aclose(0)


def test_the_context_is_as_long_as_it_is_said_to_be(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_checkpoint("llama", tmp_path / "story")
    artefact = published(folder, data, "--max-tokens", "60")
    assert artefact.manifest.decoder is not None
    assert (artefact.manifest.max_tokens, artefact.manifest.decoder.max_length) == (60, 60)
    assert add([str(folder), "--models", str(tmp_path), "--max-tokens", "65"]) != 0
    assert "--max-tokens is 65; this model reads between 8 and 64" in capsys.readouterr().err


def test_lengths_that_count_the_text_are_left_out(tmp_path: Path, data: Path) -> None:
    folder = save_checkpoint("llama", tmp_path / "story")
    generation = {"max_length": 30, "min_length": 4, "repetition_penalty": 1.2, "eos_token_id": [1, 9]}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    decoder = published(folder, data).manifest.decoder
    assert decoder is not None
    assert decoder.generation == {"repetition_penalty": 1.2}
    assert decoder.eos_token_ids == (1, 9)


def test_another_family_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers.BloomConfig(architectures=["BloomForCausalLM"]).save_pretrained(tmp_path / "bloom")
    assert add([str(tmp_path / "bloom"), "--models", str(tmp_path / "models")]) != 0
    assert "is a model of bloom; of models that continue a text, those of gpt2, llama" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_it_is_published_and_not_trained() -> None:
    assert NAME in published_names()
    assert NAME not in task_names()
