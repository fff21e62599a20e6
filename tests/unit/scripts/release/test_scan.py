"""What must not be published is found, wherever it hides; what is fine is left alone."""

from __future__ import annotations

import io
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts.release.scan import MAX_BYTES, Member, archive, is_pickle, scan, tree
from tests.support.live_service import ROOT


def member(path: str = "app/a.txt", content: bytes = b"text", mode: int = 0o644, num_bytes: int = 0) -> Member:
    return Member(path, mode, num_bytes or len(content), False, content)


@pytest.mark.parametrize(
    ("what", "content"),
    [  # put together here, so that this file does not hold them
        ("a private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        ("a private key", "-----BEGIN " + "PRIVATE KEY-----"),
        ("an AWS key", "key = AKIA" + "ABCDEFGHIJKLMNOP"),
        ("a GitHub token", "ghp_" + "a1" * 18),
        ("a package index token", "pypi-" + "Ab1_" * 30),
        ("a Hugging Face token", "hf_" + "aB" * 17),
        ("a password in an address", "https://me:" + "swordfish@example.org/simple"),
        ("a signed web token", ".".join(["eyJhbGciOiJIUzI1", "eyJzdWIiOiIxMjM0", "c2lnbmF0dXJl" * 3])),
    ],
)
def test_a_secret_is_found_and_not_repeated(what: str, content: str) -> None:
    (problem,) = scan([member(content=f"first\n{content}\nlast".encode())])
    assert problem == f"app/a.txt: holds what looks like {what}"
    assert content not in problem


@pytest.mark.parametrize(
    "content",
    [
        "https://example.org/a:b@c",
        "https://${USER}:${PASSWORD}@host",
        "sha256:" + "ab" * 32,
        "Authorization: Bearer KEY",
        "risk-" + "a" * 50,
    ],
)
def test_what_only_resembles_a_secret_is_left_alone(content: str) -> None:
    assert scan([member(content=content.encode())]) == []


@pytest.mark.parametrize("path", [".env", "a/.env.local", "id_ed25519", "a/b.p12", ".pypirc"])
def test_a_file_that_is_private_by_its_name_is_found(path: str) -> None:
    assert scan([member(path)]) == [f"{path}: is private by its name"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", [{"a": 1}, [1, 2], "text", Path("x")])
def test_a_pickle_is_found_whatever_it_is_called(value: object, protocol: int) -> None:
    assert is_pickle(pickle.dumps(value, protocol))


def test_a_torch_archive_is_a_pickle() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("archive/data.pkl", b"x")
    assert is_pickle(packed.getvalue())


def test_a_shipped_graph_is_no_pickle() -> None:
    assert not is_pickle((ROOT / "models" / "sentiment" / "1" / "model.onnx").read_bytes()[:4096])


@pytest.mark.parametrize(
    ("problem", "one"),
    [
        ("is compiled code", member("a", b"\x7fELF\x02")),
        ("is compiled code", member("a.so", b"x")),
        ("is executable, and no script", member("a", b"x", 0o755)),
        ("runs with its owner's rights (setuid or setgid)", member("a", b"x", 0o4644)),
        ("has 61 MB, more than 60", member("a", b"x", num_bytes=MAX_BYTES + 1_000_000)),
        ("lies outside of its archive", member("../a", b"x")),
        ("is a link, not a plain file", Member("a", 0, 0, True, b"")),
        ("is a pickle, or a format that may hold one", member("weights.pt", b"x")),
    ],
)
def test_what_does_not_belong_is_told(problem: str, one: Member) -> None:
    assert scan([one]) == [f"{one.path}: {problem}"]


def test_scripts_and_models_are_fine() -> None:
    assert (
        scan([member("run", b"#!/bin/sh\n", 0o755), member("model.onnx", b"\x08\x08\x12\x07"), member("x", b"", 0o755)]) == []
    )


def test_a_tree_is_what_git_would_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "ignored").write_bytes(b"\x7fELF")
    (tmp_path / "fresh").write_bytes(b"\x7fELF")
    (tmp_path / "link").symlink_to("fresh")
    assert scan(tree(tmp_path)) == ["fresh: is compiled code", "link: is a link, not a plain file"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_looked_into(tmp_path: Path, kind: str) -> None:
    (tmp_path / "good").write_text("text")
    (tmp_path / "bad").write_bytes(b"\x7fELF")
    (tmp_path / "link").symlink_to("good")
    file = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.write(tmp_path / "good", "good")
            packed.write(tmp_path / "bad", "bad")
        assert scan(archive(file)) == ["bad: is compiled code"]
        return
    with tarfile.open(file, "w:gz") as unpacked:
        for name in ("good", "bad", "link"):
            unpacked.add(tmp_path / name, name)
    assert scan(archive(file)) == ["bad: is compiled code", "link: is a link, not a plain file"]


def test_this_repository_has_nothing_of_it() -> None:
    members = list(tree(ROOT))
    assert len(members) > 200
    assert scan(members) == []
