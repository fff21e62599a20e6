"""Licences are listed, and those that would bind who serves Hooper are not let in."""

from __future__ import annotations

import shutil
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.release.licences import BUNDLED, COPYLEFT, GPU, HEADER, PERMISSIVE, licence_of, model_rows, models_section
from tests.support.live_service import ROOT
from tests.support.tiny_model import publish_tiny


def package(**fields: Any) -> Any:
    metadata = Message()
    metadata["Name"] = "thing"
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            metadata[name.replace("_", "-")] = value
    return SimpleNamespace(metadata=metadata)


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "MIT", "Classifier": ["License :: OSI Approved :: BSD License"]}, "MIT"),
        ({"Classifier": ["License :: OSI Approved", "License :: OSI Approved :: BSD License"], "License": "x"}, "BSD License"),
        ({"License": "Apache 2.0\nand its whole text"}, "Apache 2.0"),
        ({}, "not said"),
    ],
)
def test_a_licence_is_what_the_package_says_best(fields: dict[str, Any], licence: str) -> None:
    assert licence_of(package(**fields)) == licence


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
