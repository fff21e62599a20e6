"""The size of the house, counted from the source alone: `python -m scripts.release.size`.

With `--root` it counts another checkout, such as the worktree of an earlier commit; with `--output` and `--label` it keeps the
figures beside those of other labels in one JSON file (docs/measurements/house.json).
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("app", "scripts", "hooper")
SMALL_MODULE_LINES, LONG_FUNCTION_LINES = 60, 40
TITLES = {
    "lines": "lines of Python",
    "test_lines": "lines of tests",
    "modules": "modules",
    "small_modules": f"modules of at most {SMALL_MODULE_LINES} lines",
    "single_use_modules": "modules that exactly one other imports",
    "long_functions": f"functions over {LONG_FUNCTION_LINES} lines",
    "imports_between_folders": "imports from one folder into another",
    "duplicate_class_names": "class names used more than once",
    "wheel_kb": "wheel in dist/, kB",
}


@dataclass(frozen=True, slots=True)
class Module:
    """A source file with its dotted name and its syntax tree."""

    name: str
    num_lines: int
    tree: ast.Module

    @property
    def folder(self) -> str:
        return self.name.rpartition(".")[0]


def read_modules(root: Path, packages: Sequence[str] = PACKAGES) -> list[Module]:
    """All modules of the packages; a package's `__init__` goes by the package's name."""
    modules = []
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            modules.append(Module(name, len(source.splitlines()), ast.parse(source)))
    return modules


def imported_modules(module: Module, names: frozenset[str]) -> set[str]:
    """Those of `names` that a module imports anywhere; `from a import b` is of `a.b` where that is a module, else of `a`."""
    modules = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= submodules & names or {node.module}
    return (modules & names) - {module.name}


def figures(root: Path) -> dict[str, int | None]:
    """The figures of a checkout, by the keys of `TITLES`."""
    modules = read_modules(root)
    names = frozenset(module.name for module in modules)
    imports = {module.name: imported_modules(module, names) for module in modules}
    folders = {module.name: module.folder for module in modules}
    num_importers = Counter(target for targets in imports.values() for target in targets)
    nodes = [node for module in modules for node in ast.walk(module.tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    wheels = sorted((root / "dist").glob("*.whl"))
    return {
        "lines": sum(module.num_lines for module in modules),
        "test_lines": sum(module.num_lines for module in read_modules(root, ["tests"])),
        "modules": len(modules),
        "small_modules": sum(module.num_lines <= SMALL_MODULE_LINES for module in modules),
        "single_use_modules": sum(count == 1 for count in num_importers.values()),
        "long_functions": sum((node.end_lineno or 0) - node.lineno >= LONG_FUNCTION_LINES for node in functions),
        "imports_between_folders": sum(
            folders[source] != folders[target] for source, targets in imports.items() for target in targets
        ),
        "duplicate_class_names": sum(count > 1 for count in classes.values()),
        "wheel_kb": round(wheels[-1].stat().st_size / 1000) if wheels else None,
    }


def table(columns: Mapping[str, Mapping[str, int | None]]) -> str:
    """Markdown, one column for each label."""
    rows = [["", *columns], ["---", *["---:"] * len(columns)]]
    for key, title in TITLES.items():
        values = [column.get(key) for column in columns.values()]
        rows.append([title, *("not built" if value is None else f"{value:,}" for value in values)])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.release.size", description=str(__doc__).splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(), metavar="FOLDER", help="the checkout to count (here)")
    parser.add_argument("--label", default="now", help="name of the column, for example before (now)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="keep the figures here, beside those of other labels")
    options = parser.parse_args(arguments)
    columns = json.loads(options.output.read_text(encoding="utf-8")) if options.output and options.output.exists() else {}
    columns[options.label] = figures(options.root)
    if options.output:
        options.output.write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")
    print(f"{table(columns)}\n{json.dumps(columns, indent=2)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
