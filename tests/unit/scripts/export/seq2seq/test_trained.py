"""From pairs of texts to a published model that writes: the whole line with a tiny model from nothing, and resumed."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.core.errors import InvalidSettings
from app.core.manifest import read_manifest
from scripts.export.published import open_version
from scripts.report.build import evaluate_version
from scripts.training.dry_run import examine_run
from scripts.training.pipeline import Pipeline
from scripts.training.recipe import recipe_of

ENGLISH = ("red", "old", "small", "dog", "cat", "house", "runs", "sleeps", "sings", "one", "two", "nine")
GERMAN = ("roter", "alter", "kleiner", "Hund", "Kater", "Haus", "rennt", "schläft", "singt", "eins", "zwei", "neun")
SIZES = {"new_layers": 1, "new_width": 32, "new_inner": 64, "new_heads": 2, "new_vocabulary": 120}


def recipe_values(folder: Path, count: int = 60) -> dict[str, Any]:
    generator = random.Random(0)
    rows = []
    for _ in range(count):
        numbers = [generator.randrange(len(ENGLISH)) for _ in range(4)]
        english, german = (" ".join(words[number] for number in numbers) for words in (ENGLISH, GERMAN))
        rows.append({"en": f"{english}.", "de": f"{german}."})
    source = folder / "pairs.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    places = {"runs": str(folder / "runs"), "models": str(folder / "models")}
    return {"name": "words", "task": "translation", "data": [str(source)], "base_model": "new", **SIZES, **places}


def pipeline(folder: Path, said: list[str] | None = None, **values: Any) -> Pipeline:
    lines = [] if said is None else said
    recipe = recipe_of({**recipe_values(folder), **values})
    return Pipeline(recipe, None, lambda stage, text: lines.append(f"{stage} {text}"))


@pytest.mark.slow
def test_a_translator_from_nothing_learns_is_published_and_answers_as_in_torch(tmp_path: Path) -> None:
    values = {**recipe_values(tmp_path, 300), "epochs": 20, "hidden_dropout": 0.0, "learning_rate": 4e-3, "batch_tokens": 512}
    said: list[str] = []
    line = Pipeline(recipe_of(values), None, lambda stage, text: said.append(f"{stage} {text}"))
    published = line.run(resume=False)
    assert published is not None
    losses = [entry["loss"] for entry in line.run_folder.history["train"]]
    assert losses[-1] < losses[0] / 2
    manifest = read_manifest(published.folder)
    assert manifest.decoder is not None
    assert (manifest.task, manifest.task_options["source"], manifest.task_options["target"]) == ("translation", "en", "de")
    assert manifest.evaluation["mean_chrf"] > 30
    assert manifest.data_format.columns == {"text": "en", "label": "de"}
    assert manifest.reference.num_items == published.evaluation["data"]["held_out"] == 60
    version = open_version("words", tmp_path / "models", may_write=True)
    examples = line.load({values["data"][0]: _records(values)}).dataset.validation
    again = evaluate_version(version, examples)
    figures = version.training.evaluate(again.predictions.answers, examples, manifest.task_options)
    assert figures["headline"] == published.evaluation["headline"]
    page = published.report.read_text(encoding="utf-8") if published.report else ""
    assert "Side by side" in page
    assert (published.folder / "README.md").read_text(encoding="utf-8").count("BLEU") >= 1
    assert any(text.startswith("verify same prediction as PyTorch: 100 %") for text in said)


def _records(values: dict[str, Any]) -> list[Any]:
    from scripts.training.records import read_records

    return read_records(values["data"][0])


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights_and_vocabulary(tmp_path: Path) -> None:
    line = pipeline(tmp_path, epochs=3, batch_tokens=128)
    start = line.find_start()
    prepared = line.check_start(line.load({line.recipe.data[0]: _records({"data": line.recipe.data})}), start)
    line.train(prepared, resume=False, start=start)
    final = line.run_folder.final
    weights, vocabulary = load_file(final / "model.safetensors"), (final / "tokenizer.json").read_text(encoding="utf-8")
    shutil.rmtree(final)
    shutil.rmtree(line.run_folder.checkpoints[-1])
    line.train(prepared, resume=True, start=start)
    resumed = load_file(final / "model.safetensors")
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert (final / "tokenizer.json").read_text(encoding="utf-8") == vocabulary
    assert line.run_folder.cost["resumed_after_updates"] > 0


@pytest.mark.slow
def test_early_stopping_goes_by_the_texts_that_are_written(tmp_path: Path) -> None:
    line = pipeline(tmp_path, epochs=2, batch_tokens=256, autofit=True)
    start = line.find_start()
    prepared = line.check_start(line.load({line.recipe.data[0]: _records({"data": line.recipe.data})}), start)
    tuned = line.train(prepared, resume=False, start=start).cost["autofit"]
    assert tuned["metric"] == "mean_chrf"
    assert len(tuned["evaluations"]) == 2
    assert tuned["best_figure"] == max(entry["mean_chrf"] for entry in tuned["evaluations"])


@pytest.mark.slow
def test_a_dry_run_looks_at_everything_and_writes_nothing(tmp_path: Path) -> None:
    line = pipeline(tmp_path)
    checks = list(examine_run(line))
    assert [check.detail for check in checks if check.level == "problem"] == []
    assert {"base model", "data", "memory", "time", "publish"} <= {check.name for check in checks}
    assert not (tmp_path / "runs").exists()


def test_what_a_training_begins_with_must_be_named_and_fit(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="which model shall a training for translation begin with"):
        pipeline(
            tmp_path, base_model="auto", **{name: getattr(recipe_of({"data": ["a"]}), name) for name in SIZES}
        ).find_start()
    values = {"task": "text-classification", "data": ["a"], "name": "x", "base_model": "new"}
    with pytest.raises(InvalidSettings, match="learns too little from its rows alone"):
        Pipeline(recipe_of(values), None, lambda stage, text: None).find_start()
