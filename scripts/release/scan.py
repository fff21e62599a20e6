"""What an attacker would like to find, or to have shipped: looked for in every file of a tree, an archive or an image."""

from __future__ import annotations

import re
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 60_000_000
READ_BYTES = 4_000_000
"""Of a larger file only so much is looked through for secrets: it is weights."""
PROGRAMS = (b"\x7fELF", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xca\xfe\xba\xbe")
PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt", ".npy", ".npz", ".h5", ".keras"})
COMPILED_SUFFIXES = frozenset({".so", ".dll", ".dylib", ".exe", ".pyd", ".pyc"})
PRIVATE_NAMES = re.compile(
    r"(^|/)(\.env(\..*)?|\.netrc|\.npmrc|\.pypirc|\.git-credentials|id_(rsa|dsa|ecdsa|ed25519)|.*\.(p12|pfx|jks|key))$"
)
SECRETS = {
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b",
    "a package index token": rb"\bpypi-[A-Za-z0-9_-]{80,}",
    "a Hugging Face token": rb"\bhf_[A-Za-z0-9]{34}\b",
    "a Slack token": rb"\bxox[abprs]-[A-Za-z0-9-]{20,}",
    "a Google key": rb"\bAIza[0-9A-Za-z_-]{35}\b",
    "a secret key of an API": rb"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{40,}",
    "a password in an address": rb"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"<>${}]{1,64}:[^\s/:@'\"<>${}]{3,}@[\w.-]+",
    "a signed web token": rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A file as it lies in a tree or an archive."""

    path: str
    mode: int
    """As in `stat`; 0 where it is not known."""
    num_bytes: int
    is_link: bool
    content: bytes
    """Of a large file, the beginning."""


def scan(members: Iterable[Member]) -> list[str]:
    """What is wrong, as `path: what`; a secret itself is never repeated."""
    return [f"{one.path}: {problem}" for one in members for problem in _problems(one)]


def tree(root: Path) -> Iterator[Member]:
    """Every file of a checkout that git does not ignore."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    for name in sorted(set(filter(None, listed.split("\0")))):
        path = root / name
        if path.is_symlink():
            yield Member(name, 0, 0, True, b"")
        elif path.is_file():
            with path.open("rb") as file:
                yield Member(name, path.stat().st_mode, path.stat().st_size, False, file.read(READ_BYTES))


def archive(file: Path) -> Iterator[Member]:
    """Every file of a wheel (zip) or a source distribution (tar)."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as packed:
            for one in packed.infolist():
                mode = one.external_attr >> 16
                with packed.open(one) as content:
                    yield Member(one.filename, mode, one.file_size, stat.S_ISLNK(mode), content.read(READ_BYTES))
        return
    with tarfile.open(file) as unpacked:
        for entry in unpacked:
            content_of = unpacked.extractfile(entry) if entry.isreg() else None
            if content_of is not None:
                yield Member(entry.name, entry.mode, entry.size, False, content_of.read(READ_BYTES))
            elif not entry.isdir():  # a link, a device or a pipe
                yield Member(entry.name, entry.mode, 0, True, b"")


def _problems(one: Member) -> Iterator[str]:
    if one.is_link:
        yield "is a link, not a plain file"
        return
    if one.path.startswith("/") or ".." in one.path.split("/"):
        yield "lies outside of its archive"
    if one.num_bytes > MAX_BYTES:
        yield f"has {one.num_bytes / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}"
    if one.mode & (stat.S_ISUID | stat.S_ISGID):
        yield "runs with its owner's rights (setuid or setgid)"
    suffix = Path(one.path).suffix.lower()
    if one.content.startswith(PROGRAMS) or suffix in COMPILED_SUFFIXES:
        yield "is compiled code"
    elif one.mode & stat.S_IXUSR and one.content and not one.content.startswith(b"#!"):
        yield "is executable, and no script"
    if suffix in PICKLE_SUFFIXES or is_pickle(one.content):
        yield "is a pickle, or a format that may hold one"
    yield from secrets_of(one)


def secrets_of(one: Member) -> Iterator[str]:
    """Files that are private by their name, and keys and passwords in the others."""
    if PRIVATE_NAMES.search(one.path):
        yield "is private by its name"
    for what, pattern in SECRETS.items():
        if re.search(pattern, one.content):
            yield f"holds what looks like {what}"


def is_pickle(content: bytes) -> bool:
    """A pickle of protocol 2 to 5, or torch's archive of one."""
    framed = (
        len(content) > 2
        and content[0] == 0x80
        and 2 <= content[1] <= 5
        and content[2:3] in (b"\x95", b"}", b"]", b"c", b"(", b"X", b"\x8c")
    )
    return framed or (content.startswith(b"PK\x03\x04") and b"data.pkl" in content[:4096])
