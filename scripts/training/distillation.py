"""A larger classifier whose answers a smaller one learns from (knowledge distillation)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.files import atomic_writer
from app.tasks.tokenizer import Tokenizer
from scripts.export.export import note_padding, sample_rows
from scripts.export.pooling import restore_pooling
from scripts.export.torch_reference import TorchRunner
from scripts.tasks.spec import TrainingRow, TrainingTask
from scripts.training import pretrained
from scripts.training.casing import with_capitals
from scripts.training.data import Example
from scripts.training.pretrained import resolve
from scripts.training.processes import is_main_process
from scripts.training.run_folder import RECIPE, RunFolder

LONGEST = 512
"""Tokens that it reads of a text at most."""


@dataclass(frozen=True)
class Teacher:
    """A model with its head, which reads texts with its own tokenizer."""

    model: Any
    tokenizer: Tokenizer
    training: TrainingTask
    task_options: Mapping[str, Any]
    """Of the student, whose labels it knows."""

    def answers(self, examples: Sequence[Example]) -> np.ndarray:
        """Logits in the order of the student's labels. (examples, labels)"""
        rows = [row.row for row in self.training.training_rows(examples, self.tokenizer, self.task_options)]
        outputs = TorchRunner(self.model, self.training.output_axis).run_rows(rows)
        own = _labels(self.model)
        order = [own.index(label) for label in self.task_options["labels"]]
        return np.stack([output["logits"].reshape(-1)[order] for output in outputs]).astype(np.float32)


def open_teacher(name: str, training: TrainingTask, task_options: Mapping[str, Any]) -> Teacher:
    """Load a finished run folder, a folder that transformers saved, or a hub id.

    Raises:
        InvalidSettings: it cannot be loaded, or has other labels than the data.
    """
    location, tokenizer_of, is_cased = _places(name)
    transformers.logging.set_verbosity_error()
    try:
        model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
            location, trust_remote_code=False, use_safetensors=True
        )
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"the teacher {name} cannot be loaded: {pretrained.first_line(error)}") from error
    restore_pooling(model)
    _check_labels(name, _labels(model), task_options["labels"])
    start = pretrained.find_start(tokenizer_of)
    start = with_capitals(start) if is_cased else start
    tokenizer = Tokenizer(start.tokenizer, min(LONGEST, pretrained.longest_input(model), start.max_tokens))
    note_padding(model, training.output_axis, sample_rows(training, tokenizer, task_options))
    return Teacher(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, training, task_options)


def with_teacher_logits(
    rows: Sequence[TrainingRow], ask: Callable[[], np.ndarray], file: Path | None = None, resume: bool = False
) -> list[TrainingRow]:
    """The rows with the teacher's logits.

    Args:
        rows: the student's.
        ask: gives the logits. (rows, labels)
        file: where the logits are kept, until the run is forgotten; None: nowhere.
        resume: whether what is kept there is this run's.
    """
    logits = _stored_logits(file, len(rows)) if file and resume else None
    if logits is None:
        logits = ask()
        if file and is_main_process():
            _keep(file, logits)
    return [replace(row, teacher=line) for row, line in zip(rows, logits, strict=True)]


def _labels(model: Any) -> list[str]:
    return [str(model.config.id2label[index]) for index in range(model.config.num_labels)]


def _check_labels(name: str, labels: Sequence[str], data_labels: Sequence[str]) -> None:
    unknown, lacking = sorted(set(labels) - set(data_labels)), sorted(set(data_labels) - set(labels))
    if unknown or lacking:
        difference = f"it knows {unknown[0]!r}, the data does not" if unknown else f"it lacks {lacking[0]!r}"
        raise InvalidSettings(f"the teacher {name} has other labels than the data: {difference}")


def _places(name: str) -> tuple[str, str, bool]:
    """Where its weights are, where its tokenizer, and whether that was made to read capitals: a run keeps its base model's by
    name alone."""
    run = RunFolder(Path(name))
    if not run.is_finished:
        return resolve(name, "teacher").location, name, False
    try:
        recipe = json.loads((run.path / RECIPE).read_text(encoding="utf-8"))["recipe"]
        base, is_cased = recipe["base_model"], recipe.get("cased", False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidSettings(f"{run.path / RECIPE} does not say which base model {name} began with") from error
    return str(run.final), str(base), bool(is_cased)


def _stored_logits(file: Path, num_rows: int) -> np.ndarray | None:
    try:
        logits: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return logits if len(logits) == num_rows else None


def _keep(file: Path, logits: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(file, partial=file.with_name(f"partial.{file.name}")) as stream:
        np.save(stream, logits)
