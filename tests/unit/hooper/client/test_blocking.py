"""The client that blocks, against the real service, and against servers that behave badly."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from app.core.errors import InvalidInput, InvalidSettings, Unauthorized, UnknownModel
from app.tasks.registry import installed_tasks
from hooper import Client
from hooper.client.results import FailedItem
from hooper.errors import ItemsFailed, NotFound, TimedOut, Unreachable
from tests.support.live_service import LiveService, free_port, serving
from tests.support.scripted_server import Reply, envelope, problem, scripted_server
from tests.support.tiny_model import publish_tiny, publish_tiny_spec, publish_tiny_task

KEY = "correct-horse"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    root = tmp_path_factory.mktemp("models")
    publish_tiny(root)
    publish_tiny_task(root, "question-answering", "tiny-qa")
    publish_tiny_spec(root, installed_tasks()["text-ranking"])
    with serving(root, max_items=50, feedback=root.parent / "feedback.sqlite") as service:
        yield service


@pytest.fixture
def client(running: LiveService) -> Iterator[Client]:
    with Client(running.url) as client:
        yield client


class Patient(Client):
    """Notes how long it would wait."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pauses: list[float] = []

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def labels(answers: Any) -> list[str]:
    return [answer.labels[0].label for answer in answers]


def test_a_text_gets_a_typed_result(client: Client) -> None:
    answers = client.classify("a good film", top_k=1)
    assert labels(answers) == ["good"]
    assert (answers.model.name, answers.num_tokens, len(answers.request_ids)) == ("tiny", 5, 1)


def test_five_thousand_texts_come_back_in_order_whatever_the_service_takes_at_once(running: LiveService) -> None:
    texts = [("a good film", "a bad film")[number % 3 == 0] for number in range(5000)]
    with Client(running.url) as client:
        answers = client.classify(texts, top_k=1)
        assert labels(answers) == ["bad" if number % 3 == 0 else "good" for number in range(5000)]
        assert client._limits.max_items == 50  # it was refused once, and asked
    assert len(answers.request_ids) >= 100


def test_arrays_columns_and_frames_are_taken_and_their_index_is_kept(client: Client) -> None:
    assert labels(client.classify(np.array(["good", "bad"]))) == ["good", "bad"]
    frame = client.classify(pandas.Series(["good", "bad"], index=["x", "y"])).to_frame()
    assert frame.loc["y", "label"] == "bad"
    answers = client.answer(pandas.DataFrame({"Question": ["was it good?"], "Text": ["the film was good"]}), errors="raise")
    assert answers[0].answers[0].answer


def test_an_item_that_cannot_be_answered_stands_in_its_place_or_is_raised(client: Client) -> None:
    answers = client.classify(["good", None, "", "bad"])
    assert [number for number, _ in answers.failed] == [1, 2]
    with pytest.raises(
        ItemsFailed, match=r"2 of 4 items could not be answered; the first is inputs\[1\]: there is nothing"
    ) as raised:
        client.classify(["good", None, "", "bad"], errors="raise")
    assert len(raised.value.results) == 4


def test_a_ranking_is_one_request_and_comes_back_best_first(client: Client) -> None:
    answers = client.rerank(["bad film", "very good", ""], query="good film", return_documents=True)
    assert [getattr(answer, "index", None) for answer in answers] == [1, 0, 2]
    assert answers[0].document.text == "very good"
    assert [error.detail for _, error in answers.failed] == ["document: must not be empty"]
    assert [answer.index for answer in client.rerank(query="good", documents=("bad", "good"), top_n=1)] == [1]
    with pytest.raises(InvalidInput, match="documents: 51 items are too many; at most 50"):  # it is not cut
        client.rerank(["good"] * 51, query="film")
    with pytest.raises(InvalidInput, match=r"documents\.1: there is nothing to read here"):
        client.rerank(["good", None], query="film")
    with pytest.raises(AttributeError, match="rerank_many"):
        client.rerank_many(["good"], query="film")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"rerank\(\) takes documents"):
        client.rerank(query="film")  # type: ignore[call-overload]


def test_an_iterable_is_read_as_its_results_are(client: Client) -> None:
    read = []

    def texts() -> Iterator[str]:
        for number in range(100_000):
            read.append(number)
            yield "good"

    results = client.classify_many(texts(), top_k=1)
    first = next(results)
    assert not isinstance(first, FailedItem)
    assert first.labels[0].label == "good"
    assert len(read) < 3000
    results.close()  # type: ignore[attr-defined]  # a generator


def test_explanations_models_and_health(client: Client) -> None:
    assert client.explain(["a good film"] * 20, budget=200)[19].target == "good"  # type: ignore[union-attr]
    assert [model.name for model in client.models()] == ["text-ranking", "tiny", "tiny-qa"]
    assert client.health().models == ["text-ranking/1", "tiny/1", "tiny-qa/1"]


def test_corrections_are_kept(client: Client) -> None:
    (kept,) = client.feedback({"text": "a good film", "label": "bad"}, errors="raise")
    assert not kept.agrees


def test_any_route_can_be_posted_to(client: Client) -> None:
    answer = client.post("models/tiny", {"inputs": "a good film"})
    assert answer[0]["label"] == "good"
    with pytest.raises(NotFound, match="the service has no /v1/nothing"):
        client.post("v1/nothing", {})


def test_errors_are_those_of_the_api(client: Client) -> None:
    with pytest.raises(UnknownModel, match="'nobody' is not loaded") as raised:
        client.classify("good", model="nobody")
    assert raised.value.status == 404
    assert raised.value.request_id
    with pytest.raises(InvalidInput, match="depth: is not a field"):
        client.classify(["good"] * 3, depth=3)  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="an input must be a text or a mapping of fields"):
        client.classify([5])
    with pytest.raises(Unauthorized, match="no admin key is configured"):
        client.unload("tiny")


def test_an_unknown_method_names_those_that_there_are(client: Client) -> None:
    with pytest.raises(AttributeError, match=r"Client has no 'clasify'; its routes are classify, zero_shot, answer"):
        client.clasify("good")  # type: ignore[attr-defined]
    assert {"classify", "classify_many"} <= set(dir(client))
    assert "POST /v1/classify" in (client.classify.__doc__ or "")


def test_a_wrong_key_is_an_error_and_no_key_is_ever_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import hashlib

    publish_tiny(tmp_path)
    caplog.set_level(logging.DEBUG)
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    with serving(tmp_path, api_key_hashes=hashed, admin_key_hashes=hashlib.sha256(b"admin").hexdigest()) as service:
        with Client(service.url, "wrong-key") as client, pytest.raises(Unauthorized) as raised:
            client.classify("good")
        with Client(service.url, f"{KEY}\n") as client:
            assert labels(client.classify("good")) == ["good"]
            assert repr(client) == f"<Client {service.url}, with a key>"
        with Client(service.url, "admin") as client:
            assert client.load("tiny", 1).state == "ready"
            assert client.unload("tiny").state == "unloaded"
    assert KEY not in caplog.text + repr(vars(client)["_http"])
    assert "wrong-key" not in caplog.text + str(raised.value)


@pytest.mark.parametrize("key", ["", "two words", "ü", "a\nb"])
def test_what_is_no_key_is_refused_without_being_quoted(key: str) -> None:
    with pytest.raises(InvalidSettings, match=r"^the key is empty, or holds characters that no key has$"):
        Client("http://localhost", key)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://me:{}@host".format("secret"), 5])
def test_what_is_no_address_is_refused(url: Any) -> None:
    with pytest.raises(InvalidSettings) as raised:
        Client(url)
    assert "secret" not in str(raised.value)


# servers that behave badly


def test_an_overloaded_service_is_asked_again_when_it_says() -> None:
    busy = Reply(429, problem(429, "overloaded"), {"Retry-After": "3"})
    with scripted_server(busy, busy, Reply(200, envelope("good"))) as server, Patient(server.url) as client:
        assert labels(client.classify(["x"])) == ["good"]
        assert [round(pause) for pause in client.pauses] == [3, 3]


def test_a_connection_that_is_closed_is_opened_again() -> None:
    with scripted_server(Reply(closes=True), Reply(200, envelope("good"))) as server, Patient(server.url) as client:
        assert labels(client.classify("x")) == ["good"]
        assert len(client.pauses) == 1


def test_a_correction_is_sent_once_whatever_happens() -> None:
    with scripted_server(Reply(closes=True)) as server, Patient(server.url) as client:
        with pytest.raises(Unreachable, match="closed before the answer came"):
            client.feedback({"text": "a", "label": "b"})
        assert len(server.requests) == 1


def test_a_slow_service_costs_no_more_time_than_the_caller_has() -> None:
    with scripted_server(Reply(hangs=True)) as server, Client(server.url, timeout=0.2) as client:
        with pytest.raises(TimedOut, match=r"no answer within 0\.2 seconds"):
            client.classify("x")
        with pytest.raises(TimedOut):
            client.classify(["x"] * 1000)


def test_nobody_listening_is_said_within_the_time() -> None:
    with Patient(f"http://127.0.0.1:{free_port()}", timeout=1) as client:
        with pytest.raises(Unreachable, match="the service cannot be reached"):
            client.classify("x")
        assert client.pauses


def test_a_draining_service_is_waited_for() -> None:
    draining = Reply(503, problem(503, "unavailable", "draining"))
    ready = Reply(200, {"status": "ready", "models": ["tiny/1"], "failed": []})
    with scripted_server(draining, draining, ready) as server, Patient(server.url) as client:
        assert client.health(wait=30).models == ["tiny/1"]


def test_the_prefix_of_a_proxy_is_kept() -> None:
    with scripted_server(Reply(200, envelope("good"))) as server, Client(server.url + "/nlp/") as client:
        client.classify("x")
    assert server.requests == [("/nlp/v1/classify", {"inputs": "x"})]
