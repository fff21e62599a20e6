"""`POST /v1/feedback`: what is kept, what is refused, and what a caller is told."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.core import feedback
from app.core.feedback import read
from tests.support.requests import Service, check_problem
from tests.support.tiny_model import publish_tiny
from tests.unit.app.conftest import Start

TEXT = {"text": "a good film", "label": "bad"}
QUESTION = {"question": "Was the film good?", "context": "the film was not good", "answer": "not good"}
SUMMARY = {"text": "A bad film. Good films! Not very bad.", "sentences": ["Not very bad."]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


@pytest.fixture
async def keeping(published_tasks: Path, start: Start, path: Path) -> AsyncIterator[Service]:
    """The service over a model of every task, with a feedback file."""
    async with start(models=published_tasks, feedback=str(path)) as one:
        yield one


async def kept(service: Service, inputs: object, **options: object) -> list[dict[str, Any]]:
    response = await service.ask("feedback", inputs, **options)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


async def test_a_correction_is_kept_beside_the_models_own_answer(keeping: Service, path: Path) -> None:
    response = await keeping.ask("feedback", TEXT, {"X-Request-Id": "mine"}, source="support", comment="irony")
    assert response.status_code == 200, response.text
    told = response.json()
    assert told["model"] == {"name": "text-classification", "version": 1}
    (result,) = told["results"]
    answer = (await keeping.classify(TEXT["text"])).json()["results"][0]
    assert (result["id"], result["agrees"], result["predicted"]) == (1, False, {"labels": answer["labels"]})
    (one,) = read(path)
    assert (one.model, one.version, one.task) == ("text-classification", 1, "text-classification")
    assert (one.item, one.right, one.agrees) == ({"text": TEXT["text"]}, {"label": "bad"}, False)
    assert one.predicted == result["predicted"]
    assert (one.request_id, one.source, one.comment) == ("mine", "support", "irony")
    assert one.at.endswith("+00:00")


async def test_an_answer_that_was_right_can_be_confirmed(keeping: Service, path: Path) -> None:
    (result,) = await kept(keeping, {**TEXT, "label": "good"}, request_id="the-one-that-was-asked")
    assert result["agrees"] is True
    assert next(read(path)).request_id == "the-one-that-was-asked"


async def test_a_summary_is_compared_with_that_of_the_language_it_was_made_for(keeping: Service, path: Path) -> None:
    summary = {"text": "Am 3. Quartal.", "sentences": ["Am 3. Quartal."]}
    german, english = await kept(keeping, [{**summary, "language": "de"}, summary])
    assert (german["agrees"], english["agrees"]) == (True, False)
    assert [dict(part.item) for part in read(path)] == [
        {"text": "Am 3. Quartal.", "language": "de"},
        {"text": "Am 3. Quartal."},
    ]


async def test_every_task_is_known_by_the_shape_of_its_correction(keeping: Service, path: Path) -> None:
    for inputs in (TEXT, QUESTION, SUMMARY):
        await kept(keeping, inputs)
    found = list(read(path))
    assert [match.task for match in found] == ["text-classification", "question-answering", "summarization"]
    assert [dict(match.right) for match in found[1:]] == [{"answer": "not good", "start": 13}, {"sentences": ["Not very bad."]}]
    assert list(found[1].predicted) == ["answers", "no_answer_score"]


async def test_in_a_list_a_bad_correction_fails_alone(keeping: Service, path: Path) -> None:
    inputs = [TEXT, {"text": " ", "label": "bad"}, {"text": "film", "label": "x"}, {"text": "film"}, 5, QUESTION, TEXT]
    results = await kept(keeping, inputs)
    assert [result.get("id") for result in results] == [1, None, None, None, None, None, 2]
    said = [result["error"]["detail"] for result in results if "error" in result]
    assert said[0] == "text: must not be empty"
    assert said[1].startswith("label: is none of the model's labels (bad, good)")
    assert said[2:] == [
        "should have either `label` or `labels`",
        "should be an object",
        "should have `text` and `label`: the model is for text-classification",
    ]
    assert len(list(read(path))) == 2


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        ({"text": "film", "label": "x"}, {}, "inputs.label: is none of the model's labels (bad, good); with"),
        ({"text": "film", "labels": ["bad"]}, {}, "inputs.labels: the model gives each text one label"),
        ({"text": "film"}, {}, "inputs: should have either `label` or `labels`"),
        ({"text": 5, "label": "bad"}, {}, "inputs.text: should be a valid string"),
        ({"label": "bad"}, {}, "inputs.text: is required"),
        (
            {"Satz": "a", "Urteil": "bad"},
            {},
            "inputs.text: is required; 'Satz' and 'Urteil' are not fields that are known here",
        ),
        ({**TEXT, "lable": "bad"}, {}, "inputs.lable: is not a field that is known here"),
        ("film", {}, "inputs: should be an object"),
        ([], {}, "inputs: must not be empty"),
        ({**QUESTION, "answer": "very good"}, {}, "inputs.answer: does not stand in the context"),
        ({**QUESTION, "answer": "good", "start": -1}, {}, "inputs.start: should be greater than or equal to 0"),
        ({**SUMMARY, "sentences": ["No."]}, {}, "inputs.sentences.0: does not stand in the text"),
        (TEXT, {"model": "question-answering"}, "inputs: should have `question`, `context` and `answer`"),
        (TEXT, {"request_id": "no id"}, "request_id: string should match"),
        (TEXT, {"comment": "x" * 2001}, "comment: string should have at most 2000 characters"),
        (TEXT, {"comment": "\ud800"}, "comment: "),
        (TEXT, {"allow_new_labels": "yes"}, "allow_new_labels: should be a valid boolean"),
    ],
)  # fmt: skip
async def test_what_cannot_be_right_is_refused_and_not_kept(
    keeping: Service, path: Path, inputs: object, options: dict[str, object], said: str
) -> None:
    response = await keeping.ask("feedback", inputs, **options)
    assert check_problem(response, 422, "invalid_input").startswith(said)
    assert list(read(path)) == []


async def test_a_label_that_the_model_does_not_have_is_kept_where_that_is_asked_for(keeping: Service, path: Path) -> None:
    await kept(keeping, {"text": "film", "label": "mixed"}, allow_new_labels=True)
    assert next(read(path)).right == {"label": "mixed"}


async def test_a_version_that_is_no_longer_loaded_is_not_corrected(keeping: Service, path: Path) -> None:
    response = await keeping.ask("feedback", TEXT, model="text-classification/2")
    check_problem(response, 404, "unknown_model")
    assert list(read(path)) == []


async def test_nothing_is_kept_by_a_service_that_was_not_told_to(every_task: Service) -> None:
    detail = check_problem(await every_task.ask("feedback", TEXT), 404, "not_enabled")
    assert "HOOPER_FEEDBACK" in detail


async def test_a_file_that_is_held_by_another_is_503_and_nothing_is_half_kept(
    keeping: Service, path: Path, start: Start, published_tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "BUSY_S", 0.01)
    async with start(models=published_tasks, feedback=str(path)) as second:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            detail = check_problem(await second.ask("feedback", [TEXT, TEXT]), 503, "not_stored")
            assert "locked" in detail
            other.execute("ROLLBACK")
        assert list(read(path)) == []
        assert second.sample("hooper_feedback_total", model="text-classification", outcome="failed") == 2
        assert await kept(second, TEXT)


async def test_a_file_that_has_grown_to_its_limit_is_503(start: Start, published_tasks: Path, path: Path) -> None:
    async with start(models=published_tasks, feedback=str(path), feedback_max_bytes=65_536) as service:
        await kept(service, TEXT)
        response = await service.ask("feedback", {"text": "film " * 20_000, "label": "bad"})
        assert "HOOPER_FEEDBACK_MAX_BYTES" in check_problem(response, 503, "not_stored")
        await kept(service, TEXT)
    assert len(list(read(path))) == 2


async def test_what_came_of_corrections_is_counted_and_they_are_no_drift(keeping: Service) -> None:
    await kept(keeping, [TEXT, TEXT, {**TEXT, "label": "good"}, {**TEXT, "label": "x"}])
    counted = {
        outcome: keeping.sample("hooper_feedback_total", model="text-classification", outcome=outcome)
        for outcome in ("confirmed", "corrected", "refused", "failed")
    }
    assert counted == {"confirmed": 1, "corrected": 2, "refused": 1, "failed": None}
    assert keeping.sample("hooper_drift_items_total", model="text-classification", version="1") == 0


async def test_no_log_line_holds_a_word_of_it(keeping: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"text": "my secret film", "label": "secret-label"}
    await kept(keeping, secret, allow_new_labels=True, comment="secret comment")
    await keeping.ask("feedback", secret, comment="secret comment")
    lines = [json.dumps(vars(record), default=str) for record in caplog.records]
    assert any("/v1/feedback" in line for line in lines)
    assert not [line for line in lines if "secret" in line]


async def test_where_keys_are_asked_for_a_correction_needs_one(start: Start, published_tasks: Path, path: Path) -> None:
    async with start(models=published_tasks, feedback=str(path), api_key_hashes=("0" * 64,)) as service:
        check_problem(await service.ask("feedback", TEXT), 401, "unauthorized")
    assert list(read(path)) == []


async def test_a_multi_label_model_takes_any_number_of_labels(start: Start, tmp_path: Path, path: Path) -> None:
    publish_tiny(tmp_path / "multi", "topics", problem_type="multi_label_classification")
    async with start(models=tmp_path / "multi", feedback=str(path)) as service:
        results = await kept(service, [{"text": "film", "labels": []}, {"text": "film", "labels": ["good", "bad"]}])
        assert [result["id"] for result in results] == [1, 2]
    assert [part.right for part in read(path)] == [{"labels": []}, {"labels": ["bad", "good"]}]
