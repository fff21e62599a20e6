"""The model repository on disk: `<name>/<version>/manifest.json`. Reading only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import InvalidArtefact, UnknownModel
from app.core.manifest import MANIFEST, Manifest, read_manifest, verify_files

VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Artefact:
    """One published version: its folder, and what it says of itself."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"


class Repository:
    """Finds published models below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models with at least one published version, sorted."""
        if not self.root.is_dir():
            raise InvalidArtefact(f"the model repository {self.root} does not exist; set HOOPER_MODELS to a folder of models")
        return sorted(one.name for one in self.root.iterdir() if one.is_dir() and self.versions(one.name))

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, ascending. Hidden folders are publishing in progress."""
        folder = self.root / name
        if name.startswith(".") or not folder.is_dir():
            return []
        return sorted(int(one.name) for one in folder.iterdir() if VERSION.fullmatch(one.name) and (one / MANIFEST).is_file())

    def open(self, name: str, version: int | None = None) -> Artefact:
        """Read and verify one version, by default the latest.

        Raises:
            UnknownModel: there is no such model or version.
            InvalidArtefact: the folder is broken, altered, or is not what its path says.
        """
        versions = self.versions(name) if name in self.names() else []
        if not versions or (version is not None and version not in versions):
            wanted = name if version is None else f"{name}/{version}"
            raise UnknownModel(f"there is no model {wanted} in {self.root}")
        folder = self.root / name / str(version or versions[-1])
        if folder.is_symlink() or folder.parent.is_symlink():
            raise InvalidArtefact(f"{folder} is a symbolic link; models must be plain folders")
        manifest = read_manifest(folder)
        if (manifest.name, str(manifest.version)) != (name, folder.name):
            raise InvalidArtefact(f"{folder} says that it is {manifest.name}/{manifest.version}")
        verify_files(folder, manifest)
        return Artefact(folder, manifest)
