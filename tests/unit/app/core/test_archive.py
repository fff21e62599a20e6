"""An archive holds a version and nothing else, and what it holds beside that is refused before it is written."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core import archive
from app.core.archive import copy, pack, unpack
from app.core.errors import InvalidArtefact, SetupError


@pytest.fixture
def version(models: Path) -> Path:
    return models / "tiny" / "1"


@pytest.fixture
def packed(version: Path, tmp_path: Path) -> Path:
    pack(version, tmp_path / "tiny.tar.gz")
    return tmp_path / "tiny.tar.gz"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where it is unpacked."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


Members = list[tuple[tarfile.TarInfo, bytes]]


def change(packed: Path, how: Callable[[Members], None]) -> None:
    """Write the archive anew with other members."""
    with tarfile.open(packed) as tar:
        members = [(entry, tar.extractfile(entry).read()) for entry in tar]  # type: ignore[union-attr]
    how(members)
    with tarfile.open(packed, "w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))


def member(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, len(content) if kind == tarfile.REGTYPE else 0
    return made, content


def test_what_is_packed_comes_out_again(version: Path, packed: Path, place: Path) -> None:
    manifest = unpack(packed, place)
    assert (manifest.name, manifest.version) == ("tiny", 1)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        file.name: file.read_bytes() for file in version.iterdir()
    }


def test_time_owner_and_strays_of_this_machine_are_left_out(version: Path, packed: Path) -> None:
    before = packed.read_bytes()
    (version / "notes.txt").write_text("mine")
    for path in version.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    pack(version, packed)
    assert packed.read_bytes() == before


@pytest.mark.parametrize(
    "stray",
    [
        member("../../escaped"),
        member("/tmp/escaped"),
        member("tiny/1/../../escaped"),
        member("tiny/1/sub/file"),
        member("tiny/1/.hidden"),
        member("other/1/model.onnx"),
        member("tiny/2/model.onnx"),
        member("tiny/1/unlisted.bin"),
        member("tiny/1/model.onnx"),
        member("tiny/1/link", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        member("tiny/1/link", kind=tarfile.LNKTYPE, target="tiny/1/model.onnx"),
        member("tiny/1/pipe", kind=tarfile.FIFOTYPE),
        member("tiny/1", kind=tarfile.DIRTYPE),
    ],
    ids=lambda entry: f"{entry[0].name} {entry[0].type.decode()}",
)
def test_what_no_version_holds_is_refused(stray: tuple[tarfile.TarInfo, bytes], packed: Path, place: Path) -> None:
    change(packed, lambda members: members.append(stray))
    outside = sorted(place.parent.iterdir())
    with pytest.raises(InvalidArtefact, match="which"):
        unpack(packed, place)
    assert sorted(place.parent.iterdir()) == outside
    assert all(path.is_file() and not path.is_symlink() for path in place.iterdir())


def test_a_file_longer_than_the_manifest_says_is_not_written(packed: Path, place: Path) -> None:
    def blow_up(members: Members) -> None:
        index = next(i for i, (entry, _) in enumerate(members) if entry.name.endswith("model.onnx"))
        members[index] = member("tiny/1/model.onnx", bytes(5_000_000))

    change(packed, blow_up)
    with pytest.raises(InvalidArtefact, match=r"has 5000000 bytes, the manifest\.json says"):
        unpack(packed, place)
    assert not (place / "model.onnx").exists()


def test_a_changed_byte_is_found(packed: Path, place: Path) -> None:
    def flip(members: Members) -> None:
        index = next(i for i, (entry, _) in enumerate(members) if entry.name.endswith("tokenizer.json"))
        content = members[index][1]
        members[index] = (members[index][0], b" " + content[1:])

    change(packed, flip)
    with pytest.raises(InvalidArtefact, match="differs from the checksum"):
        unpack(packed, place)


def test_a_missing_file_is_found(packed: Path, place: Path) -> None:
    change(packed, lambda members: members.pop())
    with pytest.raises(InvalidArtefact, match="is missing"):
        unpack(packed, place)


def test_the_manifest_must_come_first_and_be_of_a_sensible_size(
    packed: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(archive, "MAX_MANIFEST_BYTES", 10)
        with pytest.raises(InvalidArtefact, match="does not begin with a manifest"):
            unpack(packed, place)
    change(packed, lambda members: members.reverse())
    with pytest.raises(InvalidArtefact, match="does not begin with a manifest"):
        unpack(packed, place)


@pytest.mark.parametrize("spoil", [lambda raw: raw[:200], lambda raw: b"hello", lambda raw: b"", gzip.decompress], ids=range(4))
def test_what_is_no_whole_archive_is_one_sentence(spoil: Callable[[bytes], bytes], packed: Path, place: Path) -> None:
    packed.write_bytes(spoil(packed.read_bytes()))
    with pytest.raises(InvalidArtefact, match=r"tiny\.tar\.gz"):
        unpack(packed, place)


def test_an_archive_that_cannot_be_written_leaves_nothing(version: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be written"):
        pack(version, tmp_path / "missing" / "tiny.tar.gz")
    target = tmp_path / "folder.tar.gz"
    target.mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SetupError, match="cannot be written"):
        pack(version, target)
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_in_a_folder_is_not_followed(version: Path, place: Path, tmp_path: Path) -> None:
    (version / "golden.json").rename(tmp_path / "golden.json")
    (version / "golden.json").symlink_to(tmp_path / "golden.json")
    with pytest.raises(InvalidArtefact, match="not a plain file"):
        copy(version, place)
    assert not list(place.iterdir())
