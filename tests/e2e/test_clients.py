"""Clients that people already have, unchanged, against the models of this repository: the real libraries, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from jsonschema import Draft6Validator, Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT6
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.http.aio import InferenceServerClient as AsyncInferenceServerClient
from tritonclient.utils import InferenceServerException

from app.tasks.registry import installed_tasks
from tests.support.live_service import ROOT, LiveService

MODELS = ROOT / "models"
SPECS = ROOT.parent / "shared" / "specs"
with_specs = pytest.mark.skipif(not SPECS.is_dir(), reason="the protocols' own files are not beside this checkout")

CONTEXT = "The portrait was painted by Maria Lopez in 1899 and hangs in Madrid. 🙂 It was stolen in 1911."
DOCUMENT = (
    "The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could fall."
    " About forty traders will move to a tent on the station square by March. Some of them have sold fish there for three"
    " generations. The council expects the repair to cost four million euros and to take two years."
)
LONG = "They sat at the table and talked about the weather while the train went by. " * 60
HUGGING_FACE_EXAMPLES = {
    spec.hugging_face.example.model: spec.hugging_face.example.value
    for spec in installed_tasks().values()
    if spec.hugging_face is not None and (MODELS / spec.hugging_face.example.model).is_dir()
}
OPEN_INFERENCE_EXAMPLES = {
    spec.open_inference.example.model: spec.open_inference.example.value
    for spec in installed_tasks().values()
    if spec.open_inference is not None and (MODELS / spec.open_inference.example.model).is_dir()
}


@pytest.fixture
def client(shipped_service: LiveService) -> Iterator[httpx.Client]:
    with shipped_service.client() as made:
        yield made


# --- Hugging Face


def inference(shipped_service: LiveService, model: str, **options: Any) -> InferenceClient:
    return InferenceClient(model=f"{shipped_service.url}/models/{model}", **options)


def test_inference_client_classifies(shipped_service: LiveService) -> None:
    labels = inference(shipped_service, "sentiment").text_classification("A warm, funny film.")
    assert isinstance(labels, list)
    assert [label.label for label in labels] == ["positive", "negative"]
    assert labels[0].score > 0.9
    assert sum(label.score for label in labels) == pytest.approx(1)


def test_inference_client_classifies_with_its_options(shipped_service: LiveService) -> None:
    (best,) = inference(shipped_service, "sentiment").text_classification("Dreadful.", top_k=1, function_to_apply="none")
    assert best.label == "negative"
    assert best.score > 1  # a logit


@pytest.mark.parametrize("form", ["model", "base_url", "call"])
def test_inference_client_may_be_told_the_model_in_three_ways(shipped_service: LiveService, form: str) -> None:
    url = f"{shipped_service.url}/models/sentiment"
    if form == "call":
        labels = InferenceClient().text_classification("Great.", model=url)
    else:
        labels = InferenceClient(**{form: url}).text_classification("Great.")  # type: ignore[arg-type]
    assert labels[0].label == "positive"


def test_inference_client_answers_questions(shipped_service: LiveService) -> None:
    answer: Any = inference(shipped_service, "qa").question_answering(question="Who painted it?", context=CONTEXT)
    assert answer.answer == "Maria Lopez"
    assert CONTEXT[answer.start : answer.end] == answer.answer
    assert 0.5 < answer.score <= 1


def test_inference_client_answers_with_all_of_its_options(shipped_service: LiveService) -> None:
    answers: Any = inference(shipped_service, "qa").question_answering(
        question="When was it stolen?", context=CONTEXT, top_k=3, max_answer_len=4, max_seq_len=64, max_question_len=8,
        doc_stride=4, handle_impossible_answer=True, align_to_words=True,
    )  # fmt: skip
    assert isinstance(answers, list)
    assert 1 < len(answers) <= 3
    assert answers[0].answer == "1911"
    assert all(CONTEXT[answer.start : answer.end] == answer.answer for answer in answers)


def test_inference_client_summarizes(shipped_service: LiveService) -> None:
    summary = inference(shipped_service, "summary").summarization(
        DOCUMENT, truncation="only_first", clean_up_tokenization_spaces=True
    )
    assert summary.summary_text
    assert all(f"{sentence}." in DOCUMENT for sentence in summary.summary_text.rstrip(".").split(". "))


def test_what_a_model_that_generates_nothing_cannot_obey_is_told(client: httpx.Client) -> None:
    body = {"inputs": DOCUMENT, "parameters": {"generate_parameters": {"max_new_tokens": 5}}}
    response = client.post("/models/summary", json=body)
    assert response.headers["x-ignored-parameters"] == "generate_parameters"
    assert response.json() == client.post("/models/summary", json={"inputs": DOCUMENT}).json()


def test_the_asynchronous_inference_client_works_as_well(shipped_service: LiveService) -> None:
    async def ask() -> list[Any]:
        asking = AsyncInferenceClient(model=f"{shipped_service.url}/models/sentiment")
        return list(await asyncio.gather(*[asking.text_classification(text) for text in ("Great.", "Dreadful.")]))

    assert [labels[0].label for labels in asyncio.run(ask())] == ["positive", "negative"]


def test_inference_client_is_told_what_was_wrong(shipped_service: LiveService) -> None:
    with pytest.raises(HfHubHTTPError, match="inputs: must not be empty") as caught:
        inference(shipped_service, "sentiment").text_classification(" ")
    assert caught.value.response is not None
    assert caught.value.response.status_code == 422
    with pytest.raises(HfHubHTTPError, match="model 'other' is not loaded"):
        inference(shipped_service, "other").text_classification("Great.")
    with pytest.raises(HfHubHTTPError, match="for this model does question-answering"):
        inference(shipped_service, "qa").summarization("Great.")


def schema_of(task: str) -> Draft6Validator:
    folder = SPECS / "hf_tasks"
    common = json.loads((folder / "common-definitions.json").read_text())
    schema = json.loads((folder / task / "output.json").read_text())
    registry: Registry[Any] = Registry().with_resource(common["$id"], Resource(common, DRAFT6))
    return Draft6Validator(schema, registry=registry)


@with_specs
@pytest.mark.parametrize(
    ("model", "task"),
    [("sentiment", "text-classification"), ("qa", "question-answering"), ("summary", "summarization")],
)
def test_answers_are_valid_by_the_specification_of_their_task(client: httpx.Client, model: str, task: str) -> None:
    body = HUGGING_FACE_EXAMPLES[model]
    schema_of(task).validate(client.post(f"/models/{model}", json=body).json())
    several = client.post(f"/models/{model}", json={"inputs": [body["inputs"]] * 2}).json()
    assert len(several) == 2
    for entry in several:
        schema_of(task).validate(entry)
    assert not schema_of(task).is_valid(5)


@with_specs
def test_vectors_and_similarities_are_valid_by_the_specifications_as_its_clients_get_them(client: httpx.Client) -> None:
    headers = {"User-Agent": "unknown/None; hf_hub/0.36.2"}
    compared = {"inputs": {"source_sentence": "A lost parcel.", "sentences": ["A missing package.", "A recipe."]}}
    for task, body in (("feature-extraction", {"inputs": "A lost parcel."}), ("sentence-similarity", compared)):
        schema_of(task).validate(client.post("/models/embed", json=body, headers=headers).json())


def test_inference_client_reads_vectors_and_similarities(shipped_service: LiveService) -> None:
    asking = inference(shipped_service, "embed")
    vector = asking.feature_extraction("The parcel never arrived.", normalize=True)
    assert vector.shape == (1, 384)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    others = ["My order was not delivered.", "A recipe for apple pie."]
    near, far = asking.sentence_similarity("The parcel never arrived.", other_sentences=others)
    assert near > far + 0.2


# --- OpenAI


def test_inference_client_chooses_among_labels_of_its_own(shipped_service: LiveService) -> None:
    text, labels = "The battery is empty after an hour, and I want my money back.", ["complaint", "recipe", "weather"]
    asking = inference(shipped_service, "embed")
    elements = asking.zero_shot_classification(text, labels, hypothesis_template="This text is a {}.")
    assert elements[0].label == "complaint"
    assert sum(element.score for element in elements) == pytest.approx(1)
    (alone,) = asking.zero_shot_classification(text, ["complaint"], multi_label=True)
    assert 0 < alone.score < 1


def test_openai_client_reads_vectors_in_both_encodings_and_is_told_what_is_wrong(shipped_service: LiveService) -> None:
    openai = pytest.importorskip("openai")
    texts = ["The parcel never arrived.", "A recipe for apple pie."]
    with openai.OpenAI(base_url=f"{shipped_service.url}/v1", api_key="none") as asking:
        answer = asking.embeddings.create(model="embed", input=texts)  # as base64, which it asks for by itself
        numbers = asking.embeddings.create(model="embed", input=texts, encoding_format="float")
        assert np.allclose([entry.embedding for entry in answer.data], [entry.embedding for entry in numbers.data], atol=1e-6)
        assert (len(answer.data[0].embedding), answer.model) == (384, "embed/1")
        assert answer.usage.prompt_tokens == numbers.usage.total_tokens > 8
        with pytest.raises(openai.BadRequestError, match="it was not trained for shorter ones"):
            asking.embeddings.create(model="embed", input=texts, dimensions=64)
        assert "embed" in [model.id for model in asking.models.list()]
        with pytest.raises(openai.NotFoundError):
            asking.embeddings.create(model="nobody", input=texts)


# --- Open Inference Protocol


@pytest.fixture
def triton(shipped_service: LiveService) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{shipped_service.port}") as made:
        yield made


def tensor(name: str, *texts: object, shape: list[int] | None = None, binary: bool = True) -> InferInput:
    made = InferInput(name, shape or [len(texts)], "BYTES")
    made.set_data_from_numpy(np.array(texts, object).reshape(shape or [-1]), binary_data=binary)
    return made


def texts_of(result: InferResult, name: str) -> list[Any]:
    array = result.as_numpy(name)
    assert array is not None
    return np.vectorize(lambda entry: entry.decode() if isinstance(entry, bytes) else entry, otypes=[object])(array).tolist()  # type: ignore[no-any-return]


def test_triton_client_finds_the_service_alive_and_ready(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("sentiment")
    assert triton.is_model_ready("sentiment", "2")
    assert not triton.is_model_ready("sentiment", "3")
    assert not triton.is_model_ready("other")


def test_triton_client_reads_the_metadata(triton: InferenceServerClient) -> None:
    server = triton.get_server_metadata()
    assert server["name"] == "hooper"
    assert "binary_tensor_data" in server["extensions"]
    model = triton.get_model_metadata("qa")
    assert model["versions"] == ["2"]
    assert [entry["name"] for entry in model["inputs"]] == ["question", "context"]
    assert {entry["name"]: entry["datatype"] for entry in model["outputs"]} == {
        "answer": "BYTES", "score": "FP32", "start": "INT64", "end": "INT64",
    }  # fmt: skip
    config = triton.get_model_config("sentiment", "2")
    assert [entry["name"] for entry in config["input"]] == ["text", "text_pair"]


@pytest.mark.parametrize("binary_in", [True, False], ids=["bytes in", "json in"])
@pytest.mark.parametrize("binary_out", [None, True, False], ids=["default out", "bytes out", "json out"])
def test_triton_client_classifies_several_texts(
    triton: InferenceServerClient, binary_in: bool, binary_out: bool | None
) -> None:
    outputs = None if binary_out is None else [InferRequestedOutput(name, binary_out) for name in ("label", "score")]
    asked = [tensor("text", "Wunderschön! A warm, funny film. 🙂", b"Dreadful.", binary=binary_in)]
    result = triton.infer("sentiment", asked, outputs=outputs, request_id="42")
    assert texts_of(result, "label") == [["positive", "negative"], ["negative", "positive"]]
    scores = result.as_numpy("score")
    assert scores is not None
    assert (scores.shape, scores.dtype) == ((2, 2), np.float32)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert result.get_response()["id"] == "42"


def test_triton_client_takes_the_options_of_the_native_route(triton: InferenceServerClient) -> None:
    result = triton.infer("sentiment", [tensor("text", "Great.")], parameters={"top_k": 1, "activation": "none"})
    scores = result.as_numpy("score")
    assert scores is not None
    assert scores.shape == (1, 1)
    assert scores[0, 0] > 1


def test_triton_client_asks_for_chosen_outputs_of_a_version(triton: InferenceServerClient) -> None:
    asked = [tensor("question", "Who painted it?", "When was it stolen?"), tensor("context", CONTEXT, CONTEXT)]
    wanted = [InferRequestedOutput("end"), InferRequestedOutput("answer", binary_data=False), InferRequestedOutput("start")]
    result = triton.infer("qa", asked, model_version="2", outputs=wanted)
    assert [entry["name"] for entry in result.get_response()["outputs"]] == ["end", "answer", "start"]
    answers, starts, ends = (texts_of(result, name) for name in ("answer", "start", "end"))
    assert answers == ["Maria Lopez", "1911"]
    assert [CONTEXT[start:end] for start, end in zip(starts, ends, strict=True)] == answers
    assert result.as_numpy("score") is None


def test_triton_client_may_send_a_column(triton: InferenceServerClient) -> None:
    result = triton.infer("summary", [tensor("text", DOCUMENT, shape=[1, 1])], parameters={"max_sentences": 1})
    (summary,) = texts_of(result, "summary")
    assert summary in DOCUMENT
    assert summary.count(".") == 1


def test_triton_client_asks_in_the_background(triton: InferenceServerClient) -> None:
    asked = [triton.async_infer("sentiment", [tensor("text", text)]) for text in ("Great.", "Dreadful.")]
    assert [texts_of(entry.get_result(), "label")[0][0] for entry in asked] == ["positive", "negative"]


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "json"])
def test_the_asynchronous_triton_client_works_as_well(shipped_service: LiveService, binary: bool) -> None:
    async def ask() -> list[str]:
        async with AsyncInferenceServerClient(f"127.0.0.1:{shipped_service.port}") as asking:
            assert await asking.is_server_ready()
            outputs = [InferRequestedOutput("label", binary_data=binary)]
            texts = [[tensor("text", text, binary=binary)] for text in ("Great.", "Dreadful.")]
            results = await asyncio.gather(*[asking.infer("sentiment", text, outputs=outputs) for text in texts])
            return [texts_of(result, "label")[0][0] for result in results]

    assert asyncio.run(ask()) == ["positive", "negative"]


def test_a_text_that_was_cut_is_told(triton: InferenceServerClient) -> None:
    result = triton.infer("sentiment", [tensor("text", LONG, "Great.")], parameters={"truncation": "truncate"})
    assert result.get_response()["parameters"]["num_truncated"] == 1
    read = triton.infer("sentiment", [tensor("text", LONG)])
    assert read.get_response()["parameters"]["num_truncated"] == 0


@pytest.mark.parametrize(
    ("model", "inputs", "options", "status", "message"),
    [
        ("other", [tensor("text", "a")], {}, "404", "model 'other' is not loaded"),
        ("sentiment", [tensor("text", "a")], {"model_version": "9"}, "404", "model 'sentiment/9' is not loaded"),
        ("sentiment", [tensor("words", "a")], {}, "422", "'words' is not an input of this model, which has text, text_pair"),
        ("sentiment", [tensor("text", "a", " ")], {}, "422", "inputs.text.1: must not be empty"),
        ("sentiment", [tensor("text", b"\xff")], {}, "422", "inputs.text.0: is not UTF-8"),
        ("qa", [tensor("question", "a"), tensor("context", "a", "b")], {}, "422", "question has 1, context has 2"),
        ("sentiment", [tensor("text", "a")], {"priority": 1}, "422", "parameters.priority: is not a field"),
        ("sentiment", [tensor("text", LONG)], {"parameters": {"truncation": "error"}}, "413", "more than 512 tokens"),
        ("sentiment", [tensor("text", "a")], {"outputs": [InferRequestedOutput("x")]}, "422", "'x' is not an output"),
        ("sentiment", [tensor("text", "a")], {"request_compression_algorithm": "gzip"}, "415", "Content-Encoding is gzip"),
        ("sentiment", [tensor("text", "a" * 3_000_000)], {}, "413", "the body exceeds"),
    ],
)  # fmt: skip
def test_triton_client_is_told_what_was_wrong(
    triton: InferenceServerClient, model: str, inputs: list[InferInput], options: dict[str, Any], status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(model, inputs, **options)
    assert caught.value.status() == status
    assert message in caught.value.message()


def test_triton_client_reads_vectors(triton: InferenceServerClient) -> None:
    result = triton.infer("embed", [tensor("text", "The parcel never arrived.", "A recipe.", shape=[2])])
    vectors = result.as_numpy("embedding")
    assert (vectors.shape, vectors.dtype) == ((2, 384), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)


# --- text-embeddings-inference


def tei_schema(name: str) -> Draft202012Validator:
    document = json.loads((SPECS / "text_embeddings_inference" / "openapi.json").read_text())
    components = json.loads(json.dumps(document["components"]).replace("#/components/", "#/$defs/"))
    return Draft202012Validator({"$ref": f"#/$defs/schemas/{name}", "$defs": components})


@with_specs
def test_text_embeddings_answers_are_valid_by_its_openapi_file(client: httpx.Client) -> None:
    asked: list[Any] = ["Great.", ["Great.", "Dreadful."], [["Great."], ["Great.", "Dreadful."]]]
    for inputs in asked:
        tei_schema("PredictRequest").validate({"inputs": inputs})
        tei_schema("PredictResponse").validate(client.post("/predict", json={"inputs": inputs}).json())
    info = {key: value for key, value in client.get("/info").json().items() if value is not None}
    tei_schema("Info").validate(info)
    for wrong in (["a"], ["a", "b", "c"], [], "", 5, LONG):
        tei_schema("ErrorResponse").validate(client.post("/predict", json={"inputs": wrong}).json())


@with_specs
def test_text_embeddings_vectors_are_valid_by_its_openapi_file(client: httpx.Client) -> None:
    for inputs in ("A lost parcel.", ["A lost parcel.", "A recipe."], [[101, 102], [103]]):
        tei_schema("EmbedRequest").validate({"inputs": inputs})
        tei_schema("EmbedResponse").validate(client.post("/embed", json={"inputs": inputs}).json())
        tei_schema("EmbedAllRequest").validate({"inputs": inputs})
        tei_schema("EmbedAllResponse").validate(client.post("/embed_all", json={"inputs": inputs}).json())
    body = {"inputs": {"source_sentence": "A lost parcel.", "sentences": ["A missing package.", "A recipe."]}}
    tei_schema("SimilarityRequest").validate(body)
    tei_schema("SimilarityResponse").validate(client.post("/similarity", json=body).json())
    tei_schema("ErrorResponse").validate(client.post("/embed", json={"inputs": LONG * 2}).json())


def test_text_embeddings_tells_a_pair_from_a_batch(client: httpx.Client) -> None:
    pair = client.post("/predict", json={"inputs": ["Great.", "Dreadful."]}).json()
    native = client.post("/v1/classify", json={"inputs": {"text": "Great.", "text_pair": "Dreadful."}}).json()
    expected = {entry["label"]: entry["score"] for entry in native["results"][0]["labels"]}
    assert {entry["label"]: entry["score"] for entry in pair} == pytest.approx(expected, abs=1e-4)
    batch = client.post("/predict", json={"inputs": [["Great."], ["Dreadful."]]}).json()
    assert [labels[0]["label"] for labels in batch] == ["positive", "negative"]


def test_text_embeddings_cuts_only_where_it_may_and_where_it_is_told(client: httpx.Client) -> None:
    text = "It was wonderful. " + LONG * 2 + " It was dreadful."
    refused = client.post("/predict", json={"inputs": text})
    assert refused.status_code == 413
    assert refused.json()["error_type"] == "Validation"

    def best(**options: Any) -> str:
        answer = client.post("/predict", json={"inputs": text, "truncate": True, **options})
        assert answer.headers["x-truncated"] == "1"
        return str(answer.json()[0]["score"])

    assert best() == best(truncation_direction="Right") != best(truncation_direction="Left")


# --- the docs page


def test_the_examples_of_the_docs_page_run_on_the_shipped_models(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert (
        set(HUGGING_FACE_EXAMPLES)
        == set(OPEN_INFERENCE_EXAMPLES)
        == {"sentiment", "qa", "summary", "embed", "ner", "translate"}
    )
    for path in ("/models/{name}", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        examples = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for name, example in examples.items():
            if not (MODELS / name).is_dir():  # of a task of which no model is shipped
                continue
            version = client.get(f"/v1/models/{name}").json()["version"]
            response = client.post(path.format(name=name, version=version), json=example["value"])
            assert response.status_code == 200, response.text
    for example in schema["components"]["schemas"]["PredictRequest"]["examples"]:
        assert client.post("/predict", json=example).status_code == 200
