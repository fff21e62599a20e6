"""`/v2`: the Open Inference Protocol over a tiny model of every task."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from typing import Any

import httpx
import pytest

from app.core.errors import InvalidInput
from tests.support.requests import Caller, GatedService, Service
from tests.support.tiny_model import MAX_TOKENS

CONTEXT = "The film was bad. It was a very good film."


def tensor(name: str, *data: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": list(data)}


async def send(service: Service, model: str, *inputs: Any, **fields: Any) -> httpx.Response:
    return await service.client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **fields})


async def infer(service: Service, model: str, *inputs: Any, **fields: Any) -> Any:
    response = await send(service, model, *inputs, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def data(answer: Any) -> dict[str, Any]:
    return {entry["name"]: entry["data"] for entry in answer["outputs"]}


# --- what is there


async def test_the_server_tells_what_it_is(service: Service) -> None:
    for path in ("/v2", "/v2/"):
        told = (await service.client.get(path)).json()
        assert told["name"] == "hooper"
        assert told["extensions"] == ["binary_tensor_data", "model_configuration"]
    assert (await service.client.get("/v2/health/live")).json() == {"live": True}
    assert (await service.client.get("/v2/health/ready")).json() == {"live": True, "ready": True}


@pytest.mark.parametrize("model", ["text-classification", "question-answering", "summarization"])
async def test_what_the_metadata_names_is_what_is_taken_and_given(every_task: Service, model: str) -> None:
    told = (await every_task.client.get(f"/v2/models/{model}")).json()
    assert (told["name"], told["versions"], told["platform"]) == (model, ["1"], "onnx_onnxv1")
    assert (await every_task.client.get(f"/v2/models/{model}/versions/1")).json() == told
    answer = await infer(every_task, model, *[tensor(entry["name"], "good film", "bad") for entry in told["inputs"]])
    assert [entry["name"] for entry in answer["outputs"]] == [entry["name"] for entry in told["outputs"]]
    for given, named in zip(answer["outputs"], told["outputs"], strict=True):
        assert given["datatype"] == named["datatype"]
        assert len(given["shape"]) == len(named["shape"])
        assert given["shape"][0] == 2


async def test_the_configuration_tells_the_optional_input_too(every_task: Service) -> None:
    for path in ("/v2/models/text-classification/config", "/v2/models/text-classification/versions/1/config"):
        config = (await every_task.client.get(path)).json()
        assert {entry["name"]: entry["optional"] for entry in config["input"]} == {"text": False, "text_pair": True}
        assert [(entry["data_type"], entry["dims"]) for entry in config["output"]] == [
            ("TYPE_STRING", [-1, -1]),
            ("TYPE_FP32", [-1, -1]),
        ]
        assert config["max_batch_size"] == 0


async def test_a_model_is_ready_while_its_engine_lives(gated_service: GatedService) -> None:
    for path in ("/v2/models/tiny/ready", "/v2/models/tiny/versions/1/ready"):
        assert (await gated_service.client.get(path)).json() == {"name": "tiny", "ready": True}
    for path in ("/v2/models/tiny/versions/2/ready", "/v2/models/other/ready"):
        assert (await gated_service.client.get(path)).status_code == 404
    waiting = asyncio.ensure_future(gated_service.classify("good"))
    (await gated_service.gated.engine.batch()).fail(asyncio.CancelledError())
    await waiting
    response = await gated_service.client.get("/v2/models/tiny/ready")
    assert (response.status_code, response.json()) == (503, {"error": "the engine of tiny is down"})


async def test_probes_are_not_counted(own_service: Service) -> None:
    await own_service.live.registry.aclose()
    assert (await own_service.client.get("/v2/health/ready")).status_code == 503
    assert own_service.sample("hooper_requests_total", task="", model="", status="503") is None


# --- inference


async def test_classification_gives_labels_and_scores_best_first(every_task: Service) -> None:
    answer = await infer(every_task, "text-classification", tensor("text", "very good", "bad", "film"), id="7")
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "text-classification", "1")
    assert [entry["shape"] for entry in answer["outputs"]] == [[3, 2], [3, 2]]
    native = (await every_task.classify(["very good", "bad", "film"])).json()
    labels = [entry for result in native["results"] for entry in result["labels"]]
    assert data(answer)["label"] == [label["label"] for label in labels]
    assert data(answer)["score"] == pytest.approx([label["score"] for label in labels])
    assert answer["parameters"] == {"num_tokens": native["usage"]["num_tokens"], "num_truncated": 0}


async def test_classification_takes_pairs_and_options(every_task: Service) -> None:
    inputs = tensor("text_pair", "bad"), tensor("text", "very good")
    answer = await infer(every_task, "text-classification", *inputs, parameters={"top_k": 1, "activation": "none"})
    item = {"text": "very good", "text_pair": "bad"}
    (best,) = (await every_task.classify(item, top_k=1, activation="none")).json()["results"][0]["labels"]
    assert data(answer) == {"label": [best["label"]], "score": [pytest.approx(best["score"])]}
    assert answer["outputs"][0]["shape"] == [1, 1]


async def test_question_answering_gives_the_best_answer_of_each_item(every_task: Service) -> None:
    inputs = tensor("question", "Was the film good?", "Was it bad?"), tensor("context", CONTEXT, CONTEXT)
    answer = await infer(every_task, "question-answering", *inputs, parameters={"max_answer_tokens": 3})
    items = [{"question": question, "context": CONTEXT} for question in ("Was the film good?", "Was it bad?")]
    native = (await every_task.ask("answer", items, max_answer_tokens=3)).json()["results"]
    best = [entry["answers"][0] for entry in native]
    assert data(answer) == {name: [entry[name] for entry in best] for name in ("answer", "score", "start", "end")}
    assert all(entry["shape"] == [2] for entry in answer["outputs"])


async def test_answers_may_be_the_models_tokens(every_task: Service) -> None:
    inputs = tensor("question", "good"), tensor("context", "bad.good")
    for aligned, length in ((True, 8), (False, 4)):
        parameters = {"max_answer_tokens": 1, "align_to_words": aligned}
        answer = data(await infer(every_task, "question-answering", *inputs, parameters=parameters))
        assert len(answer["answer"][0]) <= length
        assert (answer["answer"] == ["bad.good"]) == aligned


async def test_summarization_gives_a_summary_of_each_document(every_task: Service) -> None:
    documents = ["Good film. Bad film. The film.", "A very good film."]
    answer = await infer(every_task, "summarization", tensor("text", *documents), parameters={"max_sentences": 1})
    native = (await every_task.ask("summarize", documents, max_sentences=1)).json()["results"]
    assert data(answer) == {"summary": [entry["summary"] for entry in native]}
    german = tensor("text", "Am 3. Quartal.")
    assert data(await infer(every_task, "summarization", german, parameters={"language": "de"})) == {
        "summary": ["Am 3. Quartal."]
    }


async def test_a_version_may_be_named(every_task: Service) -> None:
    body = {"inputs": [tensor("text", "good")]}
    right = await every_task.client.post("/v2/models/text-classification/versions/1/infer", json=body)
    assert right.json() == await infer(every_task, "text-classification", tensor("text", "good"))
    wrong = await every_task.client.post("/v2/models/text-classification/versions/2/infer", json=body)
    assert wrong.status_code == 404


async def test_chosen_outputs_come_in_the_order_wanted(every_task: Service) -> None:
    outputs = [{"name": "score", "parameters": {"binary_data": False}}, {"name": "label"}]
    answer = await infer(every_task, "text-classification", tensor("text", "good"), outputs=outputs)
    assert [entry["name"] for entry in answer["outputs"]] == ["score", "label"]
    answer = await infer(every_task, "text-classification", tensor("text", "good"), outputs=outputs[:1])
    assert [entry["name"] for entry in answer["outputs"]] == ["score"]


async def test_a_cut_is_told_twice(every_task: Service) -> None:
    texts = tensor("text", "good " * 99, "good")
    response = await send(every_task, "text-classification", texts, parameters={"truncation": "truncate"})
    assert response.json()["parameters"] == {"num_tokens": MAX_TOKENS + 3, "num_truncated": 1}
    assert response.headers["x-truncated"] == "1"
    response = await send(every_task, "text-classification", texts)
    assert response.json()["parameters"]["num_truncated"] == 0
    assert "x-truncated" not in response.headers


async def test_a_context_without_any_span_gets_the_empty_answer(every_task: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.tasks.question_answering.task import Answers, QuestionAnswering

    monkeypatch.setattr(QuestionAnswering, "decode", lambda *_: Answers([], 1.0))
    answer = await infer(every_task, "question-answering", tensor("question", "a"), tensor("context", "good"))
    assert data(answer) == {"answer": [""], "score": [0.0], "start": [0], "end": [0]}


# --- bytes


def packed(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def body_of(text: str, **parameters: Any) -> tuple[bytes, int]:
    tail = packed(text)
    one = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [one], "parameters": parameters}).encode()
    return head + tail, len(head)


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "application/json"])
async def test_bytes_go_in_and_come_out(service: Service, content_type: str | None) -> None:
    body, length = body_of("very good", binary_data_output=True)
    headers = {"Inference-Header-Content-Length": str(length)} | ({"Content-Type": content_type} if content_type else {})
    response = await service.client.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    assert "server-timing" in response.headers
    head = int(response.headers["inference-header-content-length"])
    outputs = json.loads(response.content[:head])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    assert sum(sizes) == len(response.content) - head
    assert response.content[head : head + sizes[0]] == packed("good") + packed("bad")


async def test_an_output_may_be_wanted_otherwise_than_all(service: Service) -> None:
    body = {"inputs": [tensor("text", "good")], "parameters": {"binary_data_output": True}}
    body["outputs"] = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "score"}]
    response = await service.client.post("/v2/models/tiny/infer", json=body)
    head = int(response.headers["inference-header-content-length"])
    label, score = json.loads(response.content[:head])["outputs"]
    assert label["data"] == ["good", "bad"]
    assert len(response.content) - head == score["parameters"]["binary_data_size"] == 8


async def test_json_without_a_content_type_is_read_of_tritons_client_alone(service: Service) -> None:
    body = json.dumps({"inputs": [tensor("text", "good")]}).encode()
    as_bytes = {"Content-Type": "application/octet-stream"}
    triton = {"User-Agent": "python/gevent-http-client-2.3.9"}
    for path in ("/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer"):
        for headers in (as_bytes, triton, {"Inference-Header-Content-Length": str(len(body))}):
            assert (await service.client.post(path, content=body, headers=headers)).status_code == 200
        for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {} if kind is None else {"Content-Type": kind}
            refused = await service.client.post(path, content=body, headers=headers)
            assert refused.status_code == 415
            assert refused.json() == {
                "error": f"Content-Type is {(kind or 'missing').partition(';')[0]}; send application/json"
            }
    for path in ("/v1/classify", "/models/tiny", "/predict", "/v2/models/tiny", "/v2/models/tiny/infer/more"):
        assert (await service.client.post(path, content=body)).status_code == 415
    with_header = {"Inference-Header-Content-Length": "3", "Content-Type": "application/octet-stream"}
    assert (await service.client.post("/v1/classify", content=body, headers=with_header)).status_code == 415


async def test_bytes_count_towards_the_limit_of_a_body(start: Any) -> None:
    async with start(max_body_bytes=1024) as service:
        caller = Caller(service.app, path="/v2/models/tiny/infer", **{"content-type": "application/octet-stream",
                        "inference-header-content-length": "10", "content-length": "1025"})  # fmt: skip
        await caller.task  # refused by what was announced: nothing was ever sent
        assert caller.status == 413


@pytest.mark.parametrize("length", ["-1", "many", "1.5", "100000", "10"])
async def test_a_length_of_the_json_that_cannot_be_is_named(service: Service, length: str) -> None:
    body, _ = body_of("good")
    headers = {"Inference-Header-Content-Length": length}
    response = await service.client.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert response.status_code == 422
    message = response.json()["error"].lower()
    assert message.startswith("inference-header-content-length: ") or (length == "10" and "not valid json" in message)


# --- what is refused

INVALID: list[tuple[str, str, dict[str, Any]]] = [
    ("inputs.text.1: must not be empty", "text-classification", {"inputs": [tensor("text", "good", " ")]}),
    (
        "inputs.text_pair.0: must not be empty",
        "text-classification",
        {"inputs": [tensor("text", "a"), tensor("text_pair", "")]},
    ),
    (
        "inputs.context.0: must not be empty",
        "question-answering",
        {"inputs": [tensor("question", "a"), tensor("context", " ")]},
    ),
    ("inputs.context: is required", "question-answering", {"inputs": [tensor("question", "a")]}),
    ("outputs: 'x' is not an output", "summarization", {"inputs": [tensor("text", "a")], "outputs": [{"name": "x"}]}),
    (
        "outputs.summary: is there twice",
        "summarization",
        {"inputs": [tensor("text", "a")], "outputs": [{"name": "summary"}, {"name": "summary"}]},
    ),
]
CLASSIFY, SUMMARIZE = "text-classification", "summarization"
PARAMETERS: list[tuple[str, str, Any]] = [
    (CLASSIFY, "top_k", 0), (CLASSIFY, "activation", "relu"), (CLASSIFY, "model", "tiny"), (CLASSIFY, "inputs", "a"),
    (CLASSIFY, "max_sentences", 1), (CLASSIFY, "sequence_id", 1), (CLASSIFY, "timeout", 0), (CLASSIFY, "timeout", True),
    (CLASSIFY, "timeout", "1"), (CLASSIFY, "binary_data_output", 1), (SUMMARIZE, "max_sentences", 0),
]  # fmt: skip


@pytest.mark.parametrize(("message", "model", "body"), INVALID, ids=[entry[0] for entry in INVALID])
async def test_what_is_wrong_is_named(every_task: Service, message: str, model: str, body: dict[str, Any]) -> None:
    response = await every_task.client.post(f"/v2/models/{model}/infer", json=body)
    assert response.status_code == 422
    assert message in response.json()["error"]


@pytest.mark.parametrize(("model", "name", "value"), PARAMETERS)
async def test_a_wrong_parameter_is_named(every_task: Service, model: str, name: str, value: Any) -> None:
    response = await send(every_task, model, tensor("text", "good"), parameters={name: value})
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"parameters.{name}: ")


async def test_an_answer_has_one_row_so_that_more_are_refused(every_task: Service) -> None:
    inputs = tensor("question", "a"), tensor("context", "good")
    response = await send(every_task, "question-answering", *inputs, parameters={"top_k": 2})
    assert response.json() == {"error": "parameters.top_k: is not a field that is known here"}


@pytest.mark.parametrize(("header", "expected"), [(None, 1500), ("2000000", 1500), ("1000000", 1000)])
async def test_the_earlier_of_both_deadlines_counts(
    gated_service: GatedService, monkeypatch: pytest.MonkeyPatch, header: str | None, expected: float
) -> None:
    seen: list[float] = []

    async def predict(items: Any, options: Any, deadline: float, priority: str, **_: Any) -> None:
        seen.append(deadline - time.monotonic())
        raise InvalidInput("enough")

    monkeypatch.setattr(gated_service.gated.deployment, "predict", predict)
    body = {"inputs": [tensor("text", "good")], "parameters": {"timeout": 1_500_000_000}}
    headers = {"X-Request-Timeout-Ms": header} if header else {}
    await gated_service.client.post("/v2/models/tiny/infer", json=body, headers=headers)
    assert expected - 100 < seen[0] <= expected


# --- parameters that clients send along


@pytest.mark.parametrize("hint", [{"content_type": "str"}, {"content_type": "np"}, {"headers": {"a": "b"}}, {"sequence_id": 3}])
async def test_a_tensors_parameters_that_say_nothing_else_are_ignored(service: Service, hint: dict[str, Any]) -> None:
    plain = data(await infer(service, "tiny", tensor("text", "good")))
    named = tensor("text", "good") | {"parameters": hint}
    assert data(await infer(service, "tiny", named)) == plain
    outputs = [{"name": name, "parameters": hint} for name in plain]
    assert data(await infer(service, "tiny", named, outputs=outputs, parameters={"content_type": "str"})) == plain


@pytest.mark.parametrize(
    "hint",
    [
        {"content_type": "base64"}, {"content_type": "datetime"}, {"content_type": 5}, {"content_type": []},
        {"shared_memory_region": "a"}, {"shared_memory_byte_size": 4}, {"classification": 2}, {"binary_data_size": -1},
    ],
)  # fmt: skip
async def test_those_that_say_something_else_are_refused(service: Service, hint: dict[str, Any]) -> None:
    response = await send(service, "tiny", tensor("text", "good") | {"parameters": hint})
    assert response.status_code == 422
    assert response.json()["error"].startswith("inputs.0.parameters")
    assert next(iter(hint)) in response.json()["error"]


@pytest.mark.parametrize("parameters", [{"content_type": "base64"}, {"content_type": []}, {"headers": {}}])
async def test_a_requests_parameters_are_options_and_a_mistyped_one_is_refused(service: Service, parameters: Any) -> None:
    response = await send(service, "tiny", tensor("text", "good"), parameters=parameters)
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"parameters.{next(iter(parameters))}: ")


async def test_options_that_do_not_go_together_are_named_as_parameters(every_task: Service) -> None:
    options = {"min_sentences": 3, "max_sentences": 1}
    response = await send(every_task, "summarization", tensor("text", "good film."), parameters=options)
    assert response.json()["error"].startswith("parameters: min_sentences is 3")
