"""Completion: every shell offers what may follow, and the scripts run in their shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app import cli
from app.cli.commands import COMPLETE
from app.cli.options import model_names
from tests.support.live_service import ROOT

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """What is offered to bash for the last word of a line, which may be empty."""

    def run(line: str) -> list[str]:
        monkeypatch.setenv("HOOPER_MODELS", str(models))
        monkeypatch.setenv(COMPLETE, "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit, match="0"):
            cli.main([])
        return capsys.readouterr().out.split()

    return run


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hooper se", ["serve", "settings"]),
        ("hooper models s", ["show"]),
        ("hooper models --j", ["--json"]),
        ("hooper models show ", ["tiny", "tiny/1"]),
        ("hooper models remove tiny/", ["tiny/1"]),
        ("hooper models show --c", ["--card", "--config"]),
        ("hooper export t", ["tiny", "tiny/1"]),
        ("hooper predict --model ", ["tiny", "tiny/1"]),
        ("hooper predict --text x --trunc", ["--truncation"]),
        ("hooper predict --truncation ", ["error", "truncate", "window"]),
        ("hooper serve --device c", ["cpu", "cuda"]),
        ("hooper completion ", ["bash", "zsh", "fish"]),
        ("hooper predict ", []),
        ("hooper serve --models ", []),
        ("hooper fly --", ["--help"]),
    ],
)
def test_commands_options_values_and_models_are_completed(line: str, offered: list[str], complete: Complete) -> None:
    assert complete(line) == offered


def test_a_repository_that_is_not_there_completes_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOPER_MODELS", str(tmp_path / "missing"))
    assert model_names() == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `hooper` in its `bin`, and the script of each shell."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "hooper"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m app.cli "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run_in(shell: str, home: Path, *command: str) -> str:
    environment = {"PATH": f"{home / 'bin'}:/usr/bin:/bin", "HOME": str(home), "LANG": os.environ.get("LANG", "C.UTF-8")}
    run = subprocess.run([shell, *command], env=environment, cwd=home, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return run.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_by_the_script(home: Path) -> None:
    asked = """
        source <(hooper completion bash)
        declaration=($(complete -p hooper))
        COMP_WORDS=(hooper models sh); COMP_CWORD=2
        function_name=$(complete -p hooper | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function_name" hooper
        echo "${declaration[*]}" "${COMPREPLY[@]}"
    """
    printed = run_in("bash", home, "-c", asked).split()
    assert printed[-1] == "show"
    assert "default" in printed  # the names of files, where nothing is offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes_by_the_script_with_descriptions(home: Path) -> None:
    asked = "hooper completion fish | source; complete -C 'hooper models sh'"
    assert run_in("fish", home, "--no-config", "-c", asked).split("\t")[0] == "show"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_has_a_completion_of_its_own(home: Path) -> None:
    asked = "autoload -U compinit; compinit -u -D; hooper completion zsh > script; source ./script; print ${_comps[hooper]}"
    assert "hooper" in run_in("zsh", home, "-f", "-c", asked)


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
