"""`hooper models show` and `remove`, `hooper export`: what is published is told, taken away and packed."""

from __future__ import annotations

import json
import re
import resource
import shutil
from pathlib import Path

import pytest

from app import cli
from app.cli import models as models_command
from app.core.artefact import write_serving
from app.serving.repository import Repository
from tests.support.mutated_model import sign_again


def test_everything_about_a_model_is_told(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "show", "tiny", "--models", str(models)]) == 0
    told = capsys.readouterr().out
    for fact in ("tiny/1", "text-classification", "bad, good", "max input length  32 tokens", "100.00% of 5 rows", "packed"):
        assert fact in told
    assert str(models / "tiny" / "1") in told


def test_which_engines_run_a_model_is_told(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign_again(models / "tiny" / "1", engines={"cpu": {"runs": True}, "openvino": {"runs": False, "reason": "no kernel"}})
    assert cli.main(["models", "show", "tiny", "--models", str(models)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"on cpu\s+runs", out)
    assert re.search(r"on openvino\s+does not run: no kernel", out)


def test_a_model_is_told_for_programs(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "show", "tiny/1", "--json", "--models", str(models)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["folder"]) == ("tiny", str(models / "tiny" / "1"))


def test_a_folder_elsewhere_is_shown_by_its_path(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = shutil.copytree(models / "tiny" / "1", tmp_path / "elsewhere")
    assert cli.main(["models", "show", str(elsewhere), "--models", "/nowhere"]) == 0
    assert str(elsewhere) in capsys.readouterr().out


def test_an_altered_model_is_not_shown_as_if_it_were_sound(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "tiny" / "1" / "model.onnx").write_bytes(b"")
    assert cli.main(["models", "show", "tiny", "--models", str(models)]) == 2
    assert "differs from the checksum" in capsys.readouterr().err


def test_what_a_manifest_says_cannot_steer_the_terminal(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign_again(models / "tiny" / "1", description="\x1b[2Jgone\x07")
    assert cli.main(["models", "show", "tiny", "--models", str(models)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_version_is_removed_and_the_others_stay(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")
    assert cli.main(["models", "remove", "tiny/2", "--yes", "--models", str(models)]) == 0
    assert [path.name for path in (models / "tiny").iterdir()] == ["1"]
    assert cli.main(["models", "remove", "tiny/1", "--yes", "--models", str(models)]) == 0
    assert not list(models.iterdir())


def served(models: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert cli.main(["models", "show", "tiny", "--models", str(models), *more]) == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("serves")]
    return line.removeprefix("serves").strip()


def test_which_version_serves_is_told_with_the_reason(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert served(models, capsys) == "version 1 (the latest)"
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    (models / "tiny" / "serving.json").write_text('{"version": 1, "why": "loaded", "at": "2026-05-04T03:02:01+00:00"}')
    assert served(models, capsys) == "version 1 (loaded 2026-05-04 03:02)"
    write_serving(tmp_path / "state" / "tiny", 2, "promoted")
    assert served(models, capsys, "--state", str(tmp_path / "state")).startswith("version 2 (promoted 2")
    cli.main(["models", "show", "tiny", "--json", "--models", str(models)])
    assert json.loads(capsys.readouterr().out)["serving"]["version"] == 1
    (models / "tiny" / "serving.json").write_text("{")
    assert served(models, capsys).startswith("no version (")


def test_a_version_is_promoted_and_back(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    write_serving(models / "tiny", 1, "kept")
    assert cli.main(["models", "promote", "tiny/2", "--models", str(models)]) == 0
    assert capsys.readouterr().out == "tiny/2 serves from the next start on in place of tiny/1\n"
    assert served(models, capsys).startswith("version 2 (promoted 2")
    assert cli.main(["models", "promote", "tiny/1", "--models", str(models), "--state", str(tmp_path / "state")]) == 0
    assert Repository(models, str(tmp_path / "state")).served_version("tiny") == 1


@pytest.mark.parametrize(
    ("version", "reason"), [("tiny", "names no version"), ("tiny/7", "there is no model tiny/7"), ("tiny/2", "differs from")]
)
def test_what_cannot_serve_is_not_promoted(models: Path, version: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2"))
    (broken / "golden.json").write_text("[]")
    assert cli.main(["models", "promote", version, "--models", str(models)]) == 2
    assert reason in capsys.readouterr().err
    assert not (models / "tiny" / "serving.json").exists()


def test_a_record_beside_the_versions_is_no_version(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_serving(models / "tiny", 1, "loaded")
    assert cli.main(["models", "--models", str(models)]) == 0
    assert capsys.readouterr().out.count("tiny/") == 1


def test_removing_the_version_that_serves_leaves_the_latest_of_the_others_to_serve(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (2, 3):
        sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / str(number))), version=number)
    write_serving(models / "tiny", 1, "loaded")
    assert cli.main(["models", "remove", "tiny/2", "--yes", "--models", str(models)]) == 0
    assert Repository(models).served_version("tiny") == 1
    capsys.readouterr()
    assert cli.main(["models", "remove", "tiny/1", "--yes", "--models", str(models)]) == 0
    assert "tiny/3 serves from the next start on" in capsys.readouterr().out
    assert Repository(models).served_version("tiny") == 3
    assert cli.main(["models", "remove", "tiny/3", "--yes", "--models", str(models)]) == 0
    assert not list(models.iterdir())


def test_the_version_that_serves_is_not_removed_where_it_cannot_be_noted_that_another_does(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    write_serving(models / "tiny", 1, "loaded")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # as a full disk
    try:
        code = cli.main(["models", "remove", "tiny/1", "--yes", "--models", str(models)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2
    assert capsys.readouterr().err.startswith("hooper: tiny/1 serves from the next start on, and where that is noted cannot")
    assert Repository(models).served_version("tiny") == 1


def test_a_broken_version_can_be_removed(models: Path) -> None:
    (models / "tiny" / "1" / "manifest.json").write_text("{}")
    assert cli.main(["models", "remove", "tiny/1", "--yes", "--models", str(models)]) == 0
    assert not list(models.iterdir())


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("tiny", "'tiny' names no version"),
        ("tiny/", "'tiny/' names no version"),
        ("tiny/2", "there is no model tiny/2"),
        ("tiny/01", "names no version"),
        ("../models/tiny/1", "names no version"),
        ("./1", "there is no model ./1"),
    ],
)
def test_only_a_version_by_its_name_is_removed(
    wish: str, message: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models", "remove", wish, "--yes", "--models", str(models)]) == 2
    assert message in capsys.readouterr().err
    assert (models / "tiny" / "1" / "manifest.json").is_file()


@pytest.mark.parametrize(("typed", "is_removed"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_a_person_is_asked_before_a_version_is_removed(
    typed: str, is_removed: bool, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

        @staticmethod
        def readline() -> str:
            return typed

    monkeypatch.setattr(models_command.sys, "stdin", Terminal)
    assert cli.main(["models", "remove", "tiny/1", "--models", str(models)]) == (0 if is_removed else 1)
    assert (models / "tiny").exists() is not is_removed
    assert "remove " in capsys.readouterr().err


def test_where_nobody_can_be_asked_nothing_is_removed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "remove", "tiny/1", "--models", str(models)]) == 2
    assert "--yes" in capsys.readouterr().err
    assert (models / "tiny" / "1").is_dir()


# --- export


def test_a_version_is_packed_into_the_same_bytes_each_time(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.tar.gz", "b.tgz"):
        assert cli.main(["export", "tiny", str(tmp_path / name), "--models", str(models)]) == 0
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tgz").read_bytes()
    assert "tiny/1 -> " in capsys.readouterr().out


@pytest.mark.parametrize(("name", "message"), [("a.zip", "must end in .tar.gz"), ("there.tar.gz", "exists; say --force")])
def test_an_archive_of_another_kind_or_one_that_is_there_is_refused(
    name: str, message: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.tar.gz").write_text("mine")
    assert cli.main(["export", "tiny", str(tmp_path / name), "--models", str(models)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "there.tar.gz").read_text() == "mine"


def test_an_altered_version_is_not_exported(models: Path, tmp_path: Path) -> None:
    (models / "tiny" / "1" / "golden.json").write_text("[]")
    assert cli.main(["export", "tiny", str(tmp_path / "a.tar.gz"), "--models", str(models)]) == 2
    assert not (tmp_path / "a.tar.gz").exists()
