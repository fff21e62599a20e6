"""The size of the house is counted as it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.release.size import figures, imported_modules, main, read_modules, table


@pytest.fixture
def root(tmp_path: Path) -> Path:
    body = "\n".join(f"    value = {number}" for number in range(40))
    for name, text in {
        "app/__init__.py": "",
        "app/core/__init__.py": "",
        "app/core/types.py": "class Row:\n    pass\n",
        "app/api/__init__.py": "",
        "app/api/routes.py": f"from app.core import types\nfrom app.core.types import Row\n\n\ndef long():\n{body}\n",
        "app/api/models.py": "import json\nimport app.api.routes\n\n\nclass Row:\n    def short(self):\n        pass\n",
        "tests/test_a.py": "a = 1\nb = 2\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_figure_is_counted(root: Path) -> None:
    assert figures(root) == {
        "lines": 2 + 45 + 7,
        "test_lines": 2,
        "modules": 6,
        "small_modules": 6,
        "single_use_modules": 2,  # types by routes, routes by models
        "long_functions": 1,
        "imports_between_folders": 1,
        "duplicate_class_names": 1,
        "wheel_kb": None,
    }


def test_an_import_is_of_the_module_that_it_names(root: Path) -> None:
    modules = {module.name: module for module in read_modules(root)}
    names = frozenset(modules)
    assert imported_modules(modules["app.api.routes"], names) == {"app.core.types"}
    assert imported_modules(modules["app.api.models"], names) == {"app.api.routes"}


def test_columns_are_kept_beside_those_of_other_labels(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = root / "house.json"
    for label in ("before", "after"):
        assert main(["--root", str(root), "--label", label, "--output", str(output)]) == 0
    kept = json.loads(output.read_text())
    assert list(kept) == ["before", "after"]
    assert "| lines of Python | 54 | 54 |" in capsys.readouterr().out
    assert "| wheel in dist/, kB | not built |" in table({"now": kept["after"]})
