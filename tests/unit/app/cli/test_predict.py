"""`hooper predict` answers what the service answers, in order, and tells what it could not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.cli import predict, terminal
from app.core.artefact import write_serving
from app.tasks.registry import installed_tasks
from tests.support.mutated_model import sign_again
from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny, publish_tiny_spec

QUESTION = {"question": "Was the film good?", "context": "The film was bad. A good film."}


@pytest.fixture
def ask(published_tasks: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command on a tiny model of every task; gives the exit code, the answers and what was said."""

    def run(model: str, *arguments: str) -> tuple[int, list[Any], str]:
        settings = ["--models", str(published_tasks), "--device", "cpu", "--engine-threads", "1"]
        code = cli.main(["predict", "--model", model, *settings, *arguments])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return run


@pytest.mark.parametrize(
    ("model", "route", "items", "options"),
    [
        ("text-classification", "classify", ["a good film", "bad " * 60, " ", {"text": "a", "text_pair": "bad"}], {"top_k": 1}),
        ("text-classification", "classify", ["a good film", "bad " * 60], {"truncation": "window", "activation": "none"}),
        ("text-classification", "classify", ["bad " * 60], {"truncation": "error"}),
        ("question-answering", "answer", [QUESTION, {**QUESTION, "question": 7}], {"top_k": 3, "allow_no_answer": True}),
        ("summarization", "summarize", ["good. bad. good film. a very bad film.", ""], {"max_sentences": 2}),
        ("summarization", "summarize", ["Am 3. Quartal. Am Ende."], {"language": "de"}),
    ],
)  # fmt: skip
async def test_the_answers_are_the_services(
    model: str, route: str, items: list[Any], options: dict[str, Any], ask: Any, every_task: Service, tmp_path: Path
) -> None:
    response = await every_task.client.post(f"/v1/{route}", json={"inputs": [*items, "a film"][: len(items)], **options})
    expected = response.json()["results"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    words = [
        word
        for name, value in options.items()
        for word in ([f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)])
    ]

    def run() -> Any:
        return ask(model, *words, str(tmp_path / "a.jsonl"))

    code, answers, _ = await asyncio.to_thread(run)
    assert [row.pop("line") for row in answers] == list(range(1, len(items) + 1))
    assert json.loads(json.dumps(answers)) == [_near(row) for row in expected]
    assert code == (1 if any("error" in row for row in expected) else 0)


def _near(value: Any) -> Any:
    """The same value, its numbers within rounding: batches differ."""
    if isinstance(value, dict):
        return {key: _near(row) for key, row in value.items()}
    if isinstance(value, list):
        return [_near(row) for row in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def test_texts_can_be_given_on_the_command_line(ask: Any) -> None:
    code, (first, second), _ = ask("text-classification", "--text", "good", "--text", "bad", "--top-k", "1")
    assert code == 0
    assert (first["line"], first["labels"][0]["label"]) == (1, "good")
    assert (second["line"], second["labels"][0]["label"]) == (2, "bad")


def test_a_question_and_its_context_are_an_input(ask: Any) -> None:
    code, (row,), _ = ask("question-answering", "--question", QUESTION["question"], "--context", QUESTION["context"])
    assert code == 0
    found = row["answers"][0]
    assert QUESTION["context"][found["start"] : found["end"]] == found["answer"]


def test_several_files_are_named_and_ids_are_kept(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("good\n")
    (tmp_path / "b.jsonl").write_text('{"id": "x-1", "text": "bad"}\n')
    _, (first, second), _ = ask("text-classification", str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl"))
    assert (first["file"], first["line"], "id" in first) == (str(tmp_path / "a.txt"), 1, False)
    assert (second["file"], second["id"]) == (str(tmp_path / "b.jsonl"), "x-1")


def test_an_id_that_is_no_unicode_is_given_back_as_it_came(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "\\ud800", "text": "bad"}\n')
    assert ask("text-classification", str(tmp_path / "a.jsonl"))[1][0]["id"] == "\ud800"


def test_more_inputs_than_are_held_at_once_are_all_answered_in_order(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{'good' if n % 3 else 'bad'} film {n}\n" for n in range(1000)))
    code, answers, _ = ask("text-classification", "--top-k", "1", str(tmp_path / "a.txt"))
    assert code == 0
    assert [row["line"] for row in answers] == list(range(1, 1001))
    assert [row["labels"][0]["label"] for row in answers] == ["good" if n % 3 else "bad" for n in range(1000)]


def test_a_text_of_more_windows_than_the_service_lets_wait_is_answered(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOPER_MAX_WAITING_ROWS", "4")
    (tmp_path / "a.txt").write_text("good film " * 2000)
    code, (row,), _ = ask("text-classification", "--truncation", "window", str(tmp_path / "a.txt"))
    assert (code, row["truncated"]) == (0, False)
    assert row["num_tokens"] > 4000


def test_how_many_could_not_be_answered_is_said_at_the_end(ask: Any) -> None:
    code, answers, said = ask("text-classification", "--text", "good", "--text", " ")
    assert (code, answers[1]["error"]["type"]) == (1, "invalid_input")
    assert said == "hooper predict: 1 of 2 inputs could not be answered\n"


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("nothing", ["--text", "a"], "there is no model nothing"),
        ("text-classification", ["--max-sentences", "2", "--text", "a"], "--max-sentences is no option of text-classification"),
        ("text-classification", ["--top-k", "0", "--text", "a"], "--top-k: should be greater than or equal to 1"),
        ("text-classification", ["--question", "q", "--text", "a"], "--question is for question answering"),
        ("text-classification", ["--text", "a", "file"], "give either files or --text, not both"),
        ("text-classification", ["missing.txt"], "missing.txt cannot be read: No such file"),
        (
            "question-answering",
            ["--question", "q", "--context", "c", "--text", "a"],
            "--question and --context are already",
        ),
        ("question-answering", ["--max-answer-tokens", "9999", "--text", "a"], "--max-answer-tokens: should be less"),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_is_answered(
    model: str, arguments: list[str], message: str, ask: Any
) -> None:
    code, answers, said = ask(model, *arguments)
    assert (code, answers) == (2, [])
    assert said.startswith(f"hooper: {message}")
    assert said.count("\n") == 1


def test_without_a_name_the_only_model_is_asked(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "--models", str(models), "--device", "cpu", "--text", "good"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"][0]["label"] == "good"


def test_without_a_name_and_with_several_models_they_are_listed(
    published_tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", "--models", str(published_tasks), "--text", "good"]) == 2
    assert "which model? say --model NAME; published are: question-answering, " in capsys.readouterr().err


def predicted_by(models: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The label: each model has labels of its own."""
    assert cli.main(["predict", "--models", str(models), "--device", "cpu", "--text", "good", *more]) == 0
    return str(json.loads(capsys.readouterr().out)["labels"][0]["label"])


def test_without_a_name_the_default_of_the_only_task_is_asked_in_the_version_that_serves(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny(models, "aardvark", labels=["bad a", "good a"])
    sign_again(models / "aardvark" / "1", first_published="2026-02-01T00:00:00+00:00")
    assert predicted_by(models, capsys) == "good"
    publish_tiny(models, "tiny", 2, labels=["bad 2", "good 2"])
    assert predicted_by(models, capsys) == "good 2"
    write_serving(models / "tiny", 1, "loaded")
    assert predicted_by(models, capsys) == predicted_by(models, capsys, "--model", "tiny") == "good"
    assert predicted_by(models, capsys, "--model", "tiny/2") == "good 2"
    monkeypatch.setenv("HOOPER_DEFAULT_MODELS", "text-classification=aardvark")
    assert predicted_by(models, capsys) == "good a"


def test_without_a_name_the_default_of_the_only_route_is_asked(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny(models, "stars", labels=["stars"], problem_type="regression")
    assert predicted_by(models, capsys) == "good"
    monkeypatch.setenv("HOOPER_DEFAULT_MODELS", "text-classification=stars")
    assert predicted_by(models, capsys) == "stars"


def test_a_default_for_a_task_that_there_is_none_of_is_told(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOPER_DEFAULT_MODELS", "chat=tiny")
    assert cli.main(["predict", "--models", str(models), "--text", "good"]) == 2
    assert "HOOPER_DEFAULT_MODELS: there is no task 'chat'" in capsys.readouterr().err


def test_a_question_without_a_name_is_for_the_model_that_answers_questions(
    published_tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--question", "Was it good?", "--context", "The film was good."]
    assert cli.main(["predict", "--models", str(published_tasks), "--device", "cpu", *asked]) == 0
    assert "answers" in json.loads(capsys.readouterr().out)


# --- on a terminal


@pytest.fixture
def look(published_tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a person sees in eighty columns."""
    monkeypatch.setattr(predict, "on_terminal", lambda: True)
    monkeypatch.setattr(predict, "columns", lambda: 80)

    def run(model: str, *arguments: str) -> str:
        cli.main(["predict", "--model", model, "--models", str(published_tasks), "--device", "cpu", *arguments])
        return capsys.readouterr().out

    return run


def test_a_person_sees_the_best_label_and_the_text(look: Any) -> None:
    line = look("text-classification", "--text", "a good film " + "x" * 200)
    assert line.split()[0] == "1"
    assert line.split()[2:5] == ["good", "a", "good"]
    assert len(line.rstrip()) == 80
    assert line.rstrip().endswith("…")


def test_a_person_sees_as_many_labels_as_were_asked_for(look: Any) -> None:
    first, second = look("text-classification", "--top-k", "2", "--text", "good").splitlines()
    assert ("good" in first, "bad" in second, second.startswith("   ")) == (True, True, True)


def test_a_person_sees_answers_sentences_and_errors(look: Any) -> None:
    assert "bad" in look("question-answering", "--question", "Was it good?", "--context", "It was bad. good")
    assert "(no answer)" in look("question-answering", "--allow-no-answer", "--top-k", "9", "--text", "bad", "--question", "a")
    assert len(look("summarization", "--text", "good one. bad two. good three", "--min-sentences", "3").splitlines()) == 3
    assert "error   text: must not be empty" in look("text-classification", "--text", "")


def test_json_is_given_on_a_terminal_too_where_it_is_asked_for(look: Any) -> None:
    assert json.loads(look("text-classification", "--json", "--text", "good"))["line"] == 1


def test_a_text_cannot_steer_the_terminal(look: Any) -> None:
    assert "\x1b" not in look("text-classification", "--text", "good \x1b[2J\x07 film")
    assert "\x1b" not in look("summarization", "--text", "good \x1b[2J film. bad")


@pytest.mark.parametrize(
    ("text", "size", "shown"),
    [
        ("short", 10, "short"),
        ("a\nb", 10, "a b"),
        ("x" * 20, 5, "xxxx…"),
        ("电影很好看", 6, "电影…"),
        ("e\u0301" * 9, 9, "e\u0301" * 9),
    ],
)
def test_a_clipped_text_fits_its_columns(text: str, size: int, shown: str) -> None:
    assert terminal.clip(text, size) == shown
    assert terminal.width(shown) <= size


@pytest.mark.parametrize("model", ["nli", "feature-extraction"])
async def test_labels_of_ones_own_are_chosen_among_as_by_the_service(
    model: str, start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_tiny(tmp_path / "models", "nli", labels=("entailment", "contradiction"), max_tokens=48)
    publish_tiny(tmp_path / "models", "sentiment")
    publish_tiny_spec(tmp_path / "models", installed_tasks()["feature-extraction"])
    texts = ["a good film", "bad", " "]
    options = {"labels": "good, very good", "hypothesis_template": "a {} film", "multi_label": True}
    async with start(models=tmp_path / "models") as service:
        body = {"inputs": texts, "model": model, **options}
        expected = (await service.client.post("/v1/zero-shot", json=body)).json()["results"]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    words = ["--models", str(tmp_path / "models"), "--device", "cpu", "--engine-threads", "1", "--model"]
    wishes = ["--labels", "good, very good", "--hypothesis-template", "a {} film", "--multi-label"]

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, _ = await asyncio.to_thread(run, "predict", *words, model, *wishes, str(file))
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 1  # one of the texts is empty
    assert [entry.get("labels") for entry in answers] == [
        entry.get("labels") and [pytest.approx(label, abs=1e-4) for label in entry["labels"]] for entry in expected
    ]
    target = tmp_path / "b.csv"
    code, _, _ = await asyncio.to_thread(run, "batch", *words, model, *wishes, str(file), str(target))
    head, first, *_ = target.read_text().splitlines()
    assert {"label", "score", "num_tokens"} <= set(head.split(","))
    assert first.split(",")[head.split(",").index("label")] == expected[0]["labels"][0]["label"]
    for refused, sentence in (
        (["sentiment", *wishes], "knows its own labels only"),
        ([model, "--labels", "a,a"], "--labels 'a' is there twice"),
        ([model, "--labels", "a", "--top-k", "1"], "--top-k is no option of"),
        ([model, "--labels", "a", "--hypothesis-template", "b"], "--hypothesis-template must hold {}"),
    ):
        code, _, err = await asyncio.to_thread(run, "predict", *words, *refused, str(file))
        assert (code, sentence in err) == (2, True), err
