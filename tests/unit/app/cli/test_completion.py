"""Each script is run by its shell where there is one, and holds every command and option."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from app import cli
from app.cli import catalogue


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    made = {}
    for shell in ("bash", "zsh", "fish"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert cli.main(["completion", shell]) == 0
        made[shell] = printed.getvalue()
    return made


def complete(script: str, line: str, models: Path, tmp_path: Path) -> list[str]:
    """What bash offers for the last word of the line, which may be empty."""
    (tmp_path / "hooper.bash").write_text(script)
    ask = """
        set -eu
        source "$1"; shift
        [[ $(complete -p hooper) == *"-F _hooper hooper" ]]
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        _hooper || true
        printf '%s\\n' ${COMPREPLY[@]+"${COMPREPLY[@]}"}
    """
    words = line.split(" ")
    run = subprocess.run(
        ["bash", "-c", ask, "bash", str(tmp_path / "hooper.bash"), *words],
        env={"HOOPER_MODELS": str(models), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hooper se", ["serve", "settings"]),
        ("hooper --v", ["--version"]),
        ("hooper models s", ["show"]),
        ("hooper models --j", ["--json"]),
        ("hooper models show ", ["tiny", "tiny/1"]),
        ("hooper models remove tiny/", ["tiny/1"]),
        ("hooper models show --c", ["--card"]),
        ("hooper export t", ["tiny", "tiny/1"]),
        ("hooper predict --model ", ["tiny", "tiny/1"]),
        ("hooper predict --text x --trunc", ["--truncation"]),
        ("hooper predict --truncation ", ["error", "truncate", "window"]),
        ("hooper serve --device c", ["cpu", "cuda"]),
        ("hooper completion ", ["bash", "zsh", "fish"]),
        ("hooper predict ", []),
        ("hooper serve --models ", []),
        ("hooper fly --", []),
    ],
)
def test_bash_completes_commands_options_values_and_models(
    line: str, offered: list[str], scripts: dict[str, str], models: Path, tmp_path: Path
) -> None:
    assert complete(scripts["bash"], line, models, tmp_path) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_repository_that_is_not_there_completes_to_nothing(scripts: dict[str, str], tmp_path: Path) -> None:
    assert complete(scripts["bash"], "hooper models show ", tmp_path / "missing", tmp_path) == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hooper se", ["serve\tanswer requests from published models", "settings\tprint every setting as a markdown table"]),
        ("hooper serve --device c", ["cpu\tWhat to compute on", "cuda\tWhat to compute on"]),
        ("hooper models show --ca", ["--card\tprint the model card"]),
    ],
)
def test_fish_completes_with_descriptions(line: str, offered: list[str], scripts: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "hooper.fish").write_text(scripts["fish"])
    asked = f"source {tmp_path}/hooper.fish; complete -C '{line}'"
    assert run_in("fish", "--no-config", "-c", asked, home=tmp_path) == offered


ZSH = """
    _describe() { print -l -- "${(P@)2}" }  # what zsh shows as a list
    compadd() { print -l -- "${(P@)2}" }
    _files() { print a file }
    words=("${@[2,-1]}"); CURRENT=$#words; source $1
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hooper se", "serve:answer requests from published models"),
        ("hooper serve --", "--model:serve this model alone: `name`, `name/version` or a folder's path"),
        ("hooper models show --", "--card:print the model card"),
        ("hooper completion z", "zsh"),
        ("hooper predict reviews", "a file"),
    ],
)
def test_zsh_offers_commands_options_words_and_files(line: str, offered: str, scripts: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "_hooper").write_text(scripts["zsh"])
    assert offered in run_in("zsh", "-f", "-c", ZSH, "zsh", str(tmp_path / "_hooper"), *line.split(" "), home=tmp_path)


def run_in(*command: str, home: Path) -> list[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    run = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return run.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_the_script(shell: str, scripts: dict[str, str]) -> None:
    for command in catalogue.commands():
        for word in command.words:
            assert word in scripts[shell]
    for option in ("truncation", "max-sentences", "drain-s", "yes", "card"):
        assert f"-l {option} " in scripts[shell] if shell == "fish" else f"--{option}" in scripts[shell]


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["completion", "tcsh"])
    assert "tcsh" in capsys.readouterr().err
