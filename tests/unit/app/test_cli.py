"""`hooper`: every command answers, and what stops one is a sentence on standard error."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import cli, server
from app.settings import Settings, settings_table


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands that other packages add; none at first."""
    found: list[Any] = []
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == "hooper.commands" else [])
    return found


def plugin(name: str, load: Any) -> SimpleNamespace:
    return SimpleNamespace(name=name, load=load)


def test_settings_are_printed_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings"]) == 0
    assert capsys.readouterr().out == settings_table() + "\n"


def test_models_are_listed_with_their_figures(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--models", str(models)]) == 0
    assert capsys.readouterr().out == "tiny/1  text-classification  accuracy 1.0, macro_f1 1.0, rows 5\n"


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
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
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


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--unheard-of", "1"], ["models", "--port", "1"]], ids=str)
def test_what_is_no_command_or_option_exits_with_the_usage(
    arguments: list[str], plugins: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: hooper" in capsys.readouterr().err


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


def test_plug_ins_are_listed_in_the_help_and_not_loaded_for_it(plugins: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    plugins.append(plugin("train", lambda: pytest.fail("loaded")))
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    assert "fine-tune on labelled text" in told
    assert "hooper train reviews.csv" in told
