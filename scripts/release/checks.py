"""What a check of a release found, and the check of the version: the same wherever it is named, and told in the changelog."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check; `ok` is None where it could not be made here, and `detail` says why."""

    what: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        return f"{'skip' if self.ok is None else 'ok  ' if self.ok else 'BAD '}  {self.what:<12}  {self.detail}"


def finding(what: str, problems: Sequence[str], good: str) -> CheckResult:
    """Good where there are no problems, else all of them (of many, the first)."""
    more = [f"and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else []
    return CheckResult(what, not problems, "; ".join([*problems[:MAX_SHOWN], *more]) or good)


def project_version(root: Path) -> str:
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def check_version(root: Path, tag: str = "") -> CheckResult:
    """pyproject.toml, changelog, OpenAPI file and images agree; with a tag, so does it, and the section has a date."""
    version = project_version(root)
    problems = []
    if tag and tag != f"v{version}":
        problems.append(f"the tag is {tag}, pyproject.toml says {version}: v{version} is meant")
    problems += _changelog_problems(root / "CHANGELOG.md", version, bool(tag))
    api_version = json.loads((root / "docs" / "openapi.json").read_text(encoding="utf-8"))["info"]["version"]
    if api_version != version:
        problems.append(f"docs/openapi.json says {api_version}")
    for file in sorted((root / "deploy" / "kubernetes").rglob("*.yaml")):
        for image_version in re.findall(r"(?:newTag: |image: hooper:)(\d+\.\d+\.\d+)", file.read_text(encoding="utf-8")):
            if image_version != version:
                problems.append(f"{file.relative_to(root)} says {image_version}")
    return finding("version", problems, f"{version} everywhere, and in the changelog")


def _changelog_problems(file: Path, version: str, is_tagged: bool) -> list[str]:
    """A release has a section with its date; before that, what is unreleased must be written down."""
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", file.read_text(encoding="utf-8"), re.MULTILINE))
    dated = re.compile(rf"\[?{re.escape(version)}\]? [-–] \d{{4}}-\d\d-\d\d")
    title = next((title for title in sections if dated.fullmatch(title.strip())), None if is_tagged else "Unreleased")
    if title is None:
        return [f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD`"]
    if "\n- " not in sections.get(title, ""):
        return [f"CHANGELOG.md says nothing under `## {title}`"]
    return []
