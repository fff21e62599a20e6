"""Texts on which a foreign checkpoint is judged: a file of the user's, labelled or not, or the built-in probes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from app.core.errors import InvalidSettings
from app.core.types import TaskName
from app.tasks.labels import clean_label
from app.tasks.sentences import LANGUAGE
from scripts.export.sample_inputs import probes
from scripts.tasks import question_answering, regression, summarization, text_classification
from scripts.tasks.base import OfflineTask
from scripts.training.cells import in_lower_case
from scripts.training.label_kind import NO_LABEL, whole_number
from scripts.training.load_data import Broken, Example, Parse, describe_broken, first_readable, stop_if_too_many
from scripts.training.recipe import Recipe
from scripts.training.records import Record, read_file_bytes, read_records

FIELDS: Mapping[TaskName, Mapping[str, Sequence[str]]] = {
    "text-classification": {"text": text_classification.TEXT_NAMES, "text_pair": ("text_pair",)},
    "question-answering": {"question": ("question",), "context": question_answering.CONTEXT_NAMES},
    "summarization": {"text": summarization.TEXT_NAMES},
}
"""The fields of items without a target, with the columns that hold them."""
TEXT_SUFFIXES = (".txt", ".txt.gz")


class Model(Protocol):
    """A model that is there already: a checkpoint, or the manifest of a published version."""

    @property
    def task(self) -> TaskName: ...

    @property
    def task_options(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class HeldOut:
    """Examples, and whether their targets are the right answers."""

    examples: Sequence[Example]
    is_labelled: bool
    broken: Sequence[Broken]
    where_from: str
    """As the card says it."""
    are_given: bool = True
    """By somebody who chose them for this model."""


def held_out(offline: OfflineTask, model: Model, recipe: Recipe) -> HeldOut:
    """The examples of the recipe's `validation`, or probes where it names none.

    Raises:
        InvalidSettings: too many rows are broken, or have labels that the model does not know.
    """
    if not recipe.validation:
        made = probes(offline, model.task)
        return HeldOut(made, False, [], f"{len(made)} built-in texts, since none were given", False)
    records = {source: _records(source) for source in recipe.validation}
    columns = first_readable(records).columns
    is_labelled = _is_labelled(model.task, recipe, columns)
    if is_labelled:
        examples, broken = read_labelled(model.task, model.task_options, recipe, records)
    else:
        examples, broken = _parsed(partial(_unlabelled, offline, model.task, recipe), recipe, records)
    if recipe.max_rows and len(examples) > recipe.max_rows:
        examples = random.Random(recipe.seed).sample(examples, recipe.max_rows)
    said = f"{len(examples):,} rows of {', '.join(Path(source).name for source in records)}"
    return HeldOut(examples, is_labelled, broken, f"{said}; {describe_broken(broken)}" if broken else said)


def read_labelled(
    task: TaskName, task_options: Mapping[str, Any], recipe: Recipe, records: dict[str, list[Record]]
) -> tuple[list[Example], list[Broken]]:
    """Examples with the labels of a model that is there already, and the rows that are none.

    Raises:
        InvalidSettings: too many rows are broken, or have labels that the model does not know.
    """
    parse = _parser(task, task_options, recipe, records)
    return _parsed(lambda record, source: _known(parse(record, source), task, task_options), recipe, records)


def _parsed(parse: Parse, recipe: Recipe, records: dict[str, list[Record]]) -> tuple[list[Example], list[Broken]]:
    parsed = [parse(record, source) for source, rows in records.items() for record in rows]
    broken = [one for one in parsed if isinstance(one, Broken)]
    stop_if_too_many(broken, len(parsed), recipe.max_bad_share)
    return [one for one in parsed if isinstance(one, Example)], broken


def _records(source: str) -> list[Record]:
    """As for training, and plain text files of one text a line."""
    path = Path(source)
    if not (path.is_file() and path.name.lower().endswith(TEXT_SUFFIXES)):
        return read_records(source)
    lines = read_file_bytes(path).decode("utf-8-sig", "replace").splitlines()
    return [Record(f"{path}:{number}", {"text": line}) for number, line in enumerate(lines, start=1) if line.strip()]


def _is_labelled(task: TaskName, recipe: Recipe, columns: Mapping[str, Any]) -> bool:
    names = {
        "text-classification": (*text_classification.LABEL_NAMES, *regression.NUMBER_NAMES),
        "question-answering": question_answering.ANSWER_NAMES,
        "summarization": summarization.SUMMARY_NAMES,
    }[task]
    return bool(recipe.label_column) or any(name.lower() in names for name in columns)


def _parser(task: TaskName, task_options: Mapping[str, Any], recipe: Recipe, records: dict[str, list[Record]]) -> Parse:
    """One record to an example with its target, as for training."""
    if task == "question-answering":
        # nothing is learnt here, and figures compare texts: where an answer stands does not matter
        return partial(question_answering.parse, repair=question_answering.Repair())
    if task == "summarization":
        text, summary = summarization.choose_columns(recipe, records)
        language = task_options.get("language", LANGUAGE)
        return partial(summarization.parse, text=text, summary=summary, language=language)
    known = replace(
        recipe,
        problem_type=task_options["problem_type"],
        minus_one="class" if NO_LABEL in map(whole_number, task_options["labels"]) else recipe.minus_one,
    )
    return text_classification.Columns.choose(known, records).parse


def _unlabelled(offline: OfflineTask, task: TaskName, recipe: Recipe, record: Record, source: str) -> Example | Broken:
    if record.broken:
        return Broken(record.where, record.broken)
    fields = {}
    columns = in_lower_case(record.columns)
    for name, known in FIELDS[task].items():
        found = [one for one in ([recipe.text_column] if name == "text" and recipe.text_column else known) if one in columns]
        if found:
            fields[name] = columns[found[0]]
        elif name != "text_pair":
            return Broken(record.where, f"no column of the {name}; say --text-column NAME")
    if not all(isinstance(one, str) and one.strip() for one in fields.values()):
        return Broken(record.where, "empty text")
    return Example(offline.item(fields), None, source, record.where)


def _known(one: Example | Broken, task: TaskName, task_options: Mapping[str, Any]) -> Example | Broken:
    """The example with the model's own labels; data sets often hold their numbers instead."""
    if isinstance(one, Broken) or task != "text-classification":
        return one
    if task_options["problem_type"] == text_classification.REGRESSION:
        return one
    labels = task_options["labels"]
    given = one.target if isinstance(one.target, tuple) else (one.target,)
    named = [_label(label, labels) for label in given]
    if None in named:
        unknown = given[named.index(None)]
        return Broken(one.where, f"label {unknown!r} is none of the model's: {', '.join(labels[:10])}")
    return replace(one, target=tuple(named) if isinstance(one.target, tuple) else named[0])


def _label(given: str, labels: Sequence[str]) -> str | None:
    if given in labels:
        return given
    cleaned = [clean_label(one) for one in labels]
    if given in cleaned:
        return labels[cleaned.index(given)]
    numbers = [whole_number(one) for one in cleaned]  # of a model that learnt 1.0
    if given in numbers:
        return labels[numbers.index(given)]
    return labels[int(given)] if given.isdecimal() and int(given) < len(labels) else None


def check_enough(one: HeldOut) -> None:
    """
    Raises:
        InvalidSettings: there is nothing to compare the graph on.
    """
    if not one.examples:
        raise InvalidSettings("no row of --data can be used")
