"""The model repository on disk: `<name>/<version>/manifest.json`. Reading only."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from app.core.artefact import (
    Artefact,
    ServingRecords,
    first_published,
    latest_version,
    open_artefact,
    serving_version,
    versions_in,
)
from app.core.errors import InvalidArtefact, InvalidSettings, SetupError, UnknownModel
from app.core.manifest import MANIFEST, VERSION, Manifest, is_path, read_manifest


class Repository:
    """Finds published models below one folder."""

    def __init__(self, root: Path, state: str = "") -> None:
        """
        Args:
            state: another one with records of which version serves; empty: there is none.
        """
        self.root = root
        self.records = ServingRecords(root, state)

    def names(self) -> list[str]:
        """Models with at least one published version, sorted."""
        if not self.root.is_dir():
            raise InvalidArtefact(f"the model repository {self.root} does not exist; set HOOPER_MODELS to a folder of models")
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and self._is_model(path.name))

    def _is_model(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except InvalidArtefact:  # a folder that may not be read is told when it is opened: it must not hide the others
            return True

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, ascending. Hidden folders are publishing in progress."""
        folder = self.root / name
        if name.startswith("."):
            return []
        return versions_in(folder)

    def served_version(self, name: str) -> int | None:
        """The version that a start loads: the one that was loaded, promoted or published last, else the latest. A folder that
        was put beside a published version since then is a later publication. None where the model has no version.

        Raises:
            InvalidArtefact: the record cannot be read, or the version that it names is gone: another one is not taken for it.
        """
        return serving_version(self.root / name, self.records.read(name)) if self.versions(name) else None

    def open(self, name: str, version: int | None = None) -> Artefact:
        """Read and verify one version, by default the latest.

        Raises:
            UnknownModel: there is no such model or version.
            InvalidArtefact: the folder is broken, altered, or is not what its path says.
        """
        versions = self.versions(name) if name in self.names() else []
        if not versions or (version is not None and version not in versions):
            model_id = name if version is None else f"{name}/{version}"
            raise UnknownModel(f"there is no model {model_id} in {self.root}")
        folder = self.root / name / str(version or versions[-1])
        if folder.is_symlink() or folder.parent.is_symlink():
            raise InvalidArtefact(f"{folder} is a symbolic link; models must be plain folders")
        artefact = open_artefact(folder)
        if artefact.id != f"{name}/{folder.name}":
            raise InvalidArtefact(f"{folder} says that it is {artefact.id}")
        return artefact

    def task_of(self, name: str) -> str:
        """What a model's newest readable version does; empty where none can be read."""
        for number in reversed(self.versions(name)):
            with suppress(InvalidArtefact):
                return read_manifest(self.root / name / str(number)).task
        return ""

    def age(self, name: str) -> str:
        """Since when a name is published, as far as that is known."""
        return first_published(self.root / name)

    def open_served(self, name: str) -> Artefact:
        """As `open`, the version that a start loads."""
        return self.open(name, self.served_version(name))

    def find(self, reference: str, served: bool = False) -> Artefact:
        """What a person named: `name`, `name/version`, or a folder's path: of a version, or of a model, then its latest.

        With `served`, a name alone stands for the version that serves after a start, not for the latest.

        A path that could be a name (see `is_path`) is taken for one where the repository has such a model.

        Raises:
            InvalidSettings: it is none of these, or both a model of the repository and another folder.
            UnknownModel, InvalidArtefact: as for `open`.
        """
        path = Path(reference).expanduser()
        folder = latest_version(path) or path  # of a model's folder the latest
        if is_path(reference):
            return open_artefact(folder)
        name, _, version = reference.partition("/")
        if (folder / MANIFEST).is_file():
            if not self.versions(name):
                return open_artefact(folder)
            if not folder.resolve().is_relative_to((self.root / name).resolve()):
                raise InvalidSettings(
                    f"{reference} is a model of {self.root} and also a folder here; "
                    f"write ./{reference} or {self.root / reference}"
                )
        if version and not version.isdecimal():
            raise InvalidSettings(f"{reference!r} is no model: write `name`, `name/version`, or a folder as `./folder`")
        if served and not version:
            return self.open_served(name)
        return self.open(name, int(version) if version else None)

    def manifests(self) -> dict[str, Manifest | InvalidArtefact]:
        """What each published version says of itself, by `name/version`; files are not compared with their checksums."""
        manifests: dict[str, Manifest | InvalidArtefact] = {}
        for name in self.names():
            try:
                versions = self.versions(name)
            except InvalidArtefact as error:
                manifests[name] = error
                continue
            for version in versions:
                try:
                    manifests[f"{name}/{version}"] = read_manifest(self.root / name / str(version))
                except InvalidArtefact as error:
                    manifests[f"{name}/{version}"] = error
        return manifests

    def folder(self, reference: str) -> Path:
        """Where `name/version` lies, sound or not.

        Raises:
            SetupError: the reference names no version.
            UnknownModel: there is no such version.
        """
        name, _, version = reference.partition("/")
        if not VERSION.fullmatch(version):
            raise SetupError(f"{reference!r} names no version; write `name/version`")
        if name not in self.names() or int(version) not in self.versions(name):
            raise UnknownModel(f"there is no model {reference} in {self.root}")
        return self.root / name / version
