"""Versions of a model to upgrade between, and what is asked of the service that has them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.manifest import MANIFEST, describe_file
from scripts.reliability.callers import OK

REFUSED = 500


@dataclass(frozen=True, slots=True)
class Step:
    """What is asked of the service, and what must come of it."""

    name: str
    call: str
    status: int
    versions: frozenset[int]
    """Those that answer while it happens."""
    leaves: int
    """The main version from then on."""
    body: Mapping[str, Any] | None = None
    is_compared: bool = False
    """A shadow runs from then on."""


BACK = Step("version 1 is loaded again", "load?version=1", OK, frozenset({1, 2}), leaves=1)
STEPS = (
    Step("version 2 is loaded", "load?version=2", OK, frozenset({1, 2}), leaves=2),
    Step("version 3 is refused", "load?version=3", REFUSED, frozenset({2}), leaves=2),
    BACK,
    Step("version 2 gets half", "load?version=2", OK, frozenset({1, 2}), leaves=1, body={"share": 0.5}),
    Step("version 2 is stopped", "unload?version=2", OK, frozenset({1, 2}), leaves=1),
    Step("version 2 is the shadow", "load?version=2", OK, frozenset({1}), leaves=1, body={"shadow": True}, is_compared=True),
    Step("version 2 is promoted", "promote", OK, frozenset({1, 2}), leaves=2),
    BACK,
)


def publish_versions(source: Path, models: Path) -> None:
    """Versions 1 and 2 answer alike, since they are copies; version 3 was published with answers that it does not give."""
    for version in (1, 2, 3):
        folder = models / source.parent.name / str(version)
        shutil.copytree(source, folder)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | {"version": version}
        if version == 3:
            golden = json.loads((folder / manifest["golden"]).read_text(encoding="utf-8"))
            golden[0]["answer"]["labels"][0]["score"] -= 0.5
            (folder / manifest["golden"]).write_text(json.dumps(golden), encoding="utf-8")
            manifest["files"][manifest["golden"]] = describe_file(folder / manifest["golden"]).model_dump()
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
