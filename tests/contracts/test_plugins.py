"""A package beside Hooper, as a person meets it: the commands, front ends, and the end of a start."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.conftest import World
from tests.support.doc_commands import difference, doc_commands
from tests.support.live_service import ROOT, free_port, serving, started
from tests.support.plugins import EXAMPLE, POLARITY, environment, install
from tests.support.tiny_model import publish_tiny, publish_tiny_spec

PAGE = ROOT / "docs" / "how-to" / "write-a-task.md"
BROKEN = "toy-tasks: its task 'toy' cannot be imported (RuntimeError: broken); HOOPER_TASKS can leave it out"


COMMANDS = """
import contextlib, io, json, os, sys
from app.cli import main
for tasks, words in json.loads(sys.argv[1]):
    os.environ["HOOPER_TASKS"] = tasks
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
PREDICT = ("predict", "--text", "good")
TO_RUN = [
    ("*", ("serve",)), ("*", ("serve", "--front-ends", "2")), ("*", PREDICT), ("*", ("explain", "--text", "good")),
    ("*", ("openapi",)), ("*", ("doctor",)), ("", ("doctor",)), ("", PREDICT), ("nobody", PREDICT),
]  # fmt: skip
Ended = dict[tuple[str, tuple[str, ...]], tuple[int, str, str]]


def publish_beside_broken(root: Path) -> Path:
    """A place with a package whose task cannot be imported, and `models` beside it."""
    publish_tiny(root / "models")
    return install(root / "site", "toy-tasks", {"toy": "toy_tasks:SPEC"}, {"toy_tasks": "raise RuntimeError('broken')"})


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """By HOOPER_TASKS and words, how each command ended where a package's task cannot be imported: its exit code, what it
    printed, and what it said on standard error. One process runs them all."""
    root = tmp_path_factory.mktemp("broken")
    site = publish_beside_broken(root)
    variables = environment(site, models=root / "models", device="cpu", engine_threads=1, port=free_port())
    run = [sys.executable, "-c", COMMANDS, json.dumps(TO_RUN)]
    ran = subprocess.run(run, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return {key: tuple(json.loads(line)) for key, line in zip(TO_RUN, ran.stdout.splitlines(), strict=True)}  # type: ignore[misc]


@pytest.mark.parametrize("words", [words for tasks, words in TO_RUN if tasks == "*" and words != ("doctor",)], ids=" ".join)
def test_a_task_that_cannot_be_taken_ends_a_command_in_one_sentence(ended: Ended, words: tuple[str, ...]) -> None:
    assert ended["*", words] == (2, "", f"hooper: {BROKEN}\n")


def test_it_is_the_exit_code_of_the_process_too(tmp_path: Path) -> None:
    with started(tmp_path / "models", site=publish_beside_broken(tmp_path)) as running:
        assert running.wait() == 2
    assert running.lines == [f"hooper: {BROKEN}"]


def test_the_doctor_names_it_and_goes_on_once_it_is_left_out(ended: Ended) -> None:
    code, printed, _ = ended["*", ("doctor",)]
    assert code == 1
    assert [line.split(maxsplit=2)[2] for line in printed.splitlines() if line.startswith("BAD")] == [BROKEN]
    assert "tiny/1" in ended["", ("doctor",)][1]


def test_without_it_the_commands_work(ended: Ended) -> None:
    code, printed, said = ended["", PREDICT]
    assert (code, said) == (0, "")
    assert "good" in printed
    unknown = "hooper: HOOPER_TASKS: no installed package brings tasks under the name 'nobody'\n"
    assert ended["nobody", PREDICT] == (2, "", unknown)


@pytest.mark.slow
def test_its_task_answers_through_front_ends_and_other_protocols_say_that_they_have_no_model(
    world: World, tmp_path: Path
) -> None:
    publish_tiny_spec(tmp_path, world.tasks[POLARITY])
    with started(tmp_path, site=world.site, front_ends=2) as running, running.client() as client:
        running.wait_for("2 front ends are ready")
        while client.get("/health/ready").status_code != 200:
            pass
        answer = client.post("/v1/measure", json={"inputs": ["good", "bad"]})
        assert answer.status_code == 200, answer.text
        good, bad = answer.json()["results"]
        assert good["polarity"] > 0 > bad["polarity"]
        refused = client.post("/predict", json={"inputs": "good"})
        assert (refused.status_code, set(refused.json())) == (424, {"error", "error_type"})  # its word for what is not there
        assert client.get("/info").status_code == 424
        assert "text-classification" in client.post("/v1/classify", json={"inputs": "good"}).json()["detail"]


def test_a_model_of_a_task_that_is_left_out_is_listed_as_failed(world: World) -> None:
    with serving(world.models, site=world.site, tasks="") as running, running.client() as client:
        (failed,) = client.get("/health/ready").json()["failed"]
        assert failed["model"] == f"{POLARITY}/1"
        assert f"is for {POLARITY}, which this version cannot serve" in failed["detail"]
        assert client.post("/v1/measure", json={"inputs": "good"}).status_code == 404
        assert POLARITY not in client.get("/static/tasks.json").json()


@pytest.mark.slow  # as those of all pages but the README
def test_the_page_on_writing_a_task_shows_what_is_printed(world: World, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "sentiment", tmp_path / "models" / "sentiment")
    python = shlex.quote(sys.executable)
    commands = doc_commands(PAGE)
    assert commands
    for entry in commands:
        command = f'hooper() {{ {python} -m app.cli "$@"; }}; python() {{ {python} "$@"; }}; {entry.command}'
        variables = environment(world.site, device="cpu")
        ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert difference(ran.stdout + ran.stderr, entry.output) is None, (entry.command, ran.stdout, ran.stderr)


def test_the_page_on_writing_a_task_shows_the_package_as_it_is() -> None:
    package = "".join(path.read_text(encoding="utf-8") for path in sorted(EXAMPLE.glob("*/*.py")))
    package += (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    excerpts = re.findall(r"^```(?:py|toml)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(excerpts) == 3
    for excerpt in excerpts:
        assert excerpt in package
    named = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    assert named == {
        path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*.*") if path.suffix in (".py", ".js", ".toml")
    } - {"hooper_polarity/__init__.py"}
