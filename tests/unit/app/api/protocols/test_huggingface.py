"""`POST /models/{name}`: shapes by the model's task, by how many inputs there are, and for Hugging Face's own clients."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.protocols.huggingface import parameters_model, parse_options, place_of, request_model
from app.tasks.question_answering.spec import SPEC
from app.tasks.question_answering.task import AnswerOptions
from app.tasks.registry import installed_tasks
from tests.support.requests import Service

TEXT, QUESTION = (
    "The film was good.",
    {"question": "Was the film good?", "context": "The film was bad. It was a very good film."},
)
INPUTS: dict[str, Any] = {"text-classification": TEXT, "question-answering": QUESTION, "summarization": "Good film. Bad film."}
CLIENTS = ["unknown/None; hf_hub/0.36.2; python/3.11.7", "@huggingface/inference/4.13.0"]
every_task_name = pytest.mark.parametrize("task", INPUTS)


async def ask(service: Service, model: str, inputs: Any, client: str | None = None, **parameters: Any) -> Any:
    headers = {"User-Agent": client} if client else {}
    body = {"inputs": inputs, "parameters": parameters}
    response = await service.client.post(f"/models/{model}", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


async def plain_error_response(service: Service, model: str, body: Any) -> str:
    response = await service.client.post(f"/models/{model}", json=body)
    assert response.status_code == 422, response.text
    return str(response.json()["error"])


def check_one(task: str, answer: Any) -> None:
    """The specification of the task, by hand."""
    if task == "summarization":
        assert list(answer) == ["summary_text"]
        assert isinstance(answer["summary_text"], str)
        return
    keys = {"text-classification": ["label", "score"], "question-answering": ["answer", "score", "start", "end"]}[task]
    assert answer
    assert all(list(entry) == keys for entry in answer)
    assert [entry["score"] for entry in answer] == sorted((entry["score"] for entry in answer), reverse=True)


@every_task_name
async def test_one_input_gets_the_answer_of_the_specification(every_task: Service, task: str) -> None:
    check_one(task, await ask(every_task, task, INPUTS[task]))


@every_task_name
async def test_a_list_gets_a_list_of_them_even_of_one(every_task: Service, task: str) -> None:
    alone = await ask(every_task, task, INPUTS[task])
    for count in (1, 3):
        several = await ask(every_task, task, [INPUTS[task]] * count)
        assert len(several) == count
        for entry in several:
            check_one(task, entry)
            assert str(entry)[:30] == str(alone)[:30]


@pytest.mark.parametrize("client", CLIENTS)
async def test_hugging_faces_clients_get_the_shape_that_they_read(every_task: Service, client: str) -> None:
    for task in ("text-classification", "summarization"):
        plain = await ask(every_task, task, INPUTS[task])
        assert await ask(every_task, task, INPUTS[task], client) == [plain]
        assert await ask(every_task, task, [INPUTS[task]], client) == [plain]
    task = "question-answering"
    plain = await ask(every_task, task, QUESTION)
    assert [await ask(every_task, task, QUESTION, client)] == plain
    assert [await ask(every_task, task, QUESTION, client, top_k=1)] == plain
    several = await ask(every_task, task, QUESTION, client, top_k=2)
    assert several == await ask(every_task, task, QUESTION, top_k=2)
    assert len(several) == 2


async def test_caches_are_told_that_the_shape_depends_on_the_client(every_task: Service) -> None:
    response = await every_task.client.post("/models/summarization", json={"inputs": "Good film."})
    assert response.headers["vary"] == "User-Agent"


async def test_a_pair_may_be_classified(every_task: Service) -> None:
    pair = await ask(every_task, "text-classification", {"text": "good", "text_pair": "bad"})
    assert pair != await ask(every_task, "text-classification", "good")


# --- parameters


async def test_labels_may_be_counted_and_scored_otherwise(every_task: Service) -> None:
    (best,) = await ask(every_task, "text-classification", "good", top_k=1)
    assert best["label"] == "good"
    for function, kind in (("softmax", "softmax"), ("sigmoid", "sigmoid"), ("none", "none")):
        labels = await ask(every_task, "text-classification", "good", function_to_apply=function)
        native = await every_task.classify("good", activation=kind)
        assert labels == native.json()["results"][0]["labels"]


def test_parameters_of_answers_have_other_names_here() -> None:
    given = {"top_k": 5, "max_answer_len": 2, "doc_stride": 0, "handle_impossible_answer": True, "align_to_words": False,
             "max_seq_len": 64, "max_question_len": 7}  # fmt: skip
    request = parameters_model([SPEC.hugging_face]).model_validate(given)
    assert parse_options(SPEC, SPEC.hugging_face, request) == AnswerOptions(
        top_k=5,
        max_answer_tokens=2,
        stride=0,
        allow_no_answer=True,
        max_window_tokens=64,
        max_question_tokens=7,
        align_to_words=False,
    )
    unset = parameters_model([SPEC.hugging_face]).model_validate(dict.fromkeys(given))
    assert parse_options(SPEC, SPEC.hugging_face, unset) == AnswerOptions()


async def test_parameters_of_answers_are_obeyed(every_task: Service) -> None:
    item = {"question": "Was the film good?", "context": "The film was bad. It was a very good film."}
    native = (await every_task.ask("answer", item, top_k=5, max_answer_tokens=2)).json()["results"][0]["answers"]
    assert await ask(every_task, "question-answering", item, top_k=5, max_answer_len=2) == native
    assert len(native) > 1


async def test_a_question_that_was_cut_is_told(every_task: Service) -> None:
    item = {"question": "was " * 6, "context": "The film was bad."}
    body = {"inputs": item, "parameters": {"max_question_len": 2}}
    response = await every_task.client.post("/models/question-answering", json=body)
    assert response.headers["x-truncated"] == "1"


@pytest.mark.parametrize(
    ("truncation", "is_cut"),
    [(None, False), ("do_not_truncate", False), ("only_second", False), ("longest_first", True), ("only_first", True)],
)
async def test_a_document_is_read_whole_unless_it_may_be_cut(every_task: Service, truncation: str | None, is_cut: bool) -> None:
    body = {"inputs": "Good film. " * 30, "parameters": {"truncation": truncation, "clean_up_tokenization_spaces": True}}
    response = await every_task.client.post("/models/summarization", json=body)
    assert response.status_code == 200
    assert response.headers.get("x-truncated") == ("1" if is_cut else None)
    assert "x-ignored-parameters" not in response.headers


async def test_a_long_text_is_classified_whole(every_task: Service) -> None:
    text = "bad film " * 30 + "good " * 300
    response = await every_task.client.post("/models/text-classification", json={"inputs": text})
    assert "x-truncated" not in response.headers
    native = (await every_task.ask("classify", text, truncation="window")).json()["results"][0]["labels"]
    assert response.json() == native


async def test_parameters_of_generating_are_taken_and_told_to_be_ignored(every_task: Service) -> None:
    body = {"inputs": "Good film.", "parameters": {"generate_parameters": {"max_new_tokens": 1}}}
    response = await every_task.client.post("/models/summarization", json=body)
    assert response.headers["x-ignored-parameters"] == "generate_parameters"
    assert response.json() == {"summary_text": "Good film."}


async def test_options_of_the_hosted_api_are_taken(every_task: Service) -> None:
    body = {"inputs": TEXT, "parameters": None, "options": {"use_cache": False, "wait_for_model": True}}
    assert (await every_task.client.post("/models/text-classification", json=body)).status_code == 200


INVALID: list[tuple[str, Any, str]] = [
    ("text-classification", {"inputs": ""}, "inputs: must not be empty"),
    ("text-classification", {"inputs": []}, "inputs: must not be empty"),
    ("text-classification", {"inputs": ["good", ""]}, "inputs.1: must not be empty"),
    ("text-classification", {"inputs": [{"text": "a", "text_pair": " "}]}, "inputs.0.text_pair: must not be empty"),
    ("text-classification", {"inputs": "a", "parameters": {"foo": 1}}, "parameters.foo: is not a field that is known here"),
    ("text-classification", {"inputs": "a", "model": "b"}, "model: is not a field that is known here"),
    ("text-classification", {"inputs": "a", "options": {"foo": 1}}, "options.foo: is not a field that is known here"),
    (
        "text-classification",
        {"inputs": "a", "parameters": {"top_k": 0}},
        "parameters.top_k: should be greater than or equal to 1",
    ),
    (
        "text-classification",
        {"inputs": "a", "parameters": {"doc_stride": 3}},
        "parameters.doc_stride: is not a parameter of text-classification, which has function_to_apply, top_k",
    ),
    (
        "text-classification",
        {"inputs": QUESTION},
        "inputs: should be a text or an object with `text` and `text_pair`, for this model does text-classification",
    ),
    ("question-answering", {"inputs": QUESTION | {"context": ""}}, "inputs.context: must not be empty"),
    ("question-answering", {"inputs": [QUESTION, QUESTION | {"question": " "}]}, "inputs.1.question: must not be empty"),
    ("question-answering", {"inputs": {"question": "a"}}, "inputs.context: is required"),
    (
        "question-answering",
        {"inputs": ["a"]},
        "inputs.0: should be an object with `question` and `context`, for this model does question-answering",
    ),
    (
        "question-answering",
        {"inputs": QUESTION, "parameters": {"top_k": 101}},
        "parameters.top_k: should be less than or equal to 100",
    ),
    (
        "question-answering",
        {"inputs": QUESTION, "parameters": {"align_to_words": "yes"}},
        "parameters.align_to_words: should be a valid boolean",
    ),
    (
        "question-answering",
        {"inputs": QUESTION, "parameters": {"max_seq_len": 63}},
        "parameters.max_seq_len: should be greater than or equal to 64",
    ),
    ("summarization", {"inputs": {"text": "a"}}, "inputs: should be a text, for this model does summarization"),
    ("summarization", {"inputs": ["a", {"text": "a"}]}, "inputs.1: should be a text, for this model does summarization"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "message"), INVALID, ids=[message for *_, message in INVALID])
async def test_what_is_invalid_is_named(every_task: Service, model: str, body: Any, message: str) -> None:
    assert await plain_error_response(every_task, model, body) == message


async def test_the_language_of_a_document_decides_where_its_sentences_end(every_task: Service) -> None:
    body = {"inputs": "Am 3. Quartal.", "parameters": {"language": "de"}}
    response = await every_task.client.post("/models/summarization", json=body)
    assert response.json() == {"summary_text": "Am 3. Quartal."}
    for model, inputs in (("summarization", "a"), ("text-classification", "a")):
        body = {"inputs": inputs, "parameters": {"language": "german" if model == "summarization" else "de"}}
        response = await every_task.client.post(f"/models/{model}", json=body)
        assert response.status_code in (400, 422)
        assert "parameters.language" in response.text


def test_an_option_that_a_task_refuses_is_named_as_the_parameter_that_it_is() -> None:
    spec = installed_tasks()["feature-extraction"]
    codec = spec.hugging_face
    assert codec is not None
    request = request_model([spec], [codec]).model_validate({"inputs": ["a", {"source_sentence": "b", "sentences": ["c"]}]})
    assert place_of(request, codec, False, 1, "prompt_name") == "parameters.prompt_name"
    assert place_of(request, codec, False, 1, "prompt_name.3") == "parameters.prompt_name.3"
    assert place_of(request, codec, False, 1, "sentences.0") == "inputs.1.sentences.0"
    assert place_of(request, codec, True, 1, "sentences.0") == "inputs.1"
