"""Which columns hold what a task learns from, and which task that is: as a person said, else by names, else by content."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec, match_columns, same_column
from app.core.manifest import DataFormat
from app.data import Record
from app.data.cells import is_missing, plain
from app.tasks.sentences import LANGUAGE
from scripts.tasks import training_tasks
from scripts.training.data import first_readable
from scripts.training.numbers import has_decimal_commas, with_point
from scripts.training.recipe import AUTO, Recipe
from scripts.training.records import first_records

if TYPE_CHECKING:
    from scripts.tasks.spec import Prepared, TrainingTask

LABEL = "label"
SAMPLED = 1_000
"""Rows whose cells say what a column holds."""
Content = Literal["category", "number", "text", "any"]
"""What a column of labels holds: one of few values, a number, a text, or whatever its name promises."""
FEWEST_ROWS = 4
"""Of fewer rows the content says nothing."""
MAX_VALUES = 50
"""Of a column that is taken for labels by its content."""
SHORTEST_TEXT, LONGEST_LABEL = 15, 40
"""Characters on average of what is taken for texts and for labels by its content."""
MANY_NUMBERS = 10
"""Of more different numbers none is a class by itself."""
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T]\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2})?")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
"""Letters of scripts that write no blanks, or few."""


@dataclass(frozen=True)
class ColumnSample:
    """The cells of a column in the first rows that hold something."""

    name: str
    cells: Sequence[Any]
    num_rows: int

    @cached_property
    def texts(self) -> list[str]:
        return [str(cell).strip() for cell in self.cells]

    @cached_property
    def num_values(self) -> int:
        return len(set(self.texts))

    @cached_property
    def numbers(self) -> list[float]:
        """The numbers in the cells; none where one of the cells holds another thing."""
        texts = [with_point(text) for text in self.texts] if has_decimal_commas(self.cells) else self.texts
        numbers = [number for text in texts if (number := _number(text)) is not None]
        return numbers if len(numbers) == len(self.texts) else []

    @property
    def mean_length(self) -> float:
        return sum(map(len, self.texts)) / max(1, len(self.texts))

    @property
    def is_date(self) -> bool:
        return bool(self.texts) and all(_DATE.fullmatch(text) for text in self.texts)

    @property
    def is_free_text(self) -> bool:
        """Whether these are texts that people wrote: of several words, and mostly different."""
        if not self.cells or self.numbers or self.is_date or not all(isinstance(cell, str) for cell in self.cells):
            return False
        num_wide = sum(len(_WIDE.findall(text)) for text in self.texts)
        num_worded = sum(" " in text for text in self.texts)
        is_worded = num_worded * 2 >= len(self.texts) or num_wide * 2 >= sum(map(len, self.texts))
        shortest = SHORTEST_TEXT if num_worded else SHORTEST_TEXT / 3
        return is_worded and self.mean_length >= shortest and self.num_values * 2 > len(self.texts)

    @property
    def is_category(self) -> bool:
        """Whether these are a few values that come again and again."""
        is_scalar = all(isinstance(cell, str | int | float | bool) for cell in self.cells)
        is_whole = all(number.is_integer() for number in self.numbers)
        few = 2 <= self.num_values <= min(MAX_VALUES, max(2, len(self.texts) // 2))
        return is_scalar and is_whole and few and not self.is_date and self.mean_length <= LONGEST_LABEL and self.is_dense

    @property
    def is_measure(self) -> bool:
        """Whether these are numbers rather than classes: with fractions, or many."""
        return len(set(self.numbers)) > MANY_NUMBERS

    @property
    def is_dense(self) -> bool:
        """Whether most rows have something in it."""
        return len(self.cells) * 2 >= self.num_rows

    def holds(self, content: Content) -> bool:
        """Whether the cells alone tell this."""
        if len(self.cells) < FEWEST_ROWS:
            return False
        match content:
            case "text":
                return self.is_free_text
            case "category":
                return self.is_category
            case "number":
                return bool(self.numbers) and self.is_dense
            case "any":
                return False

    def refutes(self, content: Content) -> bool:
        """Whether the cells cannot be what a name promises."""
        match content:
            case "text":
                return bool(self.numbers) or self.is_date
            case "category":
                return len(self.cells) >= FEWEST_ROWS and self.is_free_text and self.num_values == len(self.texts)
            case "number":
                return bool(self.cells) and not any(_number(with_point(text)) is not None for text in self.texts)
            case "any":
                return False


@dataclass(frozen=True)
class TableSample:
    """The columns of the first rows of a source."""

    where: str
    columns: Sequence[ColumnSample]

    @classmethod
    def of(cls, records: Iterable[Record]) -> TableSample:
        """Of the records that could be read. Objects of json lines may differ: a column counts that one of them has."""
        rows = list(islice((record for record in records if not record.broken), SAMPLED))
        names = dict.fromkeys(name for row in rows for name in row.columns)
        cells = {name: [plain(row.columns.get(name)) for row in rows] for name in names}
        columns = [
            ColumnSample(name, [cell for cell in values if not is_missing(cell)], len(rows)) for name, values in cells.items()
        ]
        return cls(rows[0].where if rows else "", columns)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def __getitem__(self, name: str) -> ColumnSample:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Columns:
    """Which columns hold the fields of an item and its label."""

    matches: Mapping[str, str]
    """Item fields and `label` to columns of the first source."""
    by_source: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Sources that call them otherwise."""
    notes: Sequence[str] = ()

    def of(self, source: str) -> Mapping[str, str]:
        return self.by_source.get(source, self.matches)


def choose_columns(
    fields: Mapping[str, FieldSpec],
    label: FieldSpec,
    recipe: Recipe,
    records: Mapping[str, Sequence[Record]],
    content: Content = "category",
    options: tuple[str, str] = ("--text-column", "--label-column"),
) -> Columns:
    """The columns that the recipe names, else those of the usual names, else those whose content leaves no other choice.

    Args:
        recipe: with the columns that a person named.
        records: of each source, at least one of them readable.
        content: of the label's column.
        options: what a person says to name the column of the text and that of the label, for errors.

    Raises:
        InvalidSettings: no row can be read; a named column does not exist; or the right one is not obvious.
    """
    first_readable(records)
    chosen: dict[str, Mapping[str, str]] = {}
    notes: list[str] = []
    for source, rows in records.items():
        if source in recipe.from_feedback or all(record.broken for record in rows):
            continue
        table = TableSample.of(rows)
        first = next(iter(chosen.values()), {})
        known = {name: column for name, wanted in first.items() if (column := same_column(wanted, table.names)) is not None}
        if first and len(known) == len(first):
            chosen[source] = known
        else:
            chooser = _Chooser(fields, label, recipe, table, content, source, options)
            chosen[source] = chooser.choose()
            notes += chooser.notes
    matches = next(iter(chosen.values()))
    others = {source: columns for source, columns in chosen.items() if columns != matches}
    notes += [f"in {source}: {describe(columns)}" for source, columns in others.items()]
    corrected = [source for source in recipe.from_feedback if source in records]
    others |= {source: _of_corrections(label, matches, records[source]) for source in corrected}
    return Columns(matches, others, notes)


def describe(matches: Mapping[str, str], label: str = LABEL) -> str:
    """`text from column 'body' and 'title', label from 'topic'`"""
    names = {name: label if name == LABEL else name.replace("_", " ") for name in matches if name != "text_pair"}
    parts = [f"{spoken} from {matches[name]!r}" for name, spoken in names.items()]
    if "text_pair" in matches:
        parts[0] += f" and {matches['text_pair']!r}"
    return ", ".join(parts).replace(" from ", " from column ", 1)


def _of_corrections(label: FieldSpec, matches: Mapping[str, str], records: Sequence[Record]) -> Mapping[str, str]:
    """Corrections call their columns as the service does, whatever the data calls them."""
    present = TableSample.of(records).names
    return {name: (label.find(present) or column) if name == LABEL else name for name, column in matches.items()}


@dataclass
class _Chooser:
    """Chooses the columns of one source, and notes what was guessed by content."""

    fields: Mapping[str, FieldSpec]
    label: FieldSpec
    recipe: Recipe
    table: TableSample
    content: Content
    source: str
    options: tuple[str, str]
    notes: list[str] = field(default_factory=list)

    def choose(self) -> dict[str, str]:
        named = self._named()
        # a person who names the text means it alone, unless they name a pair, too
        alone = self.text_field in named
        fields = {name: spec for name, spec in self.fields.items() if spec.required or not alone or name in named}
        present = [name for name in self.table.names if name != named.get(LABEL) and not self._is_label(name, named)]
        plausible = [name for name in present if name in named.values() or not self.table[name].refutes("text")]
        matches = match_columns(fields, plausible, named)
        for name, spec in fields.items():
            if spec.required and name not in matches:
                matches[name] = self._guess(name, spec, "text", matches)
        if LABEL not in matches and self.label.required:
            matches[LABEL] = self._guess(LABEL, self.label, self.content, matches)
        elif LABEL not in matches and (column := self.label.find([n for n in self.table.names if n not in matches.values()])):
            matches[LABEL] = column
        return matches

    @property
    def text_field(self) -> str:
        """The field that `--text-column` names: of a question and a context, the context."""
        return [name for name, spec in self.fields.items() if spec.required][-1]

    def _named(self) -> dict[str, str]:
        """
        Raises:
            InvalidSettings: there is no such column.
        """
        text_option, label_option = self.options
        options = {
            self.text_field: (text_option, self.recipe.text_column),
            **({"text_pair": ("--text-pair-column", self.recipe.text_pair_column)} if "text_pair" in self.fields else {}),
            LABEL: (label_option, self.recipe.label_column),
        }
        named = {}
        for name, (option, wanted) in options.items():
            column = same_column(wanted, self.table.names) if wanted else None
            if wanted and column is None:
                present = ", ".join(self.table.names)
                raise InvalidSettings(f"{option}: {self.table.where} has no column {wanted!r}; it has {present}")
            if column is not None:
                named[name] = column
        return named

    def _is_label(self, name: str, named: Mapping[str, str]) -> bool:
        """Whether a column is one of labels by its name, and none of texts by the first choice of names."""
        if name in named.values() or any(spec.find([name]) for spec in self.fields.values()):
            return False
        return self.label.find([name]) is not None and not self.table[name].refutes(self.content)

    def _guess(self, name: str, spec: FieldSpec, content: Content, matches: Mapping[str, str]) -> str:
        """
        Raises:
            InvalidSettings: several columns may hold it, or none.
        """
        rest = [column for column in self.table.names if column not in matches.values()]
        plausible = [column for column in rest if not self.table[column].refutes(content)]
        likely = spec.candidates(plausible) or spec.candidates(rest)
        if len(likely) == 1:
            return likely[0]
        fitting = [column for column in likely or rest if self.table[column].holds(content)]
        if len(fitting) != 1:
            raise InvalidSettings(self._question(name, likely or fitting, rest, matches))
        self.notes.append(
            f"{name.replace('_', ' ')} guessed to be column {fitting[0]!r}: {self._reason(content, fitting[0], likely)}"
        )
        return fitting[0]

    def _reason(self, content: Content, column: str, likely: Sequence[str]) -> str:
        among = f"of {', '.join(map(repr, likely))} " if likely else ""
        if content == "text":
            return f"{among}the only one with texts of several words"
        if content == "number":
            return f"{among}the only one with numbers"
        return f"{among}the only one with few values, which are {self.table[column].num_values}"

    def _question(self, name: str, likely: Sequence[str], rest: Sequence[str], matches: Mapping[str, str]) -> str:
        options = {self.text_field: self.options[0], "text_pair": "--text-pair-column", LABEL: self.options[1]}
        spoken = (self.label.description or LABEL) if name == LABEL else name.replace("_", " ")
        if name not in options:
            return f"which column holds the {spoken}? The data has {_listed(rest)}; rename the one that does to {name!r}"
        verb = "It may be any of" if len(likely) > 1 else "The data has"
        shown = likely if len(likely) > 1 else rest
        example = (likely or [column for column in rest if self.table[column].cells] or ["NAME"])[0]
        words = [options[name], shlex.quote(example)]
        found = [options[other] for other in matches if other in options and other != name]
        command = f"hooper train {shlex.quote(self.source)} " if self.recipe.data else ""
        known = f" ({describe(matches)})" if found else ""
        question = f"which column holds the {spoken}? {verb} {_listed(shown)}{known}"
        return f"{question}; say which, for example: {command}{' '.join(words)}"


def known_columns(recipe: Recipe, known: DataFormat, records: Mapping[str, Sequence[Record]]) -> Recipe:
    """The recipe, with the columns that a model was trained on where it names none and the data has them."""
    rows = [record for source in records.values() for record in islice((row for row in source if not row.broken), SAMPLED)]
    present = list(dict.fromkeys(name for record in rows for name in record.columns))
    columns = {name: column for name, wanted in known.columns.items() if (column := same_column(wanted, present)) is not None}
    fields = [name for name in columns if name not in (LABEL, "text_pair")]
    update: dict[str, Any] = {}
    if not recipe.text_column and not recipe.text_pair_column and fields:
        update = {"text_column": columns[fields[-1]], "text_pair_column": columns.get("text_pair", "")}
    if not recipe.label_column and LABEL in columns:
        update["label_column"] = columns[LABEL]
    if not recipe.label_separator:
        update["label_separator"] = known.label_separator
    return replace(recipe, **update)


def data_format(recipe: Recipe, prepared: Prepared) -> DataFormat:
    """What is kept with a model of how its data was written; of columns in Python nothing else than their names."""
    return DataFormat(
        columns=dict(prepared.columns),
        label_separator=prepared.label_separator,
        delimiter=recipe.delimiter,
        encoding=recipe.encoding,
        sheet=recipe.sheet,
    )


# --- the task


def with_task(recipe: Recipe, records: Mapping[str, Sequence[Record]] | None = None) -> tuple[Recipe, str]:
    """The recipe with the task that its data is for, where it names none, and a sentence on that.

    Args:
        records: what was read of it already; None: its first rows are read.

    Raises:
        InvalidSettings: the data cannot be read.
    """
    if recipe.task != AUTO:
        return recipe, ""
    source = recipe.data[0]
    rows = first_records(source, SAMPLED, recipe.read_options) if records is None else records[source][:SAMPLED]
    table = TableSample.of(rows)
    tasks = {name: task for name, task in training_tasks().items() if task.has_language or recipe.language == LANGUAGE}
    scores = {name: task.recognizes(recipe, table) for name, task in tasks.items()}
    best = max(scores, key=lambda name: scores[name])  # of equal ones the first, which is the default
    matches = finds(tasks[best], recipe, table).values()
    reason = f"by the columns {_listed([column.name for column in matches])}" if matches else "which is the default"
    return replace(recipe, task=best), f"{best}, {reason}; --task NAME says otherwise"


def finds(task: TrainingTask, recipe: Recipe, table: TableSample) -> dict[str, ColumnSample]:
    """The columns of the fields and the label that are named, or have a name that tells; the others are left out."""
    named_text = same_column(recipe.text_column, table.names) if recipe.text_column else None
    named_label = same_column(recipe.label_column, table.names) if recipe.label_column else None
    matches = match_columns(task.fields, table.names)
    if named_text:
        matches[[name for name, spec in task.fields.items() if spec.required][-1]] = named_text
    rest = [name for name in table.names if name not in matches.values()]
    found = [named_label] if named_label else [] if recipe.label_column else task.label_field.candidates(rest)
    if len(found) == 1 and found[0]:
        matches[LABEL] = found[0]
    return {name: table[column] for name, column in matches.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "no other column"
