"""What must not be published is found, wherever it hides; what is fine is left alone."""

from __future__ import annotations

import io
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts.release.scan import MAX_BYTES, Member, archive, config_problems, file_problems, is_pickle, scan, tree
from tests.support.live_service import ROOT


def member(path: str = "app/a.txt", content: bytes = b"text", mode: int = 0o644, num_bytes: int = 0) -> Member:
    return Member(path, mode, num_bytes or len(content), False, content)


@pytest.mark.parametrize(
    ("what", "content"),
    [  # put together here, so that this file does not hold them
        ("Private Key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        ("Private Key", "-----BEGIN " + "PRIVATE KEY-----"),
        ("AWS Access Key", "key = AKIA" + "ABCDEFGHIJKLMNOP"),
        ("Service Token", "ghp_" + "a1" * 18),
        ("PyPI Token", "pypi-AgEIcHlwaS5vcmc" + "Ab1_" * 30),
        ("Service Token", "hf_" + "aB" * 17),
        ("Service Token", "sk-proj-" + "A1b2" * 12),
        ("Service Token", "AIza" + "Ab1-_" * 7),
        ("Slack Token", "xoxb-" + "123456789012-123456789012-" + "a" * 24),
        ("Basic Auth Credentials", "https://me:" + "swordfish@example.org/simple"),
        ("JSON Web Token", ".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0In0", "c2lnbmF0dXJl" * 3])),
    ],
)
def test_a_secret_is_found_and_not_repeated(what: str, content: str) -> None:
    (problem,) = scan([member(content=f"first\n{content}\nlast".encode())])
    assert problem == f"app/a.txt: holds what looks like a secret ({what})"
    assert content not in problem


@pytest.mark.parametrize(
    "content",
    [
        "https://example.org/a:b@c",
        "https://${USER}:${PASSWORD}@host",
        "sha256:" + "ab" * 32,
        "Authorization: Bearer KEY",
        "risk-" + "a" * 50,
        "weighs_others_" + "a" * 40,
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
    assert not is_pickle((ROOT / "models" / "sentiment" / "2" / "model.onnx").read_bytes()[:4096])


@pytest.mark.parametrize(
    ("problem", "file"),
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
def test_what_does_not_belong_is_told(problem: str, file: Member) -> None:
    assert scan([file]) == [f"{file.path}: {problem}"]


def test_checkpoints_of_an_earlier_release_are_fixtures_and_no_others_are() -> None:
    fixture = "tests/fixtures/release_0_1_0/training/runs/a/optimizer.pt"
    assert scan([member(fixture), member(f"hooper-0.1.0/{fixture}")]) == []
    assert len(scan([member("tests/fixtures/other/optimizer.pt")])) == 1


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


@pytest.mark.slow
def test_this_repository_has_nothing_of_it() -> None:
    members = list(tree(ROOT))
    assert len(members) > 200
    assert scan(members) == []


# --- container images


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "hooper"])
def test_a_user_of_an_image_that_may_be_root_is_told(user: str) -> None:
    (problem,) = config_problems({"User": user})
    assert "it runs as" in problem


def test_a_number_above_zero_and_plain_variables_are_good() -> None:
    assert config_problems({"User": "10001:10001", "Env": ["PATH=/bin", "HOOPER_HOST=0.0.0.0"]}) == []


def test_a_variable_with_a_secrets_name_is_told_without_its_value() -> None:
    assert config_problems({"User": "1", "Env": ["HF_TOKEN=abc", "EMPTY_TOKEN="]}) == ["the variable HF_TOKEN has a value"]


def image(**files: tuple[bytes, int]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    return packed


@pytest.mark.parametrize(
    ("path", "content", "mode", "told"),
    [
        ("usr/bin/su", b"x", 0o4755, "runs with its owner's rights"),
        ("usr/bin/gcc", b"x", 0o755, "a tool for whoever breaks in"),
        ("opt/hooper/lib/python3.11/site-packages/torch/__init__.py", b"", 0o644, "training does not belong here"),
        ("work/.git/HEAD", b"ref", 0o644, "history does not belong here"),
        ("opt/app/notes.txt", b"AKIA" + b"ABCDEFGHIJKLMNOP", 0o644, "holds what looks like a secret (AWS Access Key)"),
        ("work/.env", b"a=b", 0o644, "is private by its name"),
    ],
)
def test_what_an_attacker_would_like_is_told(path: str, content: bytes, mode: int, told: str) -> None:
    (problem,) = file_problems(image(**{path: (content, mode)}))
    assert problem.startswith(path)
    assert told in problem


def test_what_an_image_needs_is_fine() -> None:
    files = {
        "usr/bin/python3": (b"\x7fELF", 0o755),
        "models/qa/1/model.onnx": (b"\x08", 0o644),
        "usr/share/test.key": (b"x", 0o644),
    }
    assert list(file_problems(image(**files))) == []
