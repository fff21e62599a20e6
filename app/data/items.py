"""The fields of a task's items in the rows of data files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.core.fields import FieldSpec, match_columns, same_column
from app.data.readers import STANDARD_INPUT, Format, ReadOptions, Record, format_of, open_source, read_stream

TABLES = ("csv", "tsv", "parquet")
"""Where every row has every column: an empty cell of an optional field is none."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input: where it stands, and its fields or why it has none."""

    source: str
    line: int
    fields: Mapping[str, Any] | HooperError
    id: Any = None
    num_characters: int = 0


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
        known = {name: same_column(self.trained_columns.get(name, ""), columns) or "" for name in self.specs}
        known = {name: column for name, column in known.items() if column and name not in self.given}
        if known and not self.text_column and not self.missing(known):
            return known  # of a model that read one text, a second column is no partner of it
        matches = match_columns(
            self.specs, columns, {**known, self.text_field: self.text_column or known.get(self.text_field, "")}
        )
        return {name: column for name, column in matches.items() if name not in self.given and column in columns}

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
    kind = input_format(source, schema)

    def choose(columns: Sequence[str]) -> list[str]:
        matches = schema.match(columns)
        missing = schema.missing(matches)
        if missing:
            raise InvalidSettings(schema.question(missing, columns, source))
        return [*matches.values(), "id"]

    matches: dict[tuple[str, ...], dict[str, str]] = {}  # objects of json lines may differ, most do not
    optional = {name for name, spec in schema.specs.items() if not spec.required and kind in TABLES}
    text_name = schema.text_column or schema.text_field
    options = replace(schema.reading, format=kind, text_name=text_name, choose=choose)
    for record in read_stream(stream, source, options):
        columns = tuple(record.columns)
        if columns not in matches:
            matches[columns] = schema.match(columns)
        yield _input(source, record, schema, matches[columns], optional)


def input_format(source: str, schema: InputSchema) -> Format:
    """How the source is read; `auto` where its first line decides.

    Raises:
        InvalidSettings: it is known by its name to be nothing that is read one row at a time.
    """
    if schema.reading.format != "auto" or source == STANDARD_INPUT:
        return schema.reading.format
    kind = format_of(source)
    if kind == "json":
        raise InvalidSettings(f"{source} cannot be read line by line; write it as json lines, csv or tsv, or say --format")
    return kind


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
    own_id = record.columns.get("id")
    missing = "" if record.error is not None else schema.missing(matches)
    error = InvalidInput(f"the line has no {missing!r}") if missing else record.error
    if error is not None:
        return Input(source, record.line, error, own_id)
    values = {name: record.columns[column] for name, column in matches.items()}
    fields = {**schema.given, **{name: value for name, value in values.items() if value or name not in may_be_empty}}
    return Input(source, record.line, fields, own_id, record.num_characters)
