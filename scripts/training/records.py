"""Records of labelled data: files and folders as `app.data` reads them, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from app.core.errors import InvalidSettings
from app.data import ReadOptions, Record, records
from app.data.cells import with_names
from scripts.training.hub import data_sets_from_cache, names_a_path, nearest, unreachable_clause


def read_records(source: str, options: ReadOptions = ReadOptions()) -> list[Record]:
    """All records of a file, a class folder or a hub data set (`id` or `id:split`).

    Args:
        source: its path, or the data set's id.

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
    if path.suffix or names_a_path(source):
        raise InvalidSettings(f"{source} does not exist{nearest(source)}")
    return _hub(source)


def _hub(source: str) -> Iterable[Record]:
    from datasets import load_dataset

    unreachable = unreachable_clause()
    name, _, split = source.partition(":")
    try:
        with data_sets_from_cache() if unreachable else nullcontext():
            rows = load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises a dozen unrelated types here
        what = f"{source} is neither a file nor a folder"
        if unreachable:
            raise InvalidSettings(
                f"{what}, and {unreachable}; what was fetched from it before holds no data set of this name{nearest(source)}"
            ) from error
        raise InvalidSettings(f"{what}, and no hub data set could be loaded by that name: {error}{nearest(source)}") from error
    features = rows.features.to_dict()
    return [Record(f"{source}#{number}", with_names(row, features)) for number, row in enumerate(rows, start=1)]
