"""Fields of a task's items, and the columns of data files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of an item, such as the context of a question."""

    columns: tuple[str, ...]
    """What a column that holds it may be called, the likeliest name first; case does not count."""
    required: bool = True
    description: str = ""
    partners: tuple[str, ...] = ()
    """For a second text: the column of the first field beside each of `columns`, as `sentence1` beside `sentence2`."""

    def find(self, present: Iterable[str]) -> str | None:
        """The column that holds the field, spelled as in the file; None where there is none."""
        spellings: dict[str, str] = {}
        for name in present:
            spellings.setdefault(name.strip().lower(), name)
            spellings[name] = name  # the exact name before one that differs in case
        return next((spellings[name] for name in self.columns if name in spellings), None)


def match_columns(
    fields: Mapping[str, FieldSpec], present: Iterable[str], overrides: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which column holds which field; fields that no column holds are left out.

    Args:
        fields: by the item's own names.
        present: the columns of the file.
        overrides: columns that a person named; they count whether they are present or not.
    """
    present = list(present)
    overrides = {name: column for name, column in (overrides or {}).items() if column}
    matches = {name: column for name, field in fields.items() if (column := field.find(present)) is not None} | overrides
    first = next(iter(fields), "")
    for name, field in fields.items():
        pairs = zip(field.columns, field.partners, strict=False)
        whole = [(column, partner) for column, partner in pairs if {column, partner} <= set(present)]
        if whole and not {name, first} & overrides.keys():  # `title, sentence1, sentence2` is a pair, and `title` no part of it
            matches |= {name: whole[0][0], first: whole[0][1]}
    return matches
