"""`hooper batch --ray`, on a real cluster of two nodes: the file is that of one process, whatever dies meanwhile."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.resumable_writer import JOURNAL
from tests.support.live_service import ROOT
from tests.support.ray_cluster import children, end_as_a_power_cut_does, title_of, two_nodes
from tests.support.tiny_model import publish_tiny, publish_tiny_task

pytest.importorskip("ray", reason="Ray is not installed (pip install 'hooper[ray]')")
parquet = pytest.importorskip("pyarrow.parquet")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
POLL_S = 0.1
NUM_ROWS = 60_000
"""Many enough that whatever is to die dies before the last one."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_tiny(root)
    for task in ("question-answering", "summarization"):
        publish_tiny_task(root, task, task)
    return root


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Any, Any]]:
    with two_nodes() as made:
        yield made


def command(models: Path, *arguments: object) -> list[str]:
    own = ["--models", str(models), "--device", "cpu", "--json"]
    return [sys.executable, "-m", "app.cli", "batch", *map(str, arguments), *own]


def ran(models: Path, *arguments: object) -> tuple[int, Any]:
    """The exit code, and what was told or said instead."""
    found = subprocess.run(command(models, *arguments), cwd=ROOT, check=False, capture_output=True, text=True)
    return found.returncode, json.loads(found.stdout) if found.stdout else found.stderr


def content(path: Path) -> list[Any]:
    """Rows as values; numbers within rounding, since batches differ."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return [table.schema, *map(near, table.to_pylist())]
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = data.decode().splitlines()
    return [near(line) for line in (map(json.loads, lines) if ".jsonl" in path.name else csv.reader(lines))]


def near(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: near(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [near(entry) for entry in value]
    if isinstance(value, str) and "." in value and value.replace(".", "").isdecimal():
        value = float(value)  # a cell of csv
    return round(value, 4) if isinstance(value, float) else value


def write_texts(path: Path) -> None:
    lines = [json.dumps({"id": n, "text": f"{'good' if n % 3 else 'bad'} film{' very' * (n % 20)}"}) for n in range(2000)]
    lines[5:9] = ['{"text": ', '"bad"', '{"text": " "}', '{"id": "\\ud800", "text": "good"}']
    lines[700] = json.dumps({"other": "good"})
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n\xff\n"))


def write_questions(path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "question", "context"])
        rows.writerows([n, "Was the film good?", f"The film was bad.\nA good film{'.' * (n % 9)}"] for n in range(900))
        file.write("1,2,3,4\n900,Good?,\n")


def write_documents(path: Path) -> None:
    import pyarrow

    documents = [f"good. bad. good film.{' a bad film.' * (n % 7)}" if n % 10 else None for n in range(900)]
    parquet.write_table(pyarrow.table({"document": documents, "id": [f"d{n}" for n in range(900)]}), path)


@pytest.mark.parametrize(
    ("write", "source", "target", "options"),
    [
        (write_texts, "in.jsonl.gz", "out.jsonl", ["--model", "tiny", "--top-k", "2"]),
        (write_questions, "in.csv", "out.csv.gz", ["--model", "question-answering", "--top-k", "2", "--allow-no-answer"]),
        (write_documents, "in.parquet", "out.parquet", ["--model", "summarization", "--max-sentences", "2"]),
    ],
    ids=["texts", "questions", "documents"],
)
def test_the_file_is_the_single_process_s(
    write: Any, source: str, target: str, options: list[str], nodes: tuple[Any, Any], models: Path, tmp_path: Path
) -> None:
    write(tmp_path / source)
    code, alone = ran(models, tmp_path / source, tmp_path / f"alone-{target}", *options)
    assert (code, alone["failed"] > 0) == (1, True)
    many_code, many = ran(models, tmp_path / source, tmp_path / target, *options, "--ray", nodes[0].address)
    assert (many_code, many["rows"], many["failed"]) == (1, alone["rows"], alone["failed"]), many
    assert content(tmp_path / target) == content(tmp_path / f"alone-{target}")


def test_an_input_that_is_cut_off_is_told_after_everything_before_it(
    nodes: tuple[Any, Any], models: Path, tmp_path: Path
) -> None:
    write_texts(tmp_path / "in.jsonl.gz")
    whole = (tmp_path / "in.jsonl.gz").read_bytes()
    (tmp_path / "in.jsonl.gz").write_bytes(whole[:-20])
    told = ran(models, tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl", "--model", "tiny", "--ray", nodes[0].address)
    assert told[0] == 1
    assert f"in.jsonl.gz cannot be read further: {'Compressed file ended'}" in told[1]
    assert not (tmp_path / "out.jsonl").exists()


def test_engines_that_no_node_has_room_for_are_refused(nodes: tuple[Any, Any], models: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "in.jsonl.gz")
    options = ["--model", "tiny", "--engine-threads", "3", "--ray", nodes[0].address]
    code, said = ran(models, tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl", *options)
    assert (code, "hooper: an engine takes 3 cores; the cluster's nodes have at most 1 cores, 0 GPUs" in said) == (2, True), (
        said
    )


def num_counted(target: Path) -> int:
    """Rows that the journal counts."""
    journal = target.with_name(target.name + JOURNAL)
    return json.loads(journal.read_text())["mark"]["num_rows"] if journal.exists() else 0


def wait_until_both_answer(process: subprocess.Popen[str], nodes: tuple[Any, Any], target: Path) -> None:
    cluster, other = nodes
    while not (num_counted(target) and all(has_engine(node) for node in (cluster.head_node, other))):
        assert process.poll() is None, process.communicate()
        time.sleep(POLL_S)  # other processes' state, and nothing to wait on


def has_engine(node: Any) -> bool:
    return any("MapWorker" in title_of(process) for process in children(node))


def assert_each_row_once(target: Path) -> None:
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, NUM_ROWS + 1))
    assert [row["labels"][0]["label"] for row in rows] == ["good" if n % 3 else "bad" for n in range(NUM_ROWS)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("many") / "in.txt"
    source.write_text("".join(f"{'good' if n % 3 else 'bad'} film{' very' * (n % 20)}\n" for n in range(NUM_ROWS)))
    return source


def test_a_killed_command_goes_on_where_its_journal_ends(
    nodes: tuple[Any, Any], models: Path, many: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    words = [many, target, "--model", "tiny", "--ray", nodes[0].address]
    with subprocess.Popen(command(models, *words), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_until_both_answer(process, nodes, target)
        process.kill()
    counted = num_counted(target)
    assert 0 < counted < NUM_ROWS
    code, told = ran(models, *words)
    assert (code, told["rows"], told["rows_before"]) == (0, NUM_ROWS, counted), told
    assert_each_row_once(target)


def test_a_node_that_dies_and_is_not_replaced_costs_no_row(
    nodes: tuple[Any, Any], models: Path, many: Path, tmp_path: Path
) -> None:
    cluster, other = nodes
    target = tmp_path / "out.jsonl"
    words = command(models, many, target, "--model", "tiny", "--ray", cluster.address)
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until_both_answer(process, nodes, target)
        end_as_a_power_cut_does(cluster, other)
        assert num_counted(target) < NUM_ROWS
        said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (json.loads(said)["rows"], json.loads(said)["failed"]) == (NUM_ROWS, 0)
    assert_each_row_once(target)
