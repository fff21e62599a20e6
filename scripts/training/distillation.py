"""A larger model whose answers a smaller one learns from (knowledge distillation), also to texts that nobody labelled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.files import atomic_writer
from app.tasks.sentences import sentences
from app.tasks.tokenizer import Tokenizer
from scripts.export.eval_data import parse_item
from scripts.export.export import note_padding, sample_rows
from scripts.export.pooling import restore_pooling
from scripts.export.torch_reference import TorchRunner
from scripts.tasks.spec import Axis, Prepared, TrainingRow, TrainingTask
from scripts.training import pretrained
from scripts.training.casing import with_capitals
from scripts.training.data import Broken, Example, normalized, stop_if_too_many
from scripts.training.objective import check_teacher
from scripts.training.pretrained import resolve
from scripts.training.processes import is_main_process
from scripts.training.recipe import Recipe
from scripts.training.records import read_records
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

    def answers(self, examples: Sequence[Example], students: Sequence[TrainingRow] = ()) -> np.ndarray:
        """Logits in the order of the student's labels. (examples, labels); where each token has an output, (tokens of all rows,
        labels).

        Args:
            students: the same as the student reads them; only looked at where each token has an output.

        Raises:
            InvalidSettings: there the student reads them in other tokens.
        """
        rows = [row.row for row in self.training.training_rows(examples, self.tokenizer, self.task_options)]
        if self.training.output_axis != "row":
            sizes = [[row.num_tokens for row in rows], [row.row.num_tokens for row in students]]
            if sizes[0] != sizes[1]:
                raise InvalidSettings(
                    f"the teacher cuts the texts into other tokens than the base model; for {self.training.name}, where each"
                    " token has an answer, take one with the same tokenizer"
                )
        outputs = TorchRunner(self.model, self.training.output_axis).run_rows(rows)
        logits = np.concatenate([output["logits"].reshape(-1, output["logits"].shape[-1]) for output in outputs])
        if "labels" in self.task_options:
            own = _labels(self.model)
            logits = logits[:, [own.index(label) for label in self.task_options["labels"]]]
        return logits.astype(np.float32)


def open_teacher(name: str, training: TrainingTask, task_options: Mapping[str, Any], max_tokens: int = LONGEST) -> Teacher:
    """Load a finished run folder, a folder that transformers saved, or a hub id.

    Args:
        max_tokens: longest row of the student; where each token has an output, the teacher reads in the same rows.

    Raises:
        InvalidSettings: it cannot be loaded, has no head for the task or other labels than the data.
    """
    location, tokenizer_of, is_cased = _places(name)
    transformers.logging.set_verbosity_error()
    options: dict[str, Any] = {"trust_remote_code": False}
    try:
        kind = training.model_class(transformers.AutoConfig.from_pretrained(location, **options))
        model, report = kind.from_pretrained(location, use_safetensors=True, output_loading_info=True, **options)
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"the teacher {name} cannot be loaded: {pretrained.first_line(error)}") from error
    if missing := [key for key in report["missing_keys"] if "pooler" not in key.split(".")]:
        raise InvalidSettings(f"the teacher {name} was not trained for {training.name}: it lacks {missing[0]}")
    restore_pooling(model)
    if "labels" in task_options:
        _check_labels(name, _labels(model), task_options["labels"])
    start = pretrained.find_start(tokenizer_of)
    start = with_capitals(start) if is_cased else start
    longest = LONGEST if training.output_axis == "row" else max_tokens
    tokenizer = Tokenizer(start.tokenizer, min(longest, pretrained.longest_input(model), start.max_tokens))
    note_padding(model, training.output_axis, sample_rows(training, tokenizer, task_options))
    return Teacher(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, training, task_options)


def taught_rows(
    name: str,
    training: TrainingTask,
    tokenizer: Tokenizer,
    task_options: Mapping[str, Any],
    parts: Sequence[Sequence[Example]],
    file: Path | None = None,
    resume: bool = False,
) -> list[TrainingRow]:
    """What is trained on, with the teacher's answers.

    Args:
        parts: examples with labels, and those without.
        file, resume: as for `with_teacher_logits`.

    Raises:
        InvalidSettings: the teacher cannot teach this student.
    """
    check_teacher(name, training)
    rows = [training.training_rows(part, tokenizer, task_options) if part else [] for part in parts]
    labelled, unlabelled = rows

    def ask() -> np.ndarray:
        teacher = open_teacher(name, training, task_options, tokenizer.max_tokens)
        return np.concatenate([teacher.answers(*pair) for pair in zip(parts, rows, strict=True) if pair[0]])

    all_rows = [*labelled, *(replace(row, is_labelled=False) for row in unlabelled)]
    return with_teacher_logits(all_rows, ask, file, resume, training.output_axis)


def read_unlabelled(recipe: Recipe, training: TrainingTask, prepared: Prepared) -> tuple[Sequence[Example], Sequence[str]]:
    """The texts of `teacher_data` that are neither held out nor trained on with a label, each once; and sentences about them.

    Raises:
        InvalidSettings: a source cannot be read, too many of its rows cannot be used, or none can.
    """
    check_teacher(recipe.teacher, training)
    target, examples = training.unlabelled_target(prepared.task_options), []
    for source in dict.fromkeys(recipe.teacher_data):
        records = read_records(source, recipe.read_options)
        parsed = [parse_item(training, recipe, record, source) for record in records]
        stop_if_too_many([row for row in parsed if isinstance(row, Broken)], len(parsed), recipe.max_bad_share)
        examples += [replace(row, target=target) for row in parsed if isinstance(row, Example)]
    held_out = {normalized(example.item) for example in prepared.dataset.validation}
    unseen = [example for example in examples if normalized(example.item) not in held_out]  # nor are their sentences read
    num_held_out = len(examples) - len(unseen)
    examples = list(_in_sentences(unseen, training, recipe.language)) if recipe.teacher_sentences else unseen
    known = held_out.union(normalized(example.item) for example in prepared.dataset.train)
    fresh = {key: example for example in examples if (key := normalized(example.item)) not in known}
    if not fresh:
        raise InvalidSettings("teacher_data has no text that is not in the data already")
    left_out = num_held_out + len(examples) - len(fresh)
    more = f"; {left_out:,} more are in the data already, or come twice" if left_out else ""
    return list(fresh.values()), [f"{len(fresh):,} texts without labels are answered by the teacher{more}"]


def _in_sentences(examples: Sequence[Example], training: TrainingTask, language: str) -> Iterator[Example]:
    if [name for name, field in training.fields.items() if field.required] != ["text"]:
        raise InvalidSettings(f"teacher_sentences is for tasks that read a text alone, not for {training.name}")
    for example in examples:
        text = example.item.text
        for start, end in sentences(text, language):
            yield replace(example, item=training.item({"text": text[start:end]}))


def with_teacher_logits(
    rows: Sequence[TrainingRow],
    ask: Callable[[], np.ndarray],
    file: Path | None = None,
    resume: bool = False,
    axis: Axis = "row",
) -> list[TrainingRow]:
    """The rows with the teacher's logits.

    Args:
        ask: gives the logits. (rows, labels), or (tokens of all rows, labels)
        file: where the logits are kept, until the run is forgotten; None: nowhere.
        resume: whether what is kept there is this run's.
        axis: what one of them belongs to.
    """
    sizes = [1 if axis == "row" else row.row.num_tokens for row in rows]
    logits = _stored_logits(file, sum(sizes)) if file and resume else None
    if logits is None:
        logits = ask()
        if file and is_main_process():
            _keep(file, logits)
    own = np.split(logits, np.cumsum(sizes)[:-1])  # of each row
    return [replace(row, teacher=part[0] if axis == "row" else part) for row, part in zip(rows, own, strict=True)]


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


def _stored_logits(file: Path, count: int) -> np.ndarray | None:
    try:
        logits: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return logits if len(logits) == count else None


def _keep(file: Path, logits: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(file, partial=file.with_name(f"partial.{file.name}")) as stream:
        np.save(stream, logits)
