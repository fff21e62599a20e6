"""`hooper batch`: every row once, in order, whatever stops it; and nothing of a person's is overwritten unasked."""

from __future__ import annotations

import csv
import gzip
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.cli import batch as command
from app.cli import resumable_writer
from app.cli.resumable_writer import JOURNAL, PARTIAL
from app.data import arrow as our_parquet
from tests.support.live_service import ROOT

QUESTION = {"question": "Was the film good?", "context": "The film was bad. A good film."}
TEXTS = [f"{'good' if n % 3 else 'bad'} film{' very good' * (n % 7)}" for n in range(40)]
NUM_KILLED = 20
"""Rows where every step is tried: they are written in three pieces."""


Batch = Callable[..., tuple[int, str, str]]


@pytest.fixture
def batch(published_tasks: Path, capsys: pytest.CaptureFixture[str]) -> Batch:
    """Runs the command on a tiny model; gives the exit code and what was said on either stream."""

    def run(source: Path, target: Path, *arguments: str, model: str = "text-classification") -> tuple[int, str, str]:
        settings = ["--models", str(published_tasks), "--device", "cpu", "--engine-threads", "1"]
        code = cli.main(["batch", "--model", model, str(source), str(target), *settings, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(TEXTS)))
    return path


def beside(path: Path) -> list[str]:
    """What a run has left beside its output."""
    return sorted(entry.name for entry in path.parent.iterdir() if entry.name.startswith(f"{path.name}."))


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("model", "rows", "options"),
    [
        ("text-classification", [{"text": entry} for entry in TEXTS], ["--top-k", "1"]),
        ("text-classification", [{"text": "bad " * 60}, {"text": "a", "text_pair": "bad"}], ["--truncation", "window"]),
        ("question-answering", [QUESTION, {**QUESTION, "question": 7}] * 9, ["--top-k", "2", "--allow-no-answer"]),
        ("summarization", [{"text": "good. bad. good film. a bad film."}, {"text": " "}] * 9, ["--max-sentences", "2"]),
    ],
)
def test_the_answers_are_those_of_predict(
    model: str, rows: list[Any], options: list[str], batch: Batch, published_tasks: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    code, _, _ = batch(source, tmp_path / "out.jsonl", *options, model=model)
    settings = ["--models", str(published_tasks), "--device", "cpu", "--engine-threads", "1"]
    expected_code = cli.main(["predict", "--model", model, str(source), *settings, *options])
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == expected_code
    assert read(tmp_path / "out.jsonl") == [near(entry) for entry in expected]


def near(value: Any) -> Any:
    """The same value, its numbers within rounding: batches differ."""
    if isinstance(value, dict):
        return {key: near(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [near(entry) for entry in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def test_more_rows_than_are_under_way_at_once_keep_their_order(batch: Batch, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("".join(f"{'good' if n % 3 else 'bad'} film{' very' * (n % 20)}\n" for n in range(5000)))
    code, said, _ = batch(source, tmp_path / "out.jsonl", "--top-k", "1")
    answers = read(tmp_path / "out.jsonl")
    assert (code, [entry["line"] for entry in answers]) == (0, list(range(1, 5001)))
    assert [entry["labels"][0]["label"] for entry in answers] == ["good" if n % 3 else "bad" for n in range(5000)]
    assert "5,000 rows; 5,000 in" in said


def test_a_bad_row_is_answered_with_an_error_in_its_place_and_counted(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('id,text\n1,good\n2,a,b\n3," "\n4,bad\n')
    code, said, _ = batch(tmp_path / "in.csv", tmp_path / "out.jsonl", "--top-k", "1")
    good, wide, empty, bad = read(tmp_path / "out.jsonl")
    assert (good["id"], bad["id"], bad["labels"][0]["label"]) == ("1", "4", "bad")
    assert "3 columns" in wide["error"]["detail"]
    assert empty["error"]["detail"] == "text: must not be empty"
    assert (code, "4 rows, 2 of them with an error" in said) == (1, True)


def test_a_file_of_nothing_gives_a_file_of_nothing(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\n")
    assert batch(tmp_path / "in.csv", tmp_path / "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_text() == "line,id,label,score,num_tokens,truncated,error\n"
    assert batch(tmp_path / "in.csv", tmp_path / "out.parquet")[0] == 0
    assert batch(tmp_path / "in.csv", tmp_path / "out.jsonl")[0] == 0
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_table_has_the_best_of_each_answer(batch: Batch, texts: Path, tmp_path: Path) -> None:
    assert batch(texts, tmp_path / "out.tsv", "--top-k", "2")[0] == 0
    with (tmp_path / "out.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["id"] for row in rows] == [str(number) for number in range(len(TEXTS))]
    assert [(row["label"], row["label_2"]) for row in rows[:2]] == [("bad", "good"), ("good", "bad")]
    assert float(rows[0]["score"]) + float(rows[0]["score_2"]) == pytest.approx(1, abs=1e-5)
    assert {row["truncated"] for row in rows} == {"false"}


def test_gzip_is_read_and_written(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"text\ngood\nbad\n"))
    assert batch(tmp_path / "in.csv.gz", tmp_path / "out.csv.gz")[0] == 0
    lines = gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode().splitlines()
    assert [line.split(",")[2] for line in lines] == ["label", "good", "bad"]


def test_what_was_done_is_told_as_json_where_it_is_asked_for(batch: Batch, texts: Path, tmp_path: Path) -> None:
    told = json.loads(batch(texts, tmp_path / "out.jsonl", "--json")[1])
    assert (told["rows"], told["failed"], told["rows_before"]) == (len(TEXTS), 0, 0)
    assert told["rows_per_s"] == pytest.approx(len(TEXTS) / told["seconds"], rel=0.1)


def test_nothing_but_the_output_is_left_and_no_bar_is_shown_to_a_program(batch: Batch, texts: Path, tmp_path: Path) -> None:
    code, _, errors = batch(texts, tmp_path / "out.jsonl")
    assert (code, errors, beside(tmp_path / "out.jsonl")) == (0, "", [])


# --- parquet


def test_parquet_is_read_and_written(batch: Batch, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"number": [1, 2, 3], "review": ["good", None, "bad"], "id": ["x", "\u00e9", "z"]})
    parquet.write_table(table, tmp_path / "in.parquet")
    assert batch(tmp_path / "in.parquet", tmp_path / "out.parquet")[0] == 1
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["line"], row["id"], row["label"]) for row in rows] == [(1, "x", "good"), (2, "\u00e9", None), (3, "z", "bad")]
    assert [row["error"] is None for row in rows] == [True, False, True]


@pytest.mark.parametrize("step", ["write", "replace", "unlink"])
def test_parquet_that_was_stopped_while_it_was_put_together_is_put_together_again(
    step: str, batch: Batch, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target, real = tmp_path / "out.parquet", getattr(our_parquet if step == "write" else Path, step)

    def stop(path: Path, *rest: Any, **more: Any) -> Any:
        if (
            step == "write"
            or (step == "replace" and path.suffix == ".writing")
            or (step == "unlink" and "partial" in path.name)
        ):
            raise KeyboardInterrupt
        return real(path, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(our_parquet if step == "write" else Path, step, stop)
        assert batch(texts, target)[0] == 130
    assert target.exists() is (step == "unlink")
    told = json.loads(batch(texts, target, "--json")[1])
    assert (told["rows"], told["rows_before"]) == (len(TEXTS), len(TEXTS))
    assert parquet.read_table(target).column("line").to_pylist() == list(range(1, len(TEXTS) + 1))
    assert beside(target) == []


def test_parquet_without_pyarrow_says_what_to_install(
    batch: Batch, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    for source, target in ((texts, tmp_path / "out.parquet"), (tmp_path / "in.parquet", tmp_path / "out.jsonl")):
        code, _, said = batch(source, target)
        assert (code, said.count("\n")) == (2, 1)
        assert "run `pip install 'hooper[batch]'`" in said
    assert batch(texts, tmp_path / "out.jsonl", "--restart")[0] == 0


def test_a_cluster_without_ray_says_what_to_install(
    batch: Batch, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, said = batch(texts, tmp_path / "out.jsonl", "--ray")
    assert (code, said) == (2, "hooper: --ray needs ray, which is not installed; run `pip install 'hooper[ray]'`\n")


def test_what_is_no_parquet_file_is_told_in_one_sentence(batch: Batch, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "in.parquet").write_bytes(b"text\ngood\n")
    code, _, said = batch(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    assert (code, "in.parquet is no parquet file" in said) == (2, True)


# --- stopped and gone on with


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_step_no_row_is_lost_and_none_is_there_twice(texts: Path, published_tasks: Path, tmp_path: Path) -> None:
    texts.write_text("".join(texts.read_text().splitlines(keepends=True)[:NUM_KILLED]))
    target = tmp_path / "out.csv"
    words = [sys.executable, "-m", "tests.support.kill_points", str(target)]
    words += ["batch", "--model", "text-classification", "--models", str(published_tasks), "--device", "cpu"]
    words += ["--engine-threads", "1", str(texts), str(target)]
    ran = subprocess.run(
        words,
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    attempts = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(attempts) > 25
    assert [entry["killed"] for entry in attempts] == [True] * (len(attempts) - 1) + [False]
    assert any(entry["killed"] and entry["there"] for entry in attempts)  # right after it got its name
    for entry in attempts:
        numbers = [line.split(",")[0] for line in entry["content"].splitlines()]
        assert numbers == ["line", *(str(number) for number in range(1, NUM_KILLED + 1))]


@pytest.fixture
def stopped(batch: Batch, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output of a run that was stopped after eight rows, of which its journal knows."""
    monkeypatch.setattr(command, "CHUNK", 8)
    monkeypatch.setattr(resumable_writer, "EVERY_S", 0.0)
    write = resumable_writer.ResumableWriter.write

    def stop(self: resumable_writer.ResumableWriter, *arguments: Any) -> None:
        if self.mark.num_rows:
            raise KeyboardInterrupt
        write(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(resumable_writer.ResumableWriter, "write", stop)
        assert batch(texts, tmp_path / "out.jsonl")[0] == 130
    return tmp_path / "out.jsonl"


def test_a_stopped_run_is_gone_on_with_and_not_repeated(stopped: Path, batch: Batch, texts: Path) -> None:
    assert beside(stopped) == [stopped.name + JOURNAL, stopped.name + PARTIAL]
    assert not stopped.exists()
    first = stopped.with_name(stopped.name + PARTIAL).read_bytes()
    told = json.loads(batch(texts, stopped, "--json")[1])
    assert 0 < told["rows_before"] <= 8
    assert told["rows"] == len(TEXTS)
    assert stopped.read_bytes().startswith(first)
    assert [entry["line"] for entry in read(stopped)] == list(range(1, len(TEXTS) + 1))


def test_half_a_row_beyond_the_journal_is_cut_off(stopped: Path, batch: Batch, texts: Path) -> None:
    with stopped.with_name(stopped.name + PARTIAL).open("ab") as file:
        file.write(b'{"line": 9, "labels": [{"lab')
    assert batch(texts, stopped)[0] == 0
    assert [entry["line"] for entry in read(stopped)] == list(range(1, len(TEXTS) + 1))


@pytest.mark.parametrize(
    ("change", "arguments", "differs"),
    [
        (lambda texts: texts.write_text('"good"\n'), [], "another input's size or time"),
        (lambda texts: None, ["--top-k", "1"], "another set of options"),
        (lambda texts: None, ["--text-column", "text"], "another way to read the input"),
    ],
)
def test_only_the_same_work_is_gone_on_with(
    change: Callable[[Path], Any], arguments: list[str], differs: str, stopped: Path, batch: Batch, texts: Path
) -> None:
    change(texts)
    code, _, said = batch(texts, stopped, *arguments)
    assert (code, differs in said, "--restart" in said, stopped.exists()) == (2, True, True, False)
    assert batch(texts, stopped, *arguments, "--restart")[0] == 0
    assert [entry["line"] for entry in read(stopped)] == list(range(1, len(texts.read_text().splitlines()) + 1))


def test_a_partial_file_shorter_than_its_journal_is_refused(stopped: Path, batch: Batch, texts: Path) -> None:
    partial = stopped.with_name(stopped.name + PARTIAL)
    partial.write_bytes(partial.read_bytes()[:-1])
    code, _, said = batch(texts, stopped)
    assert (code, "its journal counts" in said, stopped.exists()) == (2, True, False)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"job": {}, "mark": {"rows": 1}}'])
def test_a_journal_that_says_nothing_is_refused(content: str, stopped: Path, batch: Batch, texts: Path) -> None:
    stopped.with_name(stopped.name + JOURNAL).write_text(content)
    code, _, said = batch(texts, stopped)
    assert (code, "journal cannot be read" in said) == (2, True)


def test_two_runs_do_not_write_one_output(stopped: Path, batch: Batch, texts: Path) -> None:
    with resumable_writer._locked(stopped.with_name(stopped.name + PARTIAL), stopped):
        code, _, said = batch(texts, stopped)
    assert (code, f"another run is writing {stopped}" in said) == (2, True)
    assert batch(texts, stopped)[0] == 0


# --- what is not done


def test_an_output_that_exists_is_kept_until_the_new_one_is_whole(batch: Batch, texts: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("mine")
    code, _, said = batch(texts, target)
    assert (code, said, target.read_text()) == (2, f"hooper: {target} exists; say --overwrite to replace it\n", "mine")
    assert beside(target) == []
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(texts.read_bytes())[:-9])
    assert batch(tmp_path / "bad.jsonl.gz", target, "--overwrite")[0] == 1
    assert target.read_text() == "mine"
    assert batch(texts, target, "--overwrite", "--restart")[0] == 0
    assert len(read(target)) == len(TEXTS)


def test_an_input_that_is_cut_off_gives_no_output_but_what_it_held_is_kept(batch: Batch, texts: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(texts.read_bytes())[:-9])
    code, _, said = batch(tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl")
    assert (code, "cannot be read further" in said, said.count("\n")) == (1, True, 1)
    assert beside(tmp_path / "out.jsonl") == ["out.jsonl.journal", "out.jsonl.partial"]


@pytest.mark.parametrize("name", ["texts.jsonl", "link.jsonl", "./texts.jsonl"])
def test_the_input_is_never_the_output(name: str, batch: Batch, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(texts.parent)
    (texts.parent / "link.jsonl").symlink_to(texts)
    before = texts.read_bytes()
    code, _, said = batch(texts, Path(name), "--overwrite")
    assert (code, "would replace the input" in said, texts.read_bytes() == before) == (2, True, True)


def test_the_input_is_never_the_partial_file(batch: Batch, texts: Path, tmp_path: Path) -> None:
    source = texts.rename(tmp_path / "out.jsonl.partial")
    before = source.read_bytes()
    code, _, said = batch(source, tmp_path / "out.jsonl", "--restart", "--format", "jsonl")
    assert (code, "would replace the input" in said, source.read_bytes() == before) == (2, True, True)


def test_a_file_of_somebody_elses_in_the_partial_files_place_is_kept(batch: Batch, texts: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.partial").write_text("mine")
    code, _, said = batch(texts, tmp_path / "out.jsonl")
    assert (code, "is in the way" in said, (tmp_path / "out.jsonl.partial").read_text()) == (2, True, "mine")


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_once_there_is_room(batch: Batch, texts: Path, tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, usual[1]))  # a file can then no more grow than on a full disk
    try:
        code, _, said = batch(texts, tmp_path / "out.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert (code, said.count("\n"), "cannot be written: File too large" in said) == (2, 1, True)
    assert "resumes it" in said
    assert batch(texts, tmp_path / "out.jsonl")[0] == 0
    assert [entry["line"] for entry in read(tmp_path / "out.jsonl")] == list(range(1, len(TEXTS) + 1))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("-", "out.jsonl", "INPUT must be a file"),
        ("missing.csv", "out.jsonl", "missing.csv cannot be read: No such file"),
        ("texts.jsonl", "out.ods", "out.ods: a name must say what to write, with one of .jsonl, "),
        ("texts.jsonl", "missing/out.csv", "missing/out.csv cannot be written: No such file"),
        ("texts.jsonl", "folder.csv", "folder.csv is no file"),
        ("texts.jsonl", "/proc/out.csv", "/proc/out.csv cannot be written: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    source: str, target: str, message: str, batch: Batch, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(texts.parent)
    Path("folder.csv").mkdir()
    code, _, said = batch(Path(source), Path(target))
    assert (code, said.startswith(f"hooper: {message}"), said.count("\n")) == (2, True, 1), said
