"""Feather files are read as parquet files are, in both of Arrow's own formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import InvalidSettings
from app.data import ReadOptions, records

pyarrow = pytest.importorskip("pyarrow")


def test_feather_and_streams_of_arrow_are_read(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a", "b"], "label": [1, 2]})
    for name, write in (("a.feather", pyarrow.ipc.new_file), ("a.arrow", pyarrow.ipc.new_stream)):
        with pyarrow.OSFile(str(tmp_path / name), "wb") as sink, write(sink, table.schema) as writer:
            writer.write_table(table)
        rows = [dict(record.columns) for record in records(tmp_path / name)]
        assert rows == [{"text": "a", "label": 1}, {"text": "b", "label": 2}]
        wanted = list(records(tmp_path / name, ReadOptions(choose=lambda names: ["text"])))
        assert len(wanted) == 2


@pytest.mark.parametrize("content", [b"", b"ARROW1xxxx", b"abc"])
def test_what_is_no_feather_file_is_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.feather").write_bytes(content)
    with pytest.raises(InvalidSettings, match=r"a\.feather is no feather file"):
        list(records(tmp_path / "a.feather"))
