"""The notebooks of the documents run, and show what is shown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
MAX_BYTES = 20_000


def shown(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """The plain text that each cell gives back, its numbers left out: processors round differently, and training more so."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = [[output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"] for cell in code]
    return [[re.sub(r"\d+(\.\d+)?", "0", text) for text in cell] for cell in texts]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_short_and_holds_what_it_printed(path: Path) -> None:
    assert path.stat().st_size < MAX_BYTES
    assert any(shown(nbformat.read(path, as_version=4)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")  # of jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_shows_what_it_gives(path: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / "tutorial" / "tickets.csv", tmp_path)
    notebook = nbformat.read(path, as_version=4)
    expected = shown(notebook)
    NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert shown(notebook) == expected
