"""The version: the same wherever it is said, and told in the changelog."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from scripts.release.finding import Finding, judged


def project_version(root: Path) -> str:
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def check_version(root: Path, tag: str = "") -> Finding:
    """pyproject.toml, changelog, OpenAPI file and images agree; with a tag, so does it, and the section has a date."""
    version = project_version(root)
    problems = []
    if tag and tag != f"v{version}":
        problems.append(f"the tag is {tag}, pyproject.toml says {version}: v{version} is meant")
    problems += _changelog(root / "CHANGELOG.md", version, bool(tag))
    told = json.loads((root / "docs" / "openapi.json").read_text(encoding="utf-8"))["info"]["version"]
    if told != version:
        problems.append(f"docs/openapi.json says {told}")
    for file in sorted((root / "deploy" / "kubernetes").rglob("*.yaml")):
        for found in re.findall(r"(?:newTag: |image: hooper:)(\d+\.\d+\.\d+)", file.read_text(encoding="utf-8")):
            if found != version:
                problems.append(f"{file.relative_to(root)} says {found}")
    return judged("version", problems, f"{version} everywhere, and in the changelog")


def _changelog(file: Path, version: str, is_tagged: bool) -> list[str]:
    """A release has a section with its date; before that, what is unreleased must be written down."""
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", file.read_text(encoding="utf-8"), re.MULTILINE))
    dated = re.compile(rf"\[?{re.escape(version)}\]? [-–] \d{{4}}-\d\d-\d\d")
    title = next((one for one in sections if dated.fullmatch(one.strip())), None if is_tagged else "Unreleased")
    if title is None:
        return [f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD`"]
    if "\n- " not in sections.get(title, ""):
        return [f"CHANGELOG.md says nothing under `## {title}`"]
    return []
