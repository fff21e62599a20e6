"""Records of labelled data: files and folders as `app.data` reads them, and data sets of the hub."""

from __future__ import annotations

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
    path = Path(source)
    if path.is_dir() or path.is_file():
        return list(records(path, options))
    if path.suffix or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise InvalidSettings(f"{source} does not exist")
    return _hub(source)


def _hub(source: str) -> list[Record]:
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
