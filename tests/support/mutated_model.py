"""Published folders, changed after the fact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.core.manifest import MANIFEST, describe_file


def sign_again(folder: Path, **changes: Any) -> None:
    """Write the manifest anew: with the checksums that the files have now, and with these fields changed."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: describe_file(folder / name).model_dump() for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def change_golden(folder: Path, golden: Any) -> None:
    """Other golden requests, as if they had been published so."""
    (folder / "golden.json").write_text(golden if isinstance(golden, str) else json.dumps(golden))
    sign_again(folder)


def golden_of(folder: Path) -> Any:
    return json.loads((folder / "golden.json").read_text())
