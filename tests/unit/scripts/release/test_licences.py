"""Licences are listed, and those that would bind who serves Hooper are not let in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.release.licences import (
    BUNDLED,
    COPYLEFT,
    GPU,
    HEADER,
    PERMISSIVE,
    installed_licences,
    model_rows,
    models_section,
    needed,
)
from tests.support.live_service import ROOT
from tests.support.tiny_model import publish_tiny


@pytest.mark.slow  # as make release-check does, too
def test_licences_are_those_that_pip_licenses_reads() -> None:
    licences = installed_licences()
    assert licences["fastapi"] == "MIT"
    assert "apache" in licences["huggingface-hub"].lower()


def test_what_is_needed_is_listed_with_what_that_needs(tmp_path: Path) -> None:
    project = (
        '[project]\ndependencies = ["fastapi"]\noptional-dependencies = {tests = ["coverage[toml]"], other = ["missing"]}\n'
    )
    (tmp_path / "pyproject.toml").write_text(project)
    serving = needed(tmp_path, [])
    assert {"fastapi", "starlette", "anyio", "pydantic-core"} <= set(serving)
    assert set(needed(tmp_path, ["tests"])) > set(serving)
    with pytest.raises(SetupError, match="missing is not installed here"):
        needed(tmp_path, ["other"])


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0-only", "GNU Affero General Public License v3", "LGPL-2.1", "NVIDIA Proprietary Software", "not said", "SSPL-1.0"],
)
def test_a_licence_that_binds_or_is_unknown_is_not_let_in(licence: str) -> None:
    assert COPYLEFT.search(licence) or not PERMISSIVE.search(licence)


@pytest.mark.parametrize("licence", ["MIT", "Apache Software License", "BSD-3-Clause AND 0BSD", "PSF-2.0", "MPL-2.0 AND MIT"])
def test_permissive_ones_are(licence: str) -> None:
    assert PERMISSIVE.search(licence)
    assert not COPYLEFT.search(licence)


def test_every_published_version_is_listed_with_its_licence(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "tiny")
    publish_tiny(tmp_path, "tiny", 2)
    assert list(model_rows(tmp_path)) == [("tiny/1", "Apache-2.0", "none"), ("tiny/2", "Apache-2.0", "none")]


def test_the_page_names_the_shipped_models_as_they_are(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "licences.md").read_text()
    for part in (HEADER, models_section(ROOT / "models"), BUNDLED, GPU):  # packages: make release-check
        assert part in page, "docs/licences.md is stale: run `make licences`"
    shutil.copytree(ROOT / "models" / "sentiment", tmp_path / "sentiment")
    assert models_section(tmp_path) not in page
