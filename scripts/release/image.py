"""The container image, where an engine is there that has it: who runs in it, and what it carries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast

from scripts.release.finding import Finding, judged
from scripts.release.scan import READ_BYTES, Member, secrets_of

TOOLS = re.compile(r"(^|/)(bin|sbin)/(gcc|g\+\+|cc|clang|make|git|curl|wget|nc|ncat|ssh|docker)$")
TRAINING = re.compile(r"/site-packages/(torch|transformers|optimum|datasets|tensorflow)/__init__\.py$")
HISTORY = re.compile(r"(^|/)\.git/HEAD$")
SECRET_VARIABLE = re.compile(r"(PASSWORD|PASSWD|TOKEN|SECRET|PRIVATE_KEY|API_KEY)", re.IGNORECASE)
SETUID = 0o6000
OWN_FOLDERS = re.compile(r"^(opt|work|models|home|root|tmp|app|srv)/")
"""Where secrets are looked for: the base's own folders carry test keys of libraries."""


def check_image(image: str) -> Finding:
    """Look through an image; skipped, with the reason, where that cannot be done here."""
    if shutil.which("docker") is None:
        return Finding("image", None, "not looked at: docker is not installed here")
    if _docker("version").returncode:
        return Finding("image", None, "not looked at: no container engine answers here")
    told = _docker("image", "inspect", image)
    if told.returncode:
        return Finding(
            "image", None, f"not looked at: the engine has no image {image}; build it first, or name one with --image"
        )
    problems = configured(json.loads(told.stdout)[0]["Config"])
    container = _docker("create", image).stdout.decode().strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            problems += list(carried(cast("IO[bytes]", export.stdout)))
        if export.returncode:
            problems.append(f"its files could not be read: docker export ended with {export.returncode}")
    finally:
        _docker("rm", container)
    return judged("image", problems, f"{image}: not root, no setuid, no compiler, no torch, no secrets")


def configured(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with who runs in the image, and with its variables."""
    user = str(config.get("User") or "root").partition(":")[0]
    problems = [f"it runs as {user}; a number above 0 is needed"] if not user.isdecimal() or int(user) == 0 else []
    names = [one.partition("=")[0] for one in config.get("Env") or [] if one.partition("=")[2]]
    return problems + [f"the variable {name} has a value" for name in names if SECRET_VARIABLE.search(name)]


def carried(files: IO[bytes]) -> Iterator[str]:
    """What is wrong with the files of an image, given as the tar of its root file system."""
    with tarfile.open(fileobj=files, mode="r|") as unpacked:
        for entry in unpacked:
            path = entry.name.removeprefix("./")
            if entry.mode & SETUID and entry.isreg():
                yield f"{path}: runs with its owner's rights (setuid or setgid)"
            for pattern, what in ((TOOLS, "a tool for whoever breaks in"), (TRAINING, "training"), (HISTORY, "history")):
                if pattern.search(path):
                    yield f"{path}: {what} does not belong here"
            content = unpacked.extractfile(entry) if entry.isreg() and OWN_FOLDERS.match(path) else None
            if content is not None and "/site-packages/" not in path:
                member = Member(path, entry.mode, entry.size, False, content.read(READ_BYTES))
                yield from (f"{path}: {problem}" for problem in secrets_of(member))


def _docker(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *words], capture_output=True, check=False)
