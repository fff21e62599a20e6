"""Records of labelled data: files and folders as `app.data` reads them, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from app.core.errors import InvalidSettings
from app.data import ReadOptions, Record, records
from app.data.cells import with_names


def read_records(source: str, options: ReadOptions = ReadOptions()) -> list[Record]:
    """All records of a file, a class folder or a hub data set (`id` or `id:split`).

    Args:
        source: its path, or the data set's id.
        options: how a file is read.

    Raises:
        InvalidSettings: there is no such source, or its format is not known.
    """
    return list(_iterate(source, options))


def first_records(source: str, limit: int, options: ReadOptions = ReadOptions()) -> list[Record]:
    """The first records of a source; of a file that is read row by row no more is read.

    Raises:
        InvalidSettings: as for `read_records`.
    """
    return list(islice(_iterate(source, options), limit))


def _iterate(source: str, options: ReadOptions) -> Iterable[Record]:
    path = Path(source)
    if path.is_dir() or path.is_file():
        return records(path, options)
    if path.suffix or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise InvalidSettings(f"{source} does not exist")
    return _hub(source)


def _hub(source: str) -> Iterable[Record]:
    from datasets import load_dataset

    name, _, split = source.partition(":")
    try:
        rows = load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises a dozen unrelated types here
        raise InvalidSettings(
            f"{source} is neither a file nor a folder, and no hub data set could be loaded by that name: {error}"
        ) from error
    features = rows.features.to_dict()
    return [Record(f"{source}#{number}", with_names(row, features)) for number, row in enumerate(rows, start=1)]
