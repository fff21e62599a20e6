"""A version is released only when everything says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.release.checks import check_version, finding, project_version
from tests.support.live_service import ROOT

RELEASED = "# Changelog\n\n## Unreleased\n\n## [1.2.3] - 2026-11-25\n\n### Added\n- Something.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "pyproject.toml": '[project]\nversion = "1.2.3"\n',
        "CHANGELOG.md": RELEASED,
        "docs/openapi.json": '{"info": {"version": "1.2.3"}}',
        "deploy/kubernetes/cpu/kustomization.yaml": "images:\n  - name: hooper\n    newTag: 1.2.3-gpu\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_version_that_is_the_same_everywhere_is_good(root: Path) -> None:
    assert check_version(root, "v1.2.3").ok
    assert check_version(root).ok
    assert project_version(root) == "1.2.3"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("pyproject.toml", "1.2.3", "1.2.4", "the tag is v1.2.3, pyproject.toml says 1.2.4"),
        ("docs/openapi.json", "1.2.3", "1.2.2", "docs/openapi.json says 1.2.2"),
        ("deploy/kubernetes/cpu/kustomization.yaml", "1.2.3", "1.2.2", "kustomization.yaml says 1.2.2"),
        ("CHANGELOG.md", " - 2026-11-25", "", "CHANGELOG.md has no section `## 1.2.3 - YYYY-MM-DD`"),
        ("CHANGELOG.md", "- Something.", "", "CHANGELOG.md says nothing under `## [1.2.3] - 2026-11-25`"),
    ],
)
def test_whatever_disagrees_is_told(root: Path, file: str, old: str, new: str, told: str) -> None:
    (root / file).write_text((root / file).read_text().replace(old, new))
    result = check_version(root, "v1.2.3")
    assert result.ok is False
    assert told in result.detail


def test_before_a_release_what_is_unreleased_is_written_down(root: Path) -> None:
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- Something.\n")
    assert check_version(root).ok
    assert check_version(root, "v1.2.3").ok is False
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    assert "says nothing under `## Unreleased`" in check_version(root).detail


def test_this_repository_agrees_with_itself() -> None:
    assert check_version(ROOT).ok, check_version(ROOT).detail


def test_of_many_problems_the_first_are_shown() -> None:
    assert str(finding("tree", [f"p{number}" for number in range(30)], "")).endswith("p19; and 10 more")
    assert str(finding("tree", [], "clean")) == "ok    tree          clean"
