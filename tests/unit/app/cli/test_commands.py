"""`hooper`: every command answers, and what stops one is a sentence on standard error."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import cli, server
from app.cli import commands
from app.settings import Settings, settings_table


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands that other packages add; none at first."""
    found: list[Any] = []
    monkeypatch.setattr(commands, "entry_points", lambda group: found)
    return found


def plugin(name: str, load: Any) -> SimpleNamespace:
    return SimpleNamespace(name=name, load=load)


def test_settings_are_printed_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings"]) == 0
    assert capsys.readouterr().out == settings_table() + "\n"


def test_models_are_listed_with_their_figures(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--models", str(models)]) == 0
    words = capsys.readouterr().out.split()
    assert words[:2] == ["tiny/1", "text-classification"]
    assert " ".join(words[4:]) == "accuracy 1.0, macro_f1 1.0, rows 5"


def test_a_broken_version_is_listed_as_such_and_told_by_the_exit_code(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")
    (models / "tiny" / "2" / "manifest.json").write_text("{}")
    assert cli.main(["models", "--models", str(models)]) == 1
    sound, broken = capsys.readouterr().out.splitlines()
    assert sound.startswith("tiny/1  text-classification")
    assert broken.startswith("tiny/2  BAD")


def test_models_are_listed_for_programs(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--json", "--models", str(models)]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert (model["name"], model["version"], model["task"]) == ("tiny", 1, "text-classification")


def test_the_doctor_finds_a_sound_model_sound(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--models", str(models), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert any("tiny/1" in line for line in lines)


def test_the_doctor_finds_an_altered_model_bad(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "tiny" / "1" / "model.onnx").write_bytes(b"")
    assert cli.main(["doctor", "--json", "--models", str(models), "--device", "cpu"]) == 1
    found = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["tiny/1"]["ok"] is False
    assert "model.onnx" in found["tiny/1"]["detail"]


def test_serve_hands_every_option_down(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(server, "serve", lambda settings: served.append(settings) or 0)
    assert cli.main(["serve", "--port", "9000", "--max-batch-rows", "3", "--device", "cpu"]) == 0
    (settings,) = served
    assert (settings.port, settings.max_batch_rows, settings.device) == (9000, 3, "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "--models", "/nowhere"], "the model repository /nowhere does not exist"),
        (["serve", "--port", "http"], "HOOPER_PORT='http': "),
        (["serve", "--device", "gpu"], "HOOPER_DEVICE='gpu': "),
    ],
)
def test_what_stops_a_command_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"hooper: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "models", "doctor", "settings"])
def test_an_unknown_variable_stops_every_command_that_reads_settings(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], models: Path
) -> None:
    monkeypatch.setenv("HOOPER_DEVISE", "cpu")
    code = cli.main([command])
    assert (code, "HOOPER_DEVISE" in capsys.readouterr().err) == ((0, False) if command == "settings" else (2, True))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fly"], "hooper: there is no command 'fly' (`hooper --help` lists them)"),
        (["modles"], "hooper: there is no command 'modles'; did you mean 'models'? (`hooper --help` lists them)"),
        (["models", "shwo"], "hooper: there is no command 'models shwo'; did you mean 'models show'?"),
        (["serve", "--prot", "1"], "hooper serve: '--prot' is not known here; did you mean '--port'? (`hooper serve --help`"),
        (["serve", "--prot=1"], "hooper serve: '--prot' is not known here; did you mean '--port'?"),
        (["models", "--port", "1"], "hooper models: '--port' is not known here"),
        (["models", "show"], "hooper models show: the following arguments are required: NAME[/VERSION]"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_a_suggestion(
    arguments: list[str], sentence: str, plugins: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(arguments)
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(sentence)


def test_no_command_at_all_shows_the_help_and_is_a_mistake(plugins: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: hooper")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_the_help_lists_every_command_and_the_exit_codes(
    arguments: list[str], plugins: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 0
    told = capsys.readouterr().out
    for entry in commands.commands():
        assert f"\n  {entry.name} " in told or entry.name == "models list"
    for code in (0, 1, 2, 130, 141):
        assert f"\n  {code} " in told


@pytest.mark.parametrize("command", [entry.name for entry in commands.ENTRIES if entry.target])
def test_the_help_of_a_command_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", *command.split()]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: hooper {command}")
    assert "examples:\n  " in told
    assert max(map(len, told.splitlines())) <= 128


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"hooper {version('hooper')}\n"


def test_ctrl_c_ends_without_a_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(settings: Settings) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", interrupt)
    assert cli.main(["serve"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "served"),
    [
        (["--model", "a"], ("a",)),
        (["--model", "a", "--model", "./b/3"], ("a", "./b/3")),
        (["--serve", "c", "--model", "a"], ("c", "a")),
        ([], ()),
    ],
)
def test_serve_takes_models_by_name_and_path(
    arguments: list[str], served: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(server, "serve", lambda settings: seen.append(settings) or 0)
    assert cli.main(["serve", *arguments]) == 0
    assert seen[0].serve == served


# --- commands of other packages


def test_a_plug_in_gets_its_arguments_and_its_exit_code_is_kept(plugins: list[Any]) -> None:
    asked: list[list[str]] = []
    plugins.append(plugin("train", lambda: lambda arguments: asked.append(arguments) or 7))
    assert cli.main(["train", "reviews.csv", "--epochs", "1"]) == 7
    assert asked == [["reviews.csv", "--epochs", "1"]]


def test_a_plug_in_whose_packages_are_missing_says_what_to_install(
    plugins: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    plugins.append(plugin("train", load))
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == "hooper train: torch is not installed; run `pip install 'hooper[train]'`\n"


def test_a_plug_in_of_two_words_joins_a_group(plugins: list[Any]) -> None:
    asked: list[list[str]] = []
    plugins.append(plugin("models add", lambda: lambda arguments: asked.append(arguments) or 0))
    assert cli.main(["models", "add", "./checkpoint", "--name", "films"]) == 0
    assert asked == [["./checkpoint", "--name", "films"]]


def test_plug_ins_are_listed_in_the_help_and_not_loaded_for_it(plugins: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    plugins.append(plugin("train", lambda: pytest.fail("loaded")))
    assert cli.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert "fine-tune on labelled text" in told
    assert "hooper train reviews.csv" in told
