"""Every task by the command line, and what of it is checked when its models are published and loaded."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.batching.admission import QueueLimit
from app.cli.row_writers import AnswerTable
from app.core.artefact import open_artefact
from app.core.errors import InvalidArtefact
from app.core.manifest import read_manifest
from app.observability.metrics import Metrics
from app.serving.loader import LoadOptions, load
from app.settings import Settings
from app.tasks.spec import TaskSpec
from tests.contracts.conftest import World
from tests.support.live_service import ROOT
from tests.support.mutated_model import sign_again
from tests.support.plugins import environment
from tests.support.tiny_model import GOLDEN_TEXTS, body_of, text_for

COMMANDS = """
import contextlib, io, json, sys
from app.cli import main
for words in json.loads(sys.argv[1]):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(words)
    print(json.dumps([code, printed.getvalue()]))
"""


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a csv file for each task."""
    return tmp_path_factory.mktemp("items")


@pytest.fixture(scope="module")
def printed(world: World, items: Path) -> dict[str, str]:
    """By task, what `hooper predict` prints for its file; `hooper batch` has written its answers beside it.

    One process for all tasks, since each costs more than what it does here; it finds the example package.
    """
    commands = []
    for name, spec in world.tasks.items():
        source, target = items / f"{name}.csv", items / f"{name}-answers.csv"
        write_items(source, spec)
        commands += [["predict", "--model", name, str(source)], ["batch", "--model", name, str(source), str(target)]]
    variables = environment(world.site, models=world.models, device="cpu", engine_threads=1)
    run = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    ran = subprocess.run(run, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    ended = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [code for code, _ in ended] == [0] * len(commands), ran.stderr
    return {name: output for name, (_, output) in zip(world.tasks, ended[::2], strict=True)}


def write_items(path: Path, spec: TaskSpec) -> None:
    """A csv file whose columns have the likeliest name of each field."""
    required = [field.columns[0] for field in spec.fields.values() if field.required]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(required)
        writer.writerows([text_for(spec, text)] * len(required) for text in GOLDEN_TEXTS)


def answers_of(world: World, spec: TaskSpec) -> list[dict[str, Any]]:
    """The service's."""
    results: list[dict[str, Any]] = []
    for texts in [[text] for text in GOLDEN_TEXTS] if spec.route.is_whole else [GOLDEN_TEXTS]:
        results += world.post(f"/{spec.route.path}", body_of(spec, texts, model=spec.name))["results"]
    # what only the whole of a request decides is not told of a row
    told = {*spec.table.single, spec.table.ranked} if spec.route.is_whole else None
    return [{name: value for name, value in result.items() if told is None or name in told} for result in results]


def test_predict_and_batch_give_the_answers_of_the_service(
    world: World, spec: TaskSpec, items: Path, printed: dict[str, str]
) -> None:
    expected = answers_of(world, spec)
    lines = [json.loads(line) for line in printed[spec.name].splitlines()]
    assert [{name: value for name, value in line.items() if name != "line"} for line in lines] == expected
    with (items / f"{spec.name}-answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    options = read_manifest(world.models / spec.name / "1").task_options
    assert list(rows[0]) == list(AnswerTable(spec.table, 1, spec.table.joined(options)).types)
    for row, answer in zip(rows, expected, strict=True):
        assert row["error"] == ""
        assert row["num_tokens"] == str(answer["num_tokens"])


async def test_a_model_that_answers_otherwise_than_published_is_refused(world: World, spec: TaskSpec, tmp_path: Path) -> None:
    folder = tmp_path / spec.name / "1"
    shutil.copytree(world.models / spec.name / "1", folder)
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    answers = [request["answer"] for request in golden]
    turned = [{**request, "answer": answer} for request, answer in zip(golden, reversed(answers), strict=True)]
    (folder / "golden.json").write_text(json.dumps(turned), encoding="utf-8")
    sign_again(folder)
    options = LoadOptions.from_settings(Settings(device="cpu", engine_threads=1), QueueLimit(100, 10_000))
    with pytest.raises(InvalidArtefact, match=r"golden request \d is answered differently than when it was published"):
        await load(open_artefact(folder), options, Metrics())
