"""An image is looked through: its user, its variables, its files."""

from __future__ import annotations

import io
import tarfile

import pytest

from scripts.release.image import carried, configured


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "hooper"])
def test_a_user_that_may_be_root_is_told(user: str) -> None:
    (problem,) = configured({"User": user})
    assert "it runs as" in problem


def test_a_number_above_zero_and_plain_variables_are_good() -> None:
    assert configured({"User": "10001:10001", "Env": ["PATH=/bin", "HOOPER_HOST=0.0.0.0"]}) == []


def test_a_variable_with_a_secrets_name_is_told_without_its_value() -> None:
    assert configured({"User": "1", "Env": ["HF_TOKEN=abc", "EMPTY_TOKEN="]}) == ["the variable HF_TOKEN has a value"]


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
        ("opt/app/notes.txt", b"AKIA" + b"ABCDEFGHIJKLMNOP", 0o644, "holds what looks like an AWS key"),
        ("work/.env", b"a=b", 0o644, "is private by its name"),
    ],
)
def test_what_an_attacker_would_like_is_told(path: str, content: bytes, mode: int, told: str) -> None:
    (problem,) = carried(image(**{path: (content, mode)}))
    assert problem.startswith(path)
    assert told in problem


def test_what_an_image_needs_is_fine() -> None:
    files = {
        "usr/bin/python3": (b"\x7fELF", 0o755),
        "models/qa/1/model.onnx": (b"\x08", 0o644),
        "usr/share/test.key": (b"x", 0o644),
    }
    assert list(carried(image(**files))) == []
