"""`hooper report`: finds what a run left, or makes a report of a published model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import SetupError
from app.core.manifest import read_manifest
from app.tasks.text_classification.task import ClassificationItem
from scripts.report import command, page
from scripts.report.command import main
from scripts.training.data import Dataset, Example
from scripts.training.trained_rows import keep
from tests.support.tiny_model import publish_tiny
from tests.unit.scripts.conftest import write_reviews

DATA = "text,label\na good film,good\na bad film,bad\nvery bad,good\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leave(path: str, age: int = 0) -> Path:
    """A report of long ago."""
    page = Path(path)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<!doctype html>")
    page.with_suffix(".json").write_text(f'{{"of": "{path}"}}\n')
    os.utime(page, (1e9 - age, 1e9 - age))
    return page


@pytest.fixture
def judged(place: Path) -> Path:
    """A report that the command made of the tiny model."""
    publish_tiny(place / "models")
    Path("dev.csv").write_text(DATA)
    assert main(["tiny", "--data", "dev.csv"]) == 0
    return Path("runs/tiny/report-1-dev.html")


def test_a_report_is_made_of_a_published_model_and_labelled_texts(judged: Path) -> None:
    report = json.loads(judged.with_suffix(".json").read_text(encoding="utf-8"))
    assert (report["model"], report["headline"]["rows"], report["about"]["data"]) == ("tiny/1", 3, "dev.csv")
    assert report["worst"][0]["fields"] == {"text": "very bad"}
    assert "very bad" not in (Path("models") / "tiny" / "1" / "evaluation.json").read_text()  # no text goes to the model
    assert sorted(path.name for path in judged.parent.iterdir()) == ["report-1-dev.html", "report-1-dev.json"]


def test_the_same_is_printed_as_json(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["tiny", "--no-open"]) == 0
    assert capsys.readouterr().out == f"{judged}\n"
    assert main(["tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(judged.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ([], "runs/b/report-1.html"),
        (["a"], "runs/a/report-10.html"),
        (["a/9"], "runs/a/report-9.html"),
        (["runs/a"], "runs/a/report-10.html"),
        (["runs/a/report-9.html"], "runs/a/report-9.html"),
    ],
)
def test_a_report_is_found_by_its_model_or_its_folder(wish: list[str], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    leave("runs/a/report-9.html", age=20)
    leave("runs/a/report-10.html", age=10)
    leave("runs/b/report-1.html")
    leave("runs/b/other.html")
    assert main([*wish, "--no-open"]) == 0
    assert capsys.readouterr().out == f"{found}\n"


@pytest.mark.parametrize("wish", ["nothing", "a/3", "runs/c", ""])
def test_where_there_is_none_it_is_said_how_to_get_one(wish: str, capsys: pytest.CaptureFixture[str]) -> None:
    if wish:
        leave("runs/a/report-9.html")
    assert main([wish] if wish else []) == 2
    told = capsys.readouterr().err
    assert told.startswith("hooper report: there is no report")
    assert told.count("\n") == 1
    assert "--data FILE" in told


def test_a_browser_is_opened_only_where_there_is_a_screen_and_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    page = leave("runs/a/report-1.html")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(webbrowser, "get", lambda: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    monkeypatch.setattr(command.sys, "platform", "linux")
    main(["a"])
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    main(["a", "--no-open"])
    main(["a", "--json"])
    assert opened == []
    main(["a"])
    assert opened == [page.resolve().as_uri()]


def test_a_model_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dev.csv").write_text(DATA)
    assert main(["absent", "--data", "dev.csv"]) == 2
    assert "there is no model absent" in capsys.readouterr().err
    assert main(["--data", "dev.csv"]) == 2
    assert "say which model" in capsys.readouterr().err


def test_labels_of_another_model_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(place / "models")
    write_reviews(Path("dev.csv"))
    assert main(["tiny", "--data", "dev.csv"]) == 2
    assert "is none of the model's: bad, good" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_judging_and_comparing_published_models_need_no_torch(place: Path) -> None:
    for version in (1, 2):
        publish_tiny(place / "models", version=version)
    Path("dev.csv").write_text(DATA)
    code = "import sys\n"
    code += "from scripts.report import command, compare_command\n"
    code += "ended = [command.main(['tiny', '--data', 'dev.csv']), compare_command.main(['tiny/1', 'tiny/2', '--json'])]\n"
    code += "print(ended, 'torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(command.__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[0, 0] False"


def test_a_folder_that_cannot_be_written_is_told_and_left_as_it_was(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report: dict[str, Any] = json.loads(judged.with_suffix(".json").read_text(encoding="utf-8"))
    before = judged.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError, match="No space left on device"):
        page.write(report, judged)
    assert judged.read_bytes() == before
    assert sorted(path.name for path in judged.parent.iterdir()) == ["report-1-dev.html", "report-1-dev.json"]


def train_on(texts: list[str], held_out: list[str]) -> None:
    """As if the tiny model had been trained on some texts."""

    def examples(part: list[str]) -> list[Example]:
        return [Example(ClassificationItem(text), "good", "a.csv", "a.csv:2") for text in part]

    keep(Path("runs/tiny"), read_manifest(Path("models/tiny/1")), Dataset(examples(texts), examples(held_out), []))


def report_of(page: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(Path(page).with_suffix(".json").read_text(encoding="utf-8"))
    return report


def test_a_report_on_other_data_leaves_that_of_the_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(place / "models")
    training = leave("runs/tiny/report-1.html")
    Path("dev.csv").write_text(DATA)
    Path("Test set.csv").write_text(DATA)
    assert main(["tiny", "--data", "dev.csv"]) == 0
    assert main(["tiny", "--data", "dev.csv", "Test set.csv"]) == 0
    assert training.read_text() == "<!doctype html>"
    assert capsys.readouterr().out.splitlines() == ["runs/tiny/report-1-dev.html", "runs/tiny/report-1-dev-Test-set.html"]
    assert main(["tiny", "--no-open"]) == 0
    assert main(["tiny/1", "--no-open"]) == 0
    assert capsys.readouterr().out.splitlines() == ["runs/tiny/report-1.html"] * 2


def test_the_same_data_again_is_the_same_report_and_changed_data_another(place: Path) -> None:
    publish_tiny(place / "models")
    Path("dev.csv").write_text(DATA)
    assert main(["tiny", "--data", "dev.csv"]) == 0
    assert main(["tiny", "--data", "dev.csv"]) == 0
    assert not Path("runs/tiny/report-1-dev-2.html").exists()
    Path("dev.csv").write_text(DATA + "a film,good\n")
    assert main(["tiny", "--data", "dev.csv"]) == 0
    assert report_of("runs/tiny/report-1-dev.html")["headline"]["rows"] == 3
    assert report_of("runs/tiny/report-1-dev-2.html")["headline"]["rows"] == 4


def test_rows_that_were_trained_on_are_named_and_left_out_of_a_second_figure(place: Path) -> None:
    publish_tiny(place / "models")
    Path("dev.csv").write_text(DATA)
    train_on(["A good  film"], ["a bad film"])
    assert main(["tiny", "--data", "dev.csv"]) == 0
    report = report_of("runs/tiny/report-1-dev.html")
    trained = report["trained_on"]
    assert (trained["known"], trained["rows"], trained["held_out_rows"], trained["where"]) == (True, 1, 1, ["dev.csv:2"])
    assert (report["headline"]["accuracy"], trained["headline_without"]["accuracy"]) == (0.6667, 0.5)
    sentence = "1 of the 3 rows was trained on: metrics on all rows are too good; 1 was held out in training"
    assert sentence in report["notes"]
    page = Path("runs/tiny/report-1-dev.html").read_text(encoding="utf-8")
    assert "evaluated on 3 rows of dev.csv" in page
    assert "rows not trained on" in page


def test_where_nothing_is_known_of_the_training_that_is_said(judged: Path) -> None:
    report = report_of(str(judged))
    assert report["trained_on"]["known"] is False
    assert any("is not known: runs has no record of it" in note for note in report["notes"])


def test_a_report_on_the_weights_of_a_removed_version_is_kept_under_another_name(place: Path) -> None:
    older = leave("runs/tiny/report-1.html")
    page.keep_older(older, "new weights")
    assert not older.exists()
    assert Path("runs/tiny/report-1-older.html").exists()
    assert Path("runs/tiny/report-1-older.json").exists()
    page.keep_older(older, "new weights")  # there is none
