"""One archive of a published version: the same bytes from the same version, and nothing unpacked that its manifest lacks."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from app.core.errors import InvalidArtefact, SetupError
from app.core.files import atomic_writer
from app.core.manifest import FILE_PATTERN, MANIFEST, NAME_PATTERN, Manifest, read_manifest, verify_files

SUFFIXES = (".tar.gz", ".tgz")
MAX_MANIFEST_BYTES = 16_777_216
COMPRESSION = 6
_MEMBER = re.compile(rf"(?P<name>{NAME_PATTERN[1:-1]})/(?P<version>[1-9][0-9]{{0,8}})/(?P<file>{FILE_PATTERN[1:-1]})")


def is_archive(path: Path) -> bool:
    return path.name.endswith(SUFFIXES)


def pack(folder: Path, target: Path) -> None:
    """Write `name/version/…` into a tar.gz, the manifest first; times, owners and modes of this machine are left out.

    Args:
        folder: a published version; its files are compared with its manifest first.
        target: appears whole or not at all; an earlier file of this name is replaced.

    Raises:
        InvalidArtefact: the folder is not what its manifest says.
        SetupError: the archive cannot be written.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    try:
        with atomic_writer(target) as raw, gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as stream:
            _write(stream, folder, manifest)
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror or error}") from error


def unpack(archive: Path, folder: Path) -> Manifest:
    """Fill an empty folder with the version that `pack` wrote.

    Refused are links, devices, paths, files that the manifest does not list, and files longer than it says, before they are
    written: an archive cannot reach outside the folder nor fill the disk.

    Raises:
        InvalidArtefact: the archive is none of ours, is cut off, or was altered.
    """
    try:
        with tarfile.open(archive, "r|gz") as tar:
            manifest = _read_members(tar, archive, folder)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InvalidArtefact(f"{archive} is no whole tar.gz archive: {error}") from error
    except OSError as error:
        raise InvalidArtefact(f"{archive} cannot be unpacked: {error.strerror or error}") from error
    verify_files(folder, manifest)
    return manifest


def copy(source: Path, folder: Path) -> Manifest:
    """Fill an empty folder with the files that the manifest of a published folder lists; the copy is what is checked.

    Raises:
        InvalidArtefact: the source is not what its manifest says.
    """
    manifest = read_manifest(source)
    verify_files(source, manifest)  # links are refused before anything is read through them
    for name in (MANIFEST, *manifest.files):
        shutil.copyfile(source / name, folder / name)
    verify_files(folder, manifest)
    return manifest


def _write(stream: gzip.GzipFile, folder: Path, manifest: Manifest) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name in (MANIFEST, *sorted(manifest.files)):
            member = tarfile.TarInfo(f"{manifest.name}/{manifest.version}/{name}")
            with (folder / name).open("rb") as file:
                member.size = (folder / name).stat().st_size
                member.mode = 0o644
                tar.addfile(member, file)


def _read_members(tar: tarfile.TarFile, archive: Path, folder: Path) -> Manifest:
    members = _plain_members(tar, archive)
    first, parts = next(members, (None, None))
    if first is None or parts is None or parts["file"] != MANIFEST or first.size > MAX_MANIFEST_BYTES:
        raise InvalidArtefact(f"{archive} does not begin with a {MANIFEST}; `hooper export` writes such archives")
    _extract(tar, first, folder / MANIFEST)
    manifest = read_manifest(folder)
    if (manifest.name, str(manifest.version)) != (parts["name"], parts["version"]):
        raise InvalidArtefact(f"{archive} holds {first.name}, which says that it is {manifest.name}/{manifest.version}")
    for member, parts in members:
        entry = manifest.files.get(parts["file"])
        if (parts["name"], parts["version"]) != (manifest.name, str(manifest.version)) or entry is None:
            raise InvalidArtefact(f"{archive} holds {member.name}, which its {MANIFEST} does not list")
        if member.size != entry.num_bytes:
            raise InvalidArtefact(f"{archive}: {member.name} has {member.size} bytes, the {MANIFEST} says {entry.num_bytes}")
        _extract(tar, member, folder / parts["file"])
    return manifest


def _plain_members(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[tarfile.TarInfo, re.Match[str]]]:
    """Regular files named `name/version/file`, each once; anything else ends it."""
    names = set()
    for member in tar:
        parts = _MEMBER.fullmatch(member.name)
        if parts is None or not member.isreg() or member.name in names:
            raise InvalidArtefact(f"{archive} holds {member.name!r}, which is no plain file of a published version")
        names.add(member.name)
        yield member, parts


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise InvalidArtefact(f"{member.name!r} has no content")
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file)
