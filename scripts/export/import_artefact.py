"""republish: a version that was published elsewhere, as a folder or an archive, becomes the next version here."""

from __future__ import annotations

import tempfile
from pathlib import Path

from app.core.archive import copy, is_archive, unpack
from app.core.errors import SetupError
from app.core.manifest import MANIFEST
from app.core.release import STAGING, next_release


def is_published(source: Path) -> bool:
    """Whether this is a version that was published before, and no checkpoint."""
    return is_archive(source) or (source / MANIFEST).is_file()


def republish(source: Path, models: Path, name: str = "") -> Path:
    """Check every file against the manifest, then publish under the manifest's name, or another.

    Returns:
        The version's folder.

    Raises:
        InvalidArtefact: the source is not what its manifest says, or holds what no published version holds.
        SetupError: the repository cannot be written.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=models) as place:
            checked = Path(place)
            manifest = unpack(source, checked) if is_archive(source) else copy(source, checked)
            with next_release(models, name or manifest.name) as release:
                changes = {
                    "name": name or manifest.name,
                    "version": release.version,
                    "first_published": release.first_published,  # here, wherever it was published before
                }
                renamed = manifest.model_copy(update=changes)
                for file in manifest.files:
                    (checked / file).rename(release.staging / file)
                (release.staging / MANIFEST).write_text(renamed.model_dump_json(indent=2) + "\n", encoding="utf-8")
            return release.folder
    except OSError as error:
        raise SetupError(f"{models} cannot be written: {error.strerror or error}") from error
