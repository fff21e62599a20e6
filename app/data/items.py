"""The fields of a task's items in the rows of data files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.core.fields import FieldSpec, match_columns, same_column
from app.data.cells import spelled
from app.data.readers import read_stream
from app.data.record import ReadOptions, Record
from app.data.sources import STANDARD_INPUT, open_source


@dataclass(frozen=True, slots=True)
class Input:
    """One input: where it stands, and its fields or why it has none."""

    source: str
    line: int
    fields: Mapping[str, Any] | HooperError
    id: Any = None
    num_characters: int = 0
    kept: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of its row, for those who join the answer with it."""


@dataclass(frozen=True)
class InputSchema:
    """Which fields items have, and how files that hold them are read."""

    specs: Mapping[str, FieldSpec]
    reading: ReadOptions = ReadOptions()
    """How files are read; what the task decides is not yet in it."""
    text_column: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    """Fields that are the same for every input, such as the question."""
    trained_columns: Mapping[str, str] = field(default_factory=dict)
    """Fields to the columns that the model was trained on: where a file has these, nothing is guessed."""
    id_column: str = ""
    """Of each row's own id; empty: `id`, where there is one."""
    kept_columns: Sequence[str] = ()
    """Columns that inputs keep."""

    @property
    def text_field(self) -> str:
        """The field that a plain line of text stands for."""
        required = [name for name, spec in self.specs.items() if spec.required and name not in self.given]
        return required[-1] if required else next(iter(self.specs))

    @property
    def is_whole(self) -> bool:
        """Whether what is given is an input by itself."""
        return bool(self.given) and not self.missing({})

    @property
    def given_options(self) -> str:
        """Its names on the command line: `--question and --context`."""
        return " and ".join(f"--{name}" for name in self.given)

    def match(self, columns: Sequence[str]) -> dict[str, str]:
        """The column of each field that is not given."""
        known = self._trained(columns)
        if known and not self.text_column and not self.missing(known):
            return known  # of a model that read one text, a second column is no partner of it
        matches = match_columns(
            self.specs, columns, {**known, self.text_field: self.text_column or known.get(self.text_field, "")}
        )
        return {name: column for name, column in matches.items() if name not in self.given and column in columns}

    def match_trained(self, columns: Sequence[str]) -> dict[str, str]:
        """The column of each field by the names that the model was trained on alone; empty where a field has none."""
        known = self._trained(columns)
        return {} if self.missing(known) else known

    def _trained(self, columns: Sequence[str]) -> dict[str, str]:
        known = {name: same_column(self.trained_columns.get(name, ""), columns) or "" for name in self.specs}
        return {name: column for name, column in known.items() if column and name not in self.given}

    def question(self, missing: str, columns: Sequence[str], source: str) -> str:
        """What a person is asked where no column, or one of several, holds a field."""
        candidates = self.specs[missing].candidates(columns)
        present = ", ".join(map(repr, candidates if len(candidates) > 1 else columns)) or "no column"
        trained = self.trained_columns.get(missing)
        hint = f"; the model was trained on {trained!r}" if trained else ""
        verb = "It may be any of" if len(candidates) > 1 else "It has"
        return f"which column of {source} holds the {missing}? {verb} {present}{hint}; say --text-column NAME"

    def missing(self, matches: Mapping[str, str]) -> str:
        """The first field that is neither among the matches nor given; empty: there is none."""
        return next((n for n, spec in self.specs.items() if spec.required and n not in matches and n not in self.given), "")

    def choose(self, columns: Sequence[str], source: str) -> list[str]:
        """The columns that are read of a file which has these.

        Raises:
            InvalidSettings: one is missing.
        """
        matches = self.match(columns)
        missing = self.missing(matches)
        if missing:
            raise InvalidSettings(self.question(missing, columns, source))
        for name in (*self.kept_columns, *filter(None, [self.id_column])):
            if name not in columns:
                raise InvalidSettings(f"{source} has no column {name!r}; it has {', '.join(map(repr, columns))}")
        return [*matches.values(), self.id_column or "id", *self.kept_columns]


def columns_of(source: str, reading: ReadOptions, text_name: str) -> list[str]:
    """The columns of a file: those of its header, or of all of its JSON objects.

    Raises:
        InvalidSettings: it cannot be read.
        InvalidInput: it ends in the middle of what was compressed.
    """
    header: list[str] = []

    def note(names: Sequence[str]) -> Sequence[str]:
        header.extend(names)
        return names

    columns: dict[str, None] = {}
    with open_source(source) as stream:
        for record in read_stream(stream, source, replace(reading, text_name=text_name, choose=note)):
            if header:
                break
            columns |= dict.fromkeys(record.columns)
    return header or list(columns)


def read(source: str, schema: InputSchema) -> Iterator[Input]:
    """The inputs of a file or of standard input, `-`. A line that cannot be read becomes an error in its place; blank ones
    are passed over.

    Raises:
        InvalidSettings: the file cannot be opened, or its columns are not those of the task.
        InvalidInput: the file ends in the middle of what was compressed.
    """
    with open_source(source) as stream:
        yield from inputs_of(stream, source, schema)


def inputs_of(stream: BinaryIO, source: str, schema: InputSchema) -> Iterator[Input]:
    """The same of an open file; whoever opened it closes it."""
    matches: dict[tuple[str, ...], dict[str, str]] = {}  # objects of json lines may differ, most do not
    optional = {name for name, spec in schema.specs.items() if not spec.required}
    text_name = schema.text_column or schema.text_field
    options = replace(schema.reading, text_name=text_name, choose=lambda names: schema.choose(names, source))
    for record in read_stream(stream, source, options):
        columns = tuple(record.columns)
        if columns not in matches:
            matches[columns] = schema.match(columns)
        yield _input(source, record, schema, matches[columns], optional if record.is_table_row else ())


def check_sources(sources: Sequence[str]) -> None:
    """
    Raises:
        InvalidSettings: one of the files cannot be opened.
    """
    for source in sources:
        if source != STANDARD_INPUT:
            open_source(source).close()


def _input(
    source: str, record: Record, schema: InputSchema, matches: Mapping[str, str], may_be_empty: Collection[str]
) -> Input:
    own_id = record.columns.get(schema.id_column or "id")
    kept = {name: record.columns.get(name) for name in schema.kept_columns}
    missing = "" if record.error is not None else schema.missing(matches)
    error = InvalidInput(f"the line has no {missing!r}") if missing else record.error
    if error is not None:
        return Input(source, record.line, error, own_id, 0, kept)
    values = {name: _value(schema.specs[name], column, record.columns[column]) for name, column in matches.items()}
    fields = {**schema.given, **{name: value for name, value in values.items() if value or name not in may_be_empty}}
    return Input(source, record.line, fields, own_id, record.num_characters, kept)


def _value(spec: FieldSpec, column: str, cell: Any) -> Any:
    """What a cell says of a field: tokens are a text with blanks between."""
    if not spec.token_columns:
        return cell
    if isinstance(cell, str) and cell.startswith(("[", "(")) and not replace(spec, token_columns=()).find([column]):
        cell = spelled(cell)  # as a csv file has them
    return " ".join(map(str, cell)) if isinstance(cell, list) else cell
