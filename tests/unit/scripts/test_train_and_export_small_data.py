"""A sentence encoder and few rows, from the command line: a probe and what follows it; published, resumed, switched off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.core.manifest import read_manifest
from scripts.export.pooling import pooling_of
from scripts.training import pipeline
from tests.unit.scripts.conftest import Train, press_ctrl_c, stop_at


def evaluation_of(folder: Path) -> dict[str, Any]:
    evaluation: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return evaluation


def test_the_published_graph_pools_as_it_was_trained_and_the_card_says_how(
    train: Train, sentence_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--base-model", str(sentence_encoder)) == 0
    folder = tmp_path / "models" / "reviews" / "1"
    assert read_manifest(folder).graph.outputs[0].pooling == "mean"
    probe = evaluation_of(folder)["training"]["probe"]
    assert probe["folds"] == 5
    sentence = "the head began as a linear probe of the frozen base model (C = "
    assert sentence in capsys.readouterr().out
    assert sentence.capitalize().replace("(c", "(C") in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_is_switched_off_by_one_option(train: Train, sentence_encoder: Path, tmp_path: Path) -> None:
    assert train("--base-model", str(sentence_encoder), "--head", "random") == 0
    folder = tmp_path / "models" / "reviews" / "1"
    assert read_manifest(folder).graph.outputs[0].pooling == "first"
    assert "probe" not in evaluation_of(folder)["training"]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_stopped(
    train: Train, sentence_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--base-model", str(sentence_encoder), "--storage", "fp32")
    assert train(*options, "--name", "whole") == 0
    with monkeypatch.context() as patched:
        stop_at(4, patched, press_ctrl_c)
        assert train(*options, "--name", "stopped") == 130
    assert train(*options, "--name", "stopped", "--resume") == 0
    whole, stopped = (load_file(tmp_path / "runs" / name / "final" / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(weights, stopped[name]) for name, weights in whole.items())
    training = evaluation_of(tmp_path / "models" / "stopped" / "1")["training"]
    assert training["probe"]["strength"] == evaluation_of(tmp_path / "models" / "whole" / "1")["training"]["probe"]["strength"]


@pytest.mark.slow
def test_adapters_are_trained_from_the_probe_too(train: Train, sentence_encoder: Path, tmp_path: Path) -> None:
    assert train("--base-model", str(sentence_encoder), "--lora-rank", "2") == 0
    assert read_manifest(tmp_path / "models" / "reviews" / "1").graph.outputs[0].pooling == "mean"


@pytest.mark.slow
def test_the_learning_rate_is_sought_from_the_probe(
    train: Train, sentence_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled: list[str] = []
    begin = pipeline.begin_with_probe

    def spy(model: Any, *arguments: Any) -> Any:
        pooled.append(pooling_of(model))
        return begin(model, *arguments)

    monkeypatch.setattr(pipeline, "begin_with_probe", spy)
    train("--base-model", str(sentence_encoder), "--find-learning-rate")  # which rate so few rows suggest does not matter here
    assert pooled == ["mean"]
