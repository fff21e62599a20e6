"""What a model that is there already is judged on: a file of the user's, labelled or not, or built-in neutral texts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.core.errors import InvalidSettings
from app.core.fields import match_columns
from app.core.manifest import UNKNOWN_FORMAT, DataFormat
from app.data import ReadOptions, Record, records
from scripts.tasks.spec import TrainingTask
from scripts.training.columns import known_columns
from scripts.training.data import Broken, Example, Parse, describe_broken, first_readable, read_all, stop_if_too_many
from scripts.training.recipe import Recipe
from scripts.training.records import read_records

SENTENCES = (
    "This was exactly what I hoped for, thank you.",
    "It broke after two days and nobody answers my messages.",
    "Where can I find the opening hours?",
    "The meeting has been moved to Thursday at noon.",
    "The old library burned down in 1897.",
    "A new library opened in 1903, and a museum was added in 1911.",
    "The bridge over the Elbe was repaired by Anna Schmidt and her brothers.",
    "Engineers had warned for years that its roof could fall.",
    "About forty traders will move to a tent on the station square by March.",
    "Please send the invoice to the address below before Friday.",
    "The council expects the repair to cost four million euros.",
    "My card was charged twice and I would like the money back.",
    "Water boils at a lower temperature in the mountains.",
    "She scored twice in the last ten minutes of the match.",
    "The patient was given 20 mg and slept through the night.",
    "Shares fell by three percent after the report.",
    "I have never been so bored in my life.",
    "What a lovely evening, and what a wonderful film!",
    "Ünïcödé, 数字 and emoji 🙂 are text too.",
    "def answer(): return 42",
    "no",
    "OK, THANKS!!!",
    "Das Wetter war schön, und wir gingen am See spazieren.",
    "Il fait trop chaud pour travailler aujourd'hui.",
)
JOINED = (2, 3, 5, 8, 13)
NUM_JOINED_IN_LONGEST = 60
"""Sentences of the longest text: more than most encoders read at once."""


@dataclass(frozen=True)
class EvalData:
    """Examples, and whether their targets are the right answers."""

    examples: Sequence[Example]
    is_labelled: bool
    broken: Sequence[Broken]
    origin: str
    """As the card says it."""
    is_own: bool = True
    """Somebody chose them for this model; the built-in ones are like nobody's."""


def load_eval_data(
    training: TrainingTask, task_options: Mapping[str, Any], recipe: Recipe, known: DataFormat = UNKNOWN_FORMAT
) -> EvalData:
    """The examples that the recipe held out, where it names `data` too; else those of its `validation`; without any, the
    built-in ones.

    Args:
        recipe: names the sources, and perhaps columns.
        known: how the data that the model was trained on was written.

    Raises:
        InvalidSettings: no row can be used, too many are broken, or have labels that the model does not know.
    """
    if recipe.data:
        examples = list(training.prepare(recipe, read_all(recipe)).dataset.validation)
        return EvalData(examples, True, [], f"{len(examples):,} rows that were held out when it was trained")
    if not recipe.validation:
        samples = sample_examples(training)
        return EvalData(samples, False, [], f"{len(samples)} built-in texts, since none were given", is_own=False)
    records = {source: _read(source, replace(recipe.read_options, usual=known)) for source in recipe.validation}
    columns = first_readable(records).columns
    recipe = known_columns(recipe, known, records)
    is_labelled = bool(recipe.label_column) or training.label_field.find(columns) is not None
    if is_labelled:
        examples, broken = read_labelled(training, task_options, recipe, records)
    else:
        examples, broken = _parse_all(lambda record, source: parse_item(training, recipe, record, source), recipe, records)
    if recipe.max_rows and len(examples) > recipe.max_rows:
        examples = random.Random(recipe.seed).sample(examples, recipe.max_rows)
    if not examples:
        raise InvalidSettings("no row of --data can be used")
    origin = f"{len(examples):,} rows of {', '.join(Path(source).name for source in records)}"
    return EvalData(examples, is_labelled, broken, f"{origin}; {describe_broken(broken)}" if broken else origin)


def read_labelled(
    training: TrainingTask,
    task_options: Mapping[str, Any],
    recipe: Recipe,
    records: dict[str, list[Record]],
    known: DataFormat = UNKNOWN_FORMAT,
) -> tuple[list[Example], list[Broken]]:
    """Examples with the labels of a model that is there already, and the rows that are none. The arguments are those of
    `load_eval_data`, and the records of each source.

    Raises:
        InvalidSettings: too many rows are broken, or have labels that the model does not know.
    """
    recipe = known_columns(recipe, known, records)
    return _parse_all(training.labelled_parser(recipe, records, task_options), recipe, records)


def sample_examples(training: TrainingTask) -> list[Example]:
    """Built-in items of the task, short and long, alone and in pairs; they have no target."""
    texts = [*SENTENCES]  # and runs of them that begin at different places
    texts += [" ".join((SENTENCES * 2)[start : start + count]) for count in JOINED for start in range(0, len(SENTENCES), 6)]
    texts.append(" ".join((SENTENCES * 3)[:NUM_JOINED_IN_LONGEST]))
    examples = enumerate(map(training.item, training.sample_items(texts, SENTENCES)), start=1)
    return [Example(item, None, "built-in texts", f"built-in text {number}") for number, item in examples]


def _parse_all(parse: Parse, recipe: Recipe, records: dict[str, list[Record]]) -> tuple[list[Example], list[Broken]]:
    parsed = [parse(record, source) for source, rows in records.items() for record in rows]
    broken = [row for row in parsed if isinstance(row, Broken)]
    stop_if_too_many(broken, len(parsed), recipe.max_bad_share)
    return [row for row in parsed if isinstance(row, Example)], broken


def _read(source: str, options: ReadOptions) -> list[Record]:
    """As for training, and plain text files of one text a line."""
    if Path(source).is_file():
        return list(records(Path(source), replace(options, text_name="text")))
    return read_records(source, options)


def parse_item(training: TrainingTask, recipe: Recipe, record: Record, source: str) -> Example | Broken:
    """An example without a target, of a record whose labels, if it has any, are not looked at."""
    if record.broken:
        return Broken(record.where, record.broken)
    text_field = [name for name, field in training.fields.items() if field.required][-1]
    columns = {text_field: recipe.text_column, "text_pair": recipe.text_pair_column}
    named = {name: column for name, column in columns.items() if column and name in training.fields}
    specs = {name: field for name, field in training.fields.items() if field.required or not named or name in named}
    matches = match_columns(specs, record.columns, named)
    fields = {name: record.columns[column] for name, column in matches.items() if column in record.columns}
    missing = [name for name, field in training.fields.items() if field.required and name not in fields]
    if missing:
        return Broken(record.where, f"no column of the {missing[0]}; say --text-column NAME")
    if not all(isinstance(value, str) and value.strip() for value in fields.values()):
        return Broken(record.where, "empty text")
    return Example(training.item(fields), None, source, record.where)
