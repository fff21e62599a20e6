"""Licences of what Hooper ships and of what it needs, as pip-licenses reads them: docs/licences.md.

python -m scripts.release.licences > docs/licences.md
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.core.errors import SetupError
from app.core.manifest import MANIFEST, read_manifest
from scripts.release.checks import CheckResult, finding

ROOT = Path(__file__).resolve().parent.parent.parent
HEADER = """# Licences

Made by `make licences` from the models' manifests and the packages' own metadata. Hooper itself: Apache-2.0.
"""
BUNDLED = """## Brought along in the package

`app/api/static/swagger-ui-bundle.js` and `swagger-ui.css`: Apache-2.0 ([licence](../app/api/static/swagger-ui.LICENSE)).
"""
GPU = """## On a GPU

The extra `gpu` has onnxruntime-gpu (MIT) instead of onnxruntime, and NVIDIA's packages of CUDA and cuDNN, which are under
NVIDIA's own licence agreements: read them before you pass an image on.
"""
PERMISSIVE = re.compile(
    r"apache|\bmit\b|\b0?bsd\b|\bisc\b|\bpsf|python software foundation|\bmpl|mozilla public|unlicense|\bzlib|\bcc0",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\b[AL]?GPL|general public license|\bSSPL|\bEUPL|proprietary", re.IGNORECASE)


def installed_licences(python: Path = Path(sys.executable)) -> dict[str, str]:
    """Licence by canonical name of every package in the environment of this Python, as pip-licenses finds it."""
    command = [sys.executable, "-m", "piplicenses", "--python", str(python), "--format=json", "--with-system"]
    packages = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {canonicalize_name(package["Name"]): package["License"].splitlines()[0] for package in packages}


def needed(root: Path, extras: Iterable[str]) -> list[str]:
    """Names of all packages that Hooper with these extras needs on this machine.

    Raises:
        SetupError: one of them is not installed.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    pending = [(Requirement(text), "") for text in texts]
    seen: set[tuple[str, str]] = set()
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra_name in ("", *requirement.extras):
            if (name, extra_name) not in seen:
                seen.add((name, extra_name))
                pending += [(Requirement(text), extra_name) for text in _requirements(name)]
    return sorted({name for name, _ in seen})


def _requirements(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError as error:
        raise SetupError(f"{name} is not installed here, so that its licence is not known; run `make test` first") from error


def model_rows(models: Path) -> Iterator[Sequence[str]]:
    """Model, licence and base model of every published version."""
    for file in sorted(models.glob(f"*/*/{MANIFEST}")):
        manifest = read_manifest(file.parent)
        yield f"{manifest.name}/{manifest.version}", manifest.license or "not said", manifest.base_model


def models_section(models: Path) -> str:
    table = _table(("model", "licence", "made from"), model_rows(models))
    cards = (
        "What each was trained on, and under which licence that is, stands in its card (`models/<name>/<version>/README.md`)."
    )
    return f"## Models\n\n{table}\n{cards}\n"


def page(root: Path) -> str:
    """docs/licences.md."""
    licences = installed_licences()
    serving = needed(root, ["cpu"])
    training = [name for name in needed(root, ["cpu", "train", "dev"]) if name not in serving]
    tables = [_table(("package", "licence"), [(name, licences[name]) for name in names]) for names in (serving, training)]
    return "\n".join([
        HEADER, models_section(root / "models"), BUNDLED, f"## What the service needs\n\n{tables[0]}", GPU,
        f"## What training and the tests need besides\n\n{tables[1]}",
    ])  # fmt: skip


def check_licences(root: Path, serving: Mapping[str, str]) -> CheckResult:
    """The page is not stale, and whoever serves Hooper need not publish their own code for it.

    Args:
        serving: licence by package of an environment in which nothing but Hooper was installed.
    """
    file = root / "docs" / "licences.md"
    problems = [
        f"{name}: {licence}" for name, licence in serving.items() if COPYLEFT.search(licence) or not PERMISSIVE.search(licence)
    ]
    problems += [f"{name} is said to need no licence" for name, text, _ in model_rows(root / "models") if text == "not said"]
    if not file.is_file() or file.read_text(encoding="utf-8") != page(root):
        problems.append("docs/licences.md is stale; run `make licences`")
    problems += [f"{name} came along and is not listed" for name in sorted(set(serving) - set(needed(root, ["cpu"])))]
    return finding("licences", problems, f"{len(serving)} packages of the service, all permissive, listed with the models")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page(ROOT))
