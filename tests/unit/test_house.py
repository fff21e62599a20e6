"""What holds of the house itself: rooms have a size and tests, tests have a size, and the documents name what is there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.tasks.registry import BUILT_IN

ROOT = Path(__file__).parents[2]
MAX_LINES, MAX_FUNCTION_LINES = 500, 40
"""Of a file, and of a function with its signature and docstring: more is not read in one go."""
MAX_LONG_FILES, MAX_LONG_FUNCTIONS = 0, 0
"""How many may be longer."""
MAX_UNTESTED_LINES = 60
"""A module with more lines than these has a test file of its own."""
MAX_NOT_MIRRORED = 27
"""So many modules are still without a test file of their own. The number only falls."""


def modules(*tops: str) -> Iterator[Path]:
    for top in tops or ("app", "scripts"):
        yield from sorted((ROOT / top).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def has_behaviour(module: Path) -> bool:
    """Whether any function in it does something; protocols, schemas and constants are tested where they are used."""
    functions = [
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return any(not isinstance(statement, ast.Expr) for function in functions for statement in function.body)


def has_test_file(module: Path) -> bool:
    """`app/api/errors.py` is tested by tests/unit/app/api/test_errors.py, or, where that is split, by test_errors_*.py."""
    path = module.relative_to(ROOT)
    if path.name == "__init__.py":
        path = path.parent
    tests = ROOT / "tests" / "unit" / path.parent
    return (tests / f"test_{path.stem}.py").exists() or any(tests.glob(f"test_{path.stem}_*.py"))


def test_no_test_file_is_too_long_to_be_read() -> None:
    found = {relative(path) for path in modules("tests") if num_lines(path) > MAX_LINES}
    assert found == set()


def test_no_more_files_are_too_long_to_be_read() -> None:
    found = [relative(path) for path in modules("app", "hooper", "scripts") if num_lines(path) > MAX_LINES]
    assert len(found) <= MAX_LONG_FILES, found


def test_no_more_functions_are_too_long_to_be_read() -> None:
    found = [
        f"{relative(path)}: {node.name}"
        for path in modules("app", "hooper", "scripts")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert len(found) <= MAX_LONG_FUNCTIONS, "\n".join(found)


def test_every_module_of_some_size_has_a_test_file_that_mirrors_it() -> None:
    found = [
        relative(module)
        for module in modules()
        if num_lines(module) > MAX_UNTESTED_LINES and not has_test_file(module) and has_behaviour(module)
    ]
    assert len(found) <= MAX_NOT_MIRRORED, "\n".join(found)


def named_paths(document: str) -> set[str]:
    """The paths of folders and Python files that a document names between backticks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return {name for name in re.findall(r"`([\w/]+(?:/|\.py))`", text) if "/" in name}


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_a_document_of_the_house_names_is_there(document: str) -> None:
    named = named_paths(document)
    assert named
    roots = (ROOT, ROOT / "app", ROOT / "scripts")
    assert {name for name in named if not any((root / name).exists() for root in roots)} == set()


def test_the_architecture_names_every_folder_of_the_service_and_of_the_offline_line() -> None:
    folders = {
        f"{top}/{folder.name}/" for top in ("app", "scripts") for folder in (ROOT / top).iterdir() if any(folder.glob("*.py"))
    }
    assert folders - named_paths("docs/architecture.md") == set()


def test_the_picture_of_the_layers_in_the_contributing_page_is_what_is_checked() -> None:
    """The layers of CONTRIBUTING, from top to bottom, are those of import-linter's contract."""
    contract = re.search(
        r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert contract is not None
    checked = [line.strip(' ",') for line in contract[1].splitlines()]
    picture = re.search(
        r"^## Layers\n+```\n(.*?)\n```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert picture is not None
    assert [re.sub(r"\s+", " ", layer.strip()) for layer in picture[1].split(">")] == checked


TASK_NAME = re.compile(rf"(?<![\w-])({'|'.join(spec.name for spec in BUILT_IN)})(?![\w-])")
NAMED = {
    "app/api/application.py": "a sentence of the docs page",
    "app/api/protocols/text_embeddings.py": "a sentence of the docs page",
    "app/api/protocols/state.py": "an example of a field",
    "app/core/manifest.py": "what release 0.1.0 called a model of numbers",
    "scripts/api/question_answering.py": "the Python API of this task",
    "scripts/api/summarizer.py": "the Python API of this task",
    "scripts/api/text_classifier.py": "the Python API of this task",
    "scripts/api/text_regressor.py": "the Python API of this task",
    "scripts/bench/command.py": "texts of one task are what is measured",
    "scripts/bench/feedback_rate.py": "a correction of one task is what is measured",
    "scripts/bench/footprint.py": "a request of each shipped model",
    "scripts/bench/idle_model.py": "a model of one task is what is measured",
    "scripts/export/export.py": "what optimum calls a graph without a head",
    "scripts/training/recipe.py": "help of options that are one task's",
}
"""Where a task is named outside of the tasks' own folders, and why. A name may go from here; none may be added."""


def test_no_module_names_a_task_but_those_in_its_folder() -> None:
    found = {
        relative(path)
        for pattern in ("app/**/*.py", "app/**/*.js", "scripts/**/*.py")
        for path in ROOT.glob(pattern)
        if TASK_NAME.search(path.read_text(encoding="utf-8"))
    }
    assert {path for path in found if not path.startswith(("app/tasks/", "scripts/tasks/"))} - NAMED.keys() == set()


def test_the_name_of_a_class_says_which_it_is() -> None:
    names = Counter(
        name
        for top in ("app", "hooper", "scripts")
        for path in (ROOT / top).rglob("*.py")
        for name in re.findall(r"^ *class (\w+)[(:]", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
