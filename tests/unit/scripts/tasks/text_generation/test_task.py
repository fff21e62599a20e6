"""Models that continue a text offline: checkpoints that are published, and the data that others are trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from app.batching.admission import QueueLimit
from app.core.artefact import Artefact, open_artefact
from app.core.errors import InvalidSettings
from app.data import Record
from app.observability.metrics import Metrics
from app.serving.loader import LoadOptions, load
from app.settings import Settings
from app.tasks.base import Result
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import ContinueOptions
from scripts.export.commands import add
from scripts.tasks.spec import Prepared
from scripts.tasks.text_generation import SPEC as TASK
from scripts.training.columns import TableSample
from scripts.training.data import read_corrections
from scripts.training.recipe import Recipe
from tests.support.corrections import CORRECTION, write_feedback
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


ROWS = [{"prompt": f"the film {number} was", "completion": f" good {number}"} for number in range(12)]


def records(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Record]]:
    return {"a": [Record(f"a:{number}", dict(row)) for number, row in enumerate(rows, start=1)]}


def prepared(rows: Sequence[Mapping[str, Any]], **recipe: Any) -> Prepared:
    return TASK.prepare(Recipe(name="x", task=NAME, data=["a"], **recipe), records(rows))


def test_a_completion_keeps_the_blank_that_it_begins_with() -> None:
    dataset = prepared(ROWS).dataset
    assert {example.target for example in dataset.train} <= {row["completion"] for row in ROWS}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "the film was", "completion": " "}, "'completion' must not be empty"),
        ({"prompt": "the film was"}, "missing column 'completion'"),
    ],
)
def test_a_row_without_a_completion_is_named(row: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidSettings, match=f"a:13 \\({reason}\\)"):
        prepared([*ROWS, row])


def test_a_prefix_is_part_of_the_prompts() -> None:
    with pytest.raises(InvalidSettings, match="source_prefix is for models with an encoder"):
        prepared(ROWS, source_prefix="x: ")


def test_conversations_say_the_task() -> None:
    chat = [{"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]}] * 4
    texts = records([{"conversation": f"a: hello {number}", "label": "polite"} for number in range(4)])["a"]
    of = {"chat": records(chat)["a"], "pairs": records(ROWS)["a"], "texts": texts}
    surely = {name: TASK.recognizes(Recipe(), TableSample.of(rows)) for name, rows in of.items()}
    assert surely == {"chat": 0.9, "pairs": 0.0, "texts": 0.0}


@pytest.mark.parametrize("chat", [True, False])
def test_what_should_have_been_written_is_trained_on(chat: bool, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "the film"}, {"role": "assistant", "content": " was bad"}]
    rows = [{"messages": messages}, *({"messages": [{"role": "user", "content": str(n)}, messages[1]]} for n in range(9))]
    corrections = [replace(CORRECTION, model="x", task=NAME, item={"text": "a text"}, right={"target": " goes on"})]
    feedback = str(write_feedback(tmp_path / "feedback.db", corrections))
    recipe = Recipe(name="x", task=NAME, data=["a"], from_feedback=[feedback])
    dataset = TASK.prepare(recipe, records(rows if chat else ROWS) | dict(read_corrections(recipe).records)).dataset
    assert (dataset.train[-1].item, dataset.train[-1].target) == (SourceText("a text"), " goes on")
    assert dataset.num_corrections == 1
