"""The documents' commands run, and print what the documents show."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from app.cli import main
from tests.support.doc_commands import DocCommand, difference, doc_commands, hooper_lines
from tests.support.live_service import ROOT, LiveService, serving

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "127.0.0.1:8000"


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """What a reader has before them: a checkout to write into, whose `hooper` and `python` are this one's."""
    for name in ("models", "docs/tutorial"):
        shutil.copytree(ROOT / name, tmp_path / name)
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, words in (("hooper", [sys.executable, "-m", "app.cli"]), ("python", [sys.executable])):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.join(words)} "$@"\n')
        script.chmod(0o755)
    return tmp_path


def _id(document: Path) -> str:
    return str(document.relative_to(ROOT))


ELSEWHERE = ROOT / "docs" / "how-to" / "write-a-task.md"
"""Run by tests/contracts/test_plugins.py, where the package is installed that it is about."""
# the README in every run, the other pages every night
RUN = [
    pytest.param(entry, marks=[] if entry.name == "README.md" else [pytest.mark.slow])
    for entry in DOCUMENTS
    if doc_commands(entry) and entry != ELSEWHERE
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", RUN, ids=_id)
def test_what_is_shown_is_what_is_printed(document: Path, workplace: Path) -> None:
    failures = list(_failures(doc_commands(document), workplace))
    assert not failures, "\n\n".join(failures)


def _failures(commands: list[DocCommand], workplace: Path) -> Iterator[str]:
    """Run a document's commands in one folder; those that serve start a service that the later ones ask, in place of the one
    before, which is stopped as by Ctrl-C."""
    environment = {
        **os.environ,
        "PATH": f"{workplace / '.venv' / 'bin'}:{os.environ['PATH']}",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    address = ADDRESS
    service: LiveService | None = None
    with ExitStack() as stack:
        for entry in commands:
            if re.match(r"(hooper|make) serve\b", entry.command):
                if service is not None:
                    service.process.send_signal(signal.SIGINT)
                    if service.wait() != 0:
                        yield f"$ {entry.command}\nthe service before it did not end well:\n{service.lines[-1]}"
                service = stack.enter_context(_served(entry.command, workplace))
                address = service.url.removeprefix("http://")
                continue
            command = entry.command.replace(ADDRESS, address)
            ran = subprocess.run(
                ["bash", "-c", command], cwd=workplace, env=environment, capture_output=True, text=True, check=False
            )
            mismatch = difference(ran.stdout + ran.stderr, entry.output)
            if mismatch:
                yield f"$ {entry.command}\n{mismatch}\n{ran.stderr[-2000:]}"


def _served(command: str, workplace: Path) -> AbstractContextManager[LiveService]:
    """A service of the folder's models, started in it, with the options that stand behind the command."""
    return serving(workplace / "models", options=shlex.split(command)[2:], cwd=workplace)


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_every_option_that_a_document_names_is_one_of_its_command(document: Path) -> None:
    for line in hooper_lines(document):
        words = shlex.split(line, comments=True)[1:]
        commands = [word for word in words[:2] if re.fullmatch(r"[a-z][a-z0-9]*", word)]
        known = _help(tuple(commands)) or _help(tuple(commands[:1]))
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", known), f"{line}: there is no option {option}"


@cache
def _help(commands: tuple[str, ...]) -> str:
    """What a command says of itself; nothing where there is no such command."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        try:
            code = main([*commands, "--help"])
        except SystemExit as end:
            code = end.code
    return "" if code else said.getvalue()
