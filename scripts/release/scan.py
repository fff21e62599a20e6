"""What must not be shipped, looked for in every file of a checkout, an archive and a container image.

Secrets are found by detect-secrets; pickles, programs, links and setuid files by rules of our own.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from scripts.release.checks import CheckResult, finding

MAX_BYTES = 60_000_000
READ_BYTES = 4_000_000
"""Of a larger file only so much is looked through for secrets: it is weights."""
PROGRAMS = (b"\x7fELF", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xca\xfe\xba\xbe")
PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt", ".npy", ".npz", ".h5", ".keras"})
# Training checkpoints that an earlier release wrote: a test resumes from them, in torch's own safe mode.
PICKLES_OF_FIXTURES = re.compile(r"(^|/)tests/fixtures/release_\w+/training/")
COMPILED_SUFFIXES = frozenset({".so", ".dll", ".dylib", ".exe", ".pyd", ".pyc"})
PRIVATE_NAMES = re.compile(
    r"(^|/)(\.env(\..*)?|\.netrc|\.npmrc|\.pypirc|\.git-credentials|id_(rsa|dsa|ecdsa|ed25519)|.*\.(p12|pfx|jks|key))$"
)
# Detectors of known formats alone: those of high entropy find checksums, those of keywords every test of a password.
DETECTORS = (
    "PrivateKeyDetector", "AWSKeyDetector", "PypiTokenDetector", "NpmDetector", "SlackDetector", "BasicAuthDetector",
    "JwtTokenDetector", "GitLabTokenDetector", "StripeDetector", "AzureStorageKeyDetector",
)  # fmt: skip
OWN_DETECTOR = Path(__file__).with_name("secret_patterns.py")

IMAGE_TOOLS = re.compile(r"(^|/)(bin|sbin)/(gcc|g\+\+|cc|clang|make|git|curl|wget|nc|ncat|ssh|docker)$")
IMAGE_TRAINING = re.compile(r"/site-packages/(torch|transformers|optimum|datasets|tensorflow)/__init__\.py$")
IMAGE_HISTORY = re.compile(r"(^|/)\.git/HEAD$")
SECRET_VARIABLE = re.compile(r"(PASSWORD|PASSWD|TOKEN|SECRET|PRIVATE_KEY|API_KEY)", re.IGNORECASE)
# Where secrets are looked for in an image: the base's own folders carry test keys of libraries.
OWN_FOLDERS = re.compile(r"^(opt|work|models|home|root|tmp|app|srv)/")


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a tree or an archive; mode 0 where it is not known, of a large file the beginning of its content."""

    path: str
    mode: int
    num_bytes: int
    is_link: bool
    content: bytes


def scan(members: Iterable[Member]) -> list[str]:
    """What is wrong, as `path: what`; a secret itself is never repeated."""
    return [f"{member.path}: {problem}" for member in members for problem in _problems(member)]


def tree(root: Path) -> Iterator[Member]:
    """Every file of a checkout that git does not ignore."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    for name in sorted(set(filter(None, listing.split("\0")))):
        path = root / name
        if path.is_symlink():
            yield Member(name, 0, 0, True, b"")
        elif path.is_file():
            with path.open("rb") as file:
                yield Member(name, path.stat().st_mode, path.stat().st_size, False, file.read(READ_BYTES))


def archive(file: Path) -> Iterator[Member]:
    """Every file of a wheel (zip) or a source distribution (tar)."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as wheel:
            for info in wheel.infolist():
                mode = info.external_attr >> 16
                with wheel.open(info) as content:
                    yield Member(info.filename, mode, info.file_size, stat.S_ISLNK(mode), content.read(READ_BYTES))
        return
    with tarfile.open(file) as source:
        for entry in source:
            stream = source.extractfile(entry) if entry.isreg() else None
            if stream is not None:
                yield Member(entry.name, entry.mode, entry.size, False, stream.read(READ_BYTES))
            elif not entry.isdir():  # a link, a device or a pipe
                yield Member(entry.name, entry.mode, 0, True, b"")


def _problems(member: Member) -> Iterator[str]:
    if member.is_link:
        yield "is a link, not a plain file"
        return
    if member.path.startswith("/") or ".." in member.path.split("/"):
        yield "lies outside of its archive"
    if member.num_bytes > MAX_BYTES:
        yield f"has {member.num_bytes / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}"
    if member.mode & (stat.S_ISUID | stat.S_ISGID):
        yield "runs with its owner's rights (setuid or setgid)"
    suffix = Path(member.path).suffix.lower()
    if member.content.startswith(PROGRAMS) or suffix in COMPILED_SUFFIXES:
        yield "is compiled code"
    elif member.mode & stat.S_IXUSR and member.content and not member.content.startswith(b"#!"):
        yield "is executable, and no script"
    if (suffix in PICKLE_SUFFIXES or is_pickle(member.content)) and not PICKLES_OF_FIXTURES.search(member.path):
        yield "is a pickle, or a format that may hold one"
    yield from secrets_of(member)


def secrets_of(member: Member) -> Iterator[str]:
    """A file that is private by its name, and the kinds of keys and passwords in any other text."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import transient_settings

    if PRIVATE_NAMES.search(member.path):
        yield "is private by its name"
    if b"\0" in member.content[:8192]:  # weights and pictures
        return
    plugins = [{"name": name} for name in DETECTORS]
    plugins.append({"name": "ServiceTokenDetector", "path": f"file://{OWN_DETECTOR}"})
    with transient_settings({"plugins_used": plugins}):
        lines = member.content.decode(errors="replace").splitlines()
        kinds = {secret.type for line in lines for secret in scan_line(line)}
    yield from (f"holds what looks like a secret ({kind})" for kind in sorted(kinds))


def is_pickle(content: bytes) -> bool:
    """A pickle of protocol 2 to 5, or torch's archive of one."""
    is_framed = content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return (is_framed and content[2:3] in (b"\x95", b"}", b"]", b"c", b"(", b"X", b"\x8c")) or (
        content.startswith(b"PK\x03\x04") and b"data.pkl" in content[:4096]
    )


def check_image(image: str) -> CheckResult:
    """Look through a container image; skipped, with the reason, where that cannot be done here."""
    if shutil.which("docker") is None:
        return CheckResult("image", None, "not looked at: docker is not installed here")
    if _docker("version").returncode:
        return CheckResult("image", None, "not looked at: no container engine answers here")
    inspected = _docker("image", "inspect", image)
    if inspected.returncode:
        reason = f"not looked at: the engine has no image {image}; build it first, or name one with --image"
        return CheckResult("image", None, reason)
    problems = config_problems(json.loads(inspected.stdout)[0]["Config"])
    container = _docker("create", image).stdout.decode().strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            problems += list(file_problems(cast("IO[bytes]", export.stdout)))
        if export.returncode:
            problems.append(f"its files could not be read: docker export ended with {export.returncode}")
    finally:
        _docker("rm", container)
    return finding("image", problems, f"{image}: not root, no setuid, no compiler, no torch, no secrets")


def config_problems(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with the user of an image, and with its variables."""
    user = str(config.get("User") or "root").partition(":")[0]
    problems = [f"it runs as {user}; a number above 0 is needed"] if not user.isdecimal() or int(user) == 0 else []
    names = [name for name, _, value in (variable.partition("=") for variable in config.get("Env") or []) if value]
    return problems + [f"the variable {name} has a value" for name in names if SECRET_VARIABLE.search(name)]


def file_problems(root_file_system: IO[bytes]) -> Iterator[str]:
    """What is wrong with the files of an image, given as the tar of its root file system."""
    forbidden = ((IMAGE_TOOLS, "a tool for whoever breaks in"), (IMAGE_TRAINING, "training"), (IMAGE_HISTORY, "history"))
    with tarfile.open(fileobj=root_file_system, mode="r|") as files:
        for entry in files:
            path = entry.name.removeprefix("./")
            if entry.mode & (stat.S_ISUID | stat.S_ISGID) and entry.isreg():
                yield f"{path}: runs with its owner's rights (setuid or setgid)"
            yield from (f"{path}: {what} does not belong here" for pattern, what in forbidden if pattern.search(path))
            is_own = entry.isreg() and OWN_FOLDERS.match(path) and "/site-packages/" not in path
            stream = files.extractfile(entry) if is_own else None
            if stream is not None:
                member = Member(path, entry.mode, entry.size, False, stream.read(READ_BYTES))
                yield from (f"{path}: {problem}" for problem in secrets_of(member))


def _docker(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *words], capture_output=True, check=False)
