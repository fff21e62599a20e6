"""The commands as a person runs them: processes, pipes, signals and exit codes, on the models of this repository."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.cli import main
from app.settings import PREFIX
from tests.support.forks import run_forked
from tests.support.live_service import ROOT, serving

MODELS = ROOT / "models"
FILM = "A warm, funny film that I would happily watch again."


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", *arguments]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return kept | {"HOOPER_MODELS": str(MODELS), "PYTHONPATH": str(ROOT)}


Hooper = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hooper(environment: dict[str, str], tmp_path: Path) -> Hooper:
    """Runs a command in an empty folder."""

    def run(*arguments: str, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return run_forked(arguments, tmp_path, environment | more, given)

    return run


def test_a_pipe_of_texts_is_answered_line_by_line_and_bad_ones_are_told(hooper: Hooper) -> None:
    ran = hooper("predict", "--model", "sentiment", "--top-k", "1", given=f"{FILM}\n\nBoring from start to end.\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [(line["line"], line["labels"][0]["label"]) for line in map(json.loads, ran.stdout.splitlines())] == [
        (1, "positive"), (3, "negative"),
    ]  # fmt: skip
    ran = hooper("predict", "--model", "sentiment", given=f'{{"text": "{FILM}", "id": 7}}\n{{"text"\n{{"text": " "}}\n')
    good, broken, empty = map(json.loads, ran.stdout.splitlines())
    assert (ran.returncode, good["id"]) == (1, 7)
    assert (broken["line"], broken["error"]["type"]) == (2, "invalid_input")
    assert empty["error"]["detail"] == "text: must not be empty"
    assert ran.stderr == "hooper predict: 2 of 3 inputs could not be answered\n"


@pytest.mark.slow
def test_the_answers_are_those_of_the_service(hooper: Hooper, tmp_path: Path) -> None:
    question = {"question": "When did the library open?", "context": "The old one burned down. A new library opened in 1903."}
    (tmp_path / "asked.jsonl").write_text(json.dumps(question))
    ran = hooper("predict", "--model", "qa/2", "--top-k", "2", "asked.jsonl", HOOPER_DEVICE="cpu")
    with serving(MODELS, serve="qa") as running, running.client() as client:
        response: httpx.Response = client.post("/v1/answer", json={"inputs": question, "top_k": 2})
    (expected,) = response.json()["results"]
    assert json.loads(ran.stdout) == {"line": 1, **expected}


def test_a_summary_of_each_line(hooper: Hooper) -> None:
    text = "The council closed the hall. Its roof could fall. It rained. Traders will move by March."
    ran = hooper("predict", "--model", "summary", "--max-sentences", "1", "--text", text)
    assert ran.returncode == 0
    assert len(json.loads(ran.stdout)["sentences"]) == 1


def test_a_reader_who_has_seen_enough_ends_it_quietly(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("Good.\n" * 1_000)  # more answers than a pipe holds
    with subprocess.Popen(
        command("predict", "--model", "sentiment", "many.txt"),
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["line"] == 1
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == b""


def test_an_answer_comes_before_the_next_line_and_ctrl_c_ends_it_quietly(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        command("predict", "--model", "sentiment"), env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"{FILM}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["line"] == 1  # it would wait for ever if it waited for more
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_a_model_travels_by_archive(hooper: Hooper, tmp_path: Path) -> None:
    assert hooper("export", "sentiment", "s.tar.gz").returncode == 0
    there = str(tmp_path / "there")
    added = subprocess.run(
        [sys.executable, "-c", "from scripts.export.commands import add; raise SystemExit(add())",
         str(tmp_path / "s.tar.gz"), "--models", there],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "serve it:  hooper serve --model sentiment" in added.stdout
    assert (Path(there) / "sentiment" / "1" / "model.onnx").read_bytes() == (MODELS / "sentiment/2/model.onnx").read_bytes()
    answers = [json.loads(hooper("predict", "--text", FILM, "--models", entry, "--model", "sentiment").stdout) for entry in
               (there, str(MODELS))]  # fmt: skip
    assert answers[0] == answers[1]


def test_a_folder_elsewhere_is_served_by_its_path(tmp_path: Path) -> None:
    with serving(tmp_path / "nowhere", serve=MODELS / "sentiment" / "2") as running, running.client() as client:
        assert [entry["name"] for entry in client.get("/v1/models").json()["models"]] == ["sentiment"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["models"], 0), (["models", "list", "--json"], 0), (["models", "show", "qa"], 0), (["--version"], 0), (["--help"], 0),
        (["completion", "bash"], 0), (["predict", "--help"], 0), ([], 2), (["modles"], 2), (["models", "show", "nothing"], 2),
        (["predict", "--model", "sentiment", "--unheard-of"], 2), (["predict", "missing.txt", "--model", "sentiment"], 2),
    ],
    ids=str,
)  # fmt: skip
def test_the_exit_code_tells_how_it_went(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOPER_MODELS", str(MODELS))
    assert main(arguments) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("line", "code"), [pytest.param("doctor", 0, marks=pytest.mark.slow), ("serve --model nothing", 2)])
def test_so_does_that_of_a_command_that_sets_up_its_process(line: str, code: int, hooper: Hooper) -> None:
    assert hooper(*line.split()).returncode == code


@pytest.mark.parametrize(("line", "code"), [("--version", 0), ("modles", 2)])
def test_it_is_the_exit_code_of_the_process(line: str, code: int, environment: dict[str, str]) -> None:
    assert subprocess.run(command(*line.split()), env=environment, capture_output=True, check=False).returncode == code
