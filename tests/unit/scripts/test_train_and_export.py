"""`hooper train`, from a csv file to a published folder, and every way it says no."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from app.core.manifest import read_manifest, verify_files
from app.data import Record
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.tokenizer import Tokenizer
from scripts.tasks import training_task
from scripts.train_and_export import ROOT, main
from scripts.training import pipeline as pipeline_module
from scripts.training.data import Example, load
from scripts.training.recipe import FIELDS, Recipe
from tests.support.corrections import labelled, write_feedback
from tests.unit.scripts.conftest import (
    Train,
    fast_options,
    make_model,
    write_news,
    write_reviews,
    write_squad,
)


def as_example(record: Record, source: str) -> Example:
    return Example(ClassificationItem(record.columns["t"]), record.columns["l"], source, record.where)


def target(example: Example) -> str:
    return repr(example.target)


def classify(folder: Path, text: str) -> dict[str, float]:
    """Ask a published folder as the service does."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    task = TextClassification(Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens), **manifest.task_options)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"), num_threads=1)
    (encoded,) = task.encode([ClassificationItem(text)], ClassificationOptions())
    assert not isinstance(encoded, Exception)
    answer = task.decode(encoded, session.run_rows(encoded.rows), ClassificationOptions())
    return {label.label: label.score for label in answer.labels}


@dataclass(frozen=True)
class Made:
    """What one run of the command left and said."""

    folder: Path
    reviews: Path
    printed: str

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One whole run, for the tests that only look at its result."""
    place = tmp_path_factory.mktemp("whole")
    printed = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(printed):
        reviews = write_reviews(Path("reviews.csv"))
        assert main([reviews.name, *fast_options(base_folder), "--license", "MIT", "--description", "Films."]) == 0
    return Made(place / "models" / "reviews" / "1", place / "reviews.csv", printed.getvalue())


def test_a_csv_file_becomes_a_published_model_that_answers(made: Made) -> None:
    manifest = read_manifest(made.folder)
    assert (manifest.name, manifest.license, manifest.base_model) == ("reviews", "MIT", "tiny-bert")
    assert manifest.task_options["labels"] == ["negative", "positive"]
    assert (manifest.graph.layout, manifest.graph.storage) == ("packed", "fp32")  # nothing in it is large enough to compact
    assert manifest.parity["fp32"].passed
    assert (manifest.max_tokens, manifest.evaluation["rows"]) == (64, 12)  # the texts have at most 16, the base model reads 64
    for entry in made.json("golden.json"):
        scores = classify(made.folder, entry["item"]["text"])
        assert {each["label"]: pytest.approx(each["score"], abs=1e-5) for each in entry["answer"]["labels"]} == scores


def test_corrections_are_trained_on_and_the_card_says_how_many(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [labelled(text, "negative", model="reviews") for text in ("a dull film", "a dull evening", "a dull film")]
    write_feedback(tmp_path / "feedback.db", kept)
    assert train("--from-feedback", "feedback.db") == 0
    said = "2 corrections are trained on, in place of 0 rows of the data"
    out = capsys.readouterr().out
    assert "50 rows to train on, 12 held out" in out
    assert said in out
    card = (tmp_path / "models" / "reviews" / "1" / "README.md").read_text(encoding="utf-8")
    assert f"{said}." in card
    assert "| feedback.db | 2 | 0 |" in card
    assert "--from-feedback feedback.db" in card
    assert "dull" not in card
    evaluation = json.loads((tmp_path / "models" / "reviews" / "1" / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["data"]["corrections"] == 2


def test_each_arrow_says_what_came_of_it(made: Made) -> None:
    lines = made.printed.split("\n\n")[0].splitlines()
    arrows = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert arrows == [
        "task",
        "load",
        "trial",
        "fine-tune",
        "evaluate",
        "export",
        "optimize",
        "verify",
        "quantize",
        "verify",
        "baseline",
        "publish",
        "report",
    ]
    assert "48 rows to train on, 12 held out" in lines[1]
    assert "the untrained model becomes a graph in packed layout" in next(line for line in lines if line.startswith("trial"))


def test_what_cannot_be_served_is_refused_before_it_is_trained(
    base_folder: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conv"
    shutil.copytree(base_folder, folder)
    make_model("ConvBert").convbert.save_pretrained(folder)
    assert main([str(reviews), "--base-model", str(folder), "--epochs", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hooper train: ConvBertForSequenceClassification (convbert) cannot be served: its answer to a text")
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()


def test_a_report_lies_in_the_run_s_folder_and_not_beside_the_model(made: Made) -> None:
    run = made.folder.parents[2] / "runs" / "reviews"
    report = json.loads((run / "report-1.json").read_text(encoding="utf-8"))
    assert (report["model"], report["headline"]) == ("reviews/1", made.json("evaluation.json")["headline"])
    assert report["about"]["trained on"] == "48 rows"
    assert "text from column 'text', label from 'label'; 2 labels" in report["notes"]
    assert (run / "report-1.html").is_file()
    assert not list(made.folder.glob("report*"))
    assert "hooper report reviews/1" in made.printed


def test_the_end_says_how_good_it_is_and_how_to_ask_it(made: Made) -> None:
    end = made.printed.split("\n\n")[1]
    headline = made.json("evaluation.json")["headline"]
    assert f"models/reviews/1: accuracy {headline['accuracy']:.4f}, macro F1 {headline['macro_f1']:.4f}, rows 12" in end
    assert re.search(r"same prediction as PyTorch: fp32 1\.0000(, bf16 [01]\.\d{4})?, fp16 1\.0000; 0\.\d MB", end)
    assert "serve it:   hooper serve  # on http://127.0.0.1:8000\n" in end
    (line,) = [line for line in end.splitlines() if line.startswith("ask it:")]
    body = json.loads(shlex.split(line.partition("curl")[2])[-1])
    (request,) = body["inputs"]
    assert body["model"] == "reviews"
    assert any(row.startswith(f"{request},") for row in made.reviews.read_text(encoding="utf-8").splitlines())


def test_the_line_of_python_that_it_ends_with_runs(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [line for line in made.printed.splitlines() if line.startswith("in Python:")]
    *_, script = shlex.split(line.partition(": ")[2])
    with contextlib.chdir(made.reviews.parent):
        exec(script, {})
    assert "'label'" in capsys.readouterr().out


def test_the_figures_are_those_of_the_published_graph(made: Made) -> None:
    rows = [line.rpartition(",") for line in made.reviews.read_text(encoding="utf-8").splitlines()[1:]]
    evaluation = made.json("evaluation.json")
    assert evaluation["headline"] == read_manifest(made.folder).evaluation
    held_out = load(
        Recipe(data=["r"]), {"r": [Record("", {"t": t, "l": label}) for t, _, label in rows]}, as_example, target
    ).validation
    right = sum(
        max(scores := classify(made.folder, entry.item.text), key=scores.__getitem__) == entry.target for entry in held_out
    )
    assert evaluation["headline"]["accuracy"] == pytest.approx(right / len(held_out), abs=1e-4)


def test_what_the_held_out_rows_were_like_is_published_for_drift(made: Made) -> None:
    reference = read_manifest(made.folder).reference
    assert reference.num_items == 12
    assert 2 < reference.tokens_per_item <= 16
    assert reference.confidence is not None
    assert 0.5 <= reference.confidence <= 1
    assert set(reference.label_shares) <= {"negative", "positive"}
    assert sum(reference.label_shares.values()) == pytest.approx(1, abs=1e-3)


def test_the_command_in_the_card_repeats_the_figures(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(made.reviews, tmp_path)
    evaluation = made.json("evaluation.json")
    assert f"```sh\n{evaluation['command']}\n```" in (made.folder / "README.md").read_text(encoding="utf-8")
    program, command, *words = shlex.split(evaluation["command"])
    assert (program, command) == ("hooper", "train")
    assert main(words) == 0
    again = json.loads((tmp_path / "models" / "reviews" / "1" / "evaluation.json").read_text(encoding="utf-8"))
    for timed in (evaluation, again):
        for measured in ("seconds", "tokens_per_s", "peak_memory_bytes"):
            timed["training"].pop(measured)
    assert again == evaluation


def test_the_front_matter_of_a_published_card_is_valid(made: Made) -> None:
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "mit"


def test_no_text_of_the_data_is_published(made: Made) -> None:
    texts = [line.rpartition(",")[0] for line in made.reviews.read_text(encoding="utf-8").splitlines()[1:]]
    for path in made.folder.iterdir():
        content = path.read_bytes()
        assert not any(text.encode() in content for text in texts)


def test_a_recipe_file_and_options_go_together(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "films.toml").write_text('name = "films"\ndata = ["reviews.csv"]\nepochs = 4\nseed = 5\n')
    seen: list[Any] = []
    original = pipeline_module.Pipeline.load

    def load(line: Any, records: Any) -> Any:
        seen.append(line)
        return original(line, records)

    monkeypatch.setattr(pipeline_module.Pipeline, "load", load)
    assert train("--recipe", "films.toml", "--dry-run", data="") == 0
    (line,) = seen
    assert (line.recipe.name, line.recipe.data, line.recipe.seed, line.recipe.epochs) == ("films", ["reviews.csv"], 5, 1)
    assert line.recipe_file == Path("films.toml")


@pytest.mark.slow
def test_a_model_trained_in_bf16_is_judged_in_fp32(train: Train, tmp_path: Path) -> None:
    assert train("--precision", "bf16") == 0
    evaluation = json.loads((tmp_path / "models" / "reviews" / "1" / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["training"]["precision"] == "bf16"
    assert evaluation["parity_before_compaction"]["max_abs_error"] < 1e-5


def test_several_labels_per_text_and_fp32_storage(train: Train, tmp_path: Path) -> None:
    rows = [{"text": f"a {('good', 'bad')[i % 2]} film {i}", "labels": ["all", ("up", "down")[i % 2]]} for i in range(40)]
    (tmp_path / "multi.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert train("--storage", "fp32", data="multi.jsonl") == 0
    manifest = read_manifest(tmp_path / "models" / "multi" / "1")
    thresholds = manifest.task_options.pop("thresholds")
    assert manifest.task_options == {"labels": ["all", "down", "up"], "problem_type": "multi_label_classification"}
    assert 0 < thresholds.pop("all") < 1
    assert thresholds == {"down": 0.5, "up": 0.5}  # of four held-out rows each none is fitted
    card = (tmp_path / "models" / "multi" / "1" / "README.md").read_text(encoding="utf-8")
    assert "| rows from | subset accuracy (exact match) |" in card
    assert "Best threshold per label:" in card
    assert manifest.graph.storage == "fp32"


def test_a_dry_run_reads_the_data_and_touches_nothing(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--dry-run") == 0
    assert "48 rows to train on, 12 held out" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.csv"], "missing.csv does not exist"),
        ([], "data must name at least one source"),
        (["reviews.csv", "--data", "reviews.csv"], "not both"),
        (["--recipe", "missing"], "the recipe missing cannot be read"),
        (["reviews.csv", "--name", "Not A Name"], "'Not A Name' cannot be a model's name"),
        (["reviews.csv", "--base-model", "./missing"], "the base model folder ./missing does not exist"),
        (["reviews.csv", "--max-tokens", "999"], "reads at most 64 tokens"),
        (["reviews.csv", "--text-column", "body"], "has no column 'body'"),
        (["reviews.csv", "--task", "summarization"], "which column holds the summary?"),
        (["reviews.csv", "--task", "question-answering"], "which column holds the question?"),
        (["reviews.csv", "--resume"], "there is nothing to resume"),
        (["reviews.csv", "--models", "reviews.csv"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], said: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [] if "--base-model" not in arguments else arguments[arguments.index("--base-model") :][:2]
    assert train(*arguments, *own, data="") == 2
    errors = capsys.readouterr().err
    last = errors.splitlines()[-1]
    assert last.startswith("hooper train: ")
    assert said in last
    assert "Traceback" not in errors


def test_too_many_broken_rows_stop_before_training(train: Train, reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reviews.write_text(reviews.read_text(encoding="utf-8") + " ,positive\ngood film\n", encoding="utf-8")
    assert train() == 2
    assert "reviews.csv:62 (empty text), reviews.csv:63 (the row has 1 columns" in capsys.readouterr().err
    assert train("--max-bad-share", "0.05", "--dry-run") == 0
    assert "2 invalid rows" in capsys.readouterr().out


def test_the_short_name_of_a_shipped_recipe_is_enough(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--recipe", "sentiment", "--data", str(tmp_path / "missing.csv"), "--repeat", "1"]) == 2
    assert "missing.csv does not exist" in capsys.readouterr().err


WITHOUT_TORCH = """
import runpy, sys
sys.argv = ["train_and_export.py", "--help"]
try:
    runpy.run_path("scripts/train_and_export.py", run_name="__main__")
except SystemExit as end:
    sys.exit(7 if "torch" in sys.modules else end.code)
"""


def test_help_comes_without_torch_and_names_every_knob() -> None:
    found = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    for said in ("hooper train reviews.csv", "--resume", "--dry-run", *(f"--{key.replace('_', '-')}" for key in FIELDS)):
        assert said in found.stdout


# the other tasks


def answers(folder: Path) -> list[tuple[Any, Any]]:
    """The golden answers of a published folder, with those it gives now."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    training = training_task(manifest.task)
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    task, options = training.serving_task(tokenizer, manifest.task_options), training.serving_options()
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"), num_threads=1)
    found = []
    for golden in json.loads((folder / manifest.golden).read_text(encoding="utf-8")):
        (encoded,) = task.encode([training.item(golden["item"])], options)
        assert not isinstance(encoded, Exception)
        found.append((golden["answer"], asdict(task.decode(encoded, session.run_rows(encoded.rows), options))))
    return found


def test_squad_becomes_a_published_model_that_answers_questions(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_squad(tmp_path / "squad.json")
    options = ("--task", "question-answering", "--epoch-tokens", "16", "--no-answer-share", "0.1", "--max-tokens", "48")
    assert train(*options, data="squad.json") == 0
    folder = tmp_path / "models" / "squad" / "1"
    manifest = read_manifest(folder)
    assert (manifest.task, manifest.graph.outputs[0].axis, manifest.graph.layout) == ("question-answering", "token", "packed")
    assert "score_slope" not in manifest.task_options
    assert {"exact_match", "f1", "rows"} == set(manifest.evaluation)
    assert "scores are not calibrated" in (folder / "README.md").read_text(encoding="utf-8").lower()
    for published, now in answers(folder):
        assert [entry["answer"] for entry in now["answers"]] == [entry["answer"] for entry in published["answers"]]
    printed = capsys.readouterr().out
    assert "exact match" in printed
    assert "/v1/answer" in printed
    assert '"context"' in printed


@pytest.mark.slow
def test_documents_and_summaries_become_a_published_model_that_sums_up(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_news(tmp_path / "news.jsonl")
    assert train("--task", "summarization", "--epoch-tokens", "16", "64", data="news.jsonl") == 0
    folder = tmp_path / "models" / "news" / "1"
    manifest = read_manifest(folder)
    assert (manifest.task, manifest.graph.outputs[0].axis, manifest.graph.layout) == ("summarization", "token", "packed")
    assert {"rouge1", "lead3_rouge1", "oracle_rouge1"} < set(manifest.evaluation)
    assert "lead-3 ROUGE-1" in (folder / "README.md").read_text(encoding="utf-8")
    for published, now in answers(folder):
        assert now["summary"] == published["summary"]
    assert "/v1/summarize" in capsys.readouterr().out


def test_label_smoothing_is_for_labels(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_news(tmp_path / "news.jsonl")
    assert train("--task", "summarization", "--label-smoothing", "0.1", data="news.jsonl") == 2
    assert "label_smoothing" in capsys.readouterr().err


# the fit


@pytest.mark.slow
def test_a_learning_rate_is_suggested_with_a_plot_and_nothing_is_trained(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--find-learning-rate") == 0
    found = capsys.readouterr().out
    assert re.search(r"suggest    --learning-rate [\d.e-]+\n$", found)
    assert (tmp_path / "runs/reviews/learning_rate.svg").is_file()
    assert not (tmp_path / "models").exists()
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


@pytest.mark.slow
def test_a_learning_rate_is_found_for_a_model_without_a_padding_token_too(
    train: Train, save: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save("decoder", "GPT2", pad_token_id=None, eos_token_id=9, bos_token_id=9)  # with which no text ends
    assert train("--find-learning-rate", "--base-model", str(base)) == 0
    assert "becomes a graph in padded layout" in capsys.readouterr().out


def test_a_plot_of_an_unknown_kind_is_refused_before_anything_is_read(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--find-learning-rate", "--plot", "curve.txt") == 2
    assert "the plot curve.txt must end in one of" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_finished_run_teaches_the_next_one(
    made: Made, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.folder.parents[2] / "runs" / "reviews", "runs/large")
    (tmp_path / "more.txt.csv").write_text("text\nThe good plot. A very bad film.\nthe plot was good\n", encoding="utf-8")
    more = ["--teacher-data", "more.txt.csv", "--teacher-sentences"]
    assert train("--name", "small", "--teacher", "runs/large", "--teacher-share", "0.9", *more) == 0
    told = capsys.readouterr().out
    assert "3 texts without labels are answered by the teacher" in told
    assert "the teacher, runs/large, answers 51 rows" in told
    assert np.load(tmp_path / "runs/small/teacher.npy").shape[0] == 51
    assert "--teacher runs/large" in (tmp_path / "models/small/1/README.md").read_text(encoding="utf-8")


def test_a_model_trained_with_adapters_is_published_like_any_other(train: Train, tmp_path: Path) -> None:
    assert train("--lora-rank", "2", "--class-weights", "balanced", "--autofit") == 0
    manifest = read_manifest(tmp_path / "models/reviews/1")
    assert manifest.parity["fp32"].passed
    evaluation = json.loads((tmp_path / "models/reviews/1/evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["training"]["autofit"]["rows_set_aside"] == 5
    assert "--autofit" in evaluation["command"]
    assert "--lora-rank 2" in evaluation["command"]


@pytest.mark.slow
def test_a_budget_is_in_the_card(train: Train, tmp_path: Path, base_folder: Path) -> None:
    options = ["--base-model", str(base_folder), "--batch-size", "8", "--precision", "fp32", "--budget", "2m"]
    assert main(["reviews.csv", *options]) == 0
    evaluation = json.loads((tmp_path / "models/reviews/1/evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["training"]["budget"]["asked"] == "2m"
    assert "a budget of 2m" in (tmp_path / "models/reviews/1/README.md").read_text(encoding="utf-8")
