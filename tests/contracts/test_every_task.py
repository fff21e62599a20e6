"""What every task does, on every surface of the service. A task that passes is done; what it cannot do, it says in words."""

from __future__ import annotations

import re
from typing import Any, get_args
from urllib.parse import urljoin

import pytest
from pydantic import TypeAdapter

from app.cli.formatting import as_columns
from app.core.errors import InvalidArtefact
from app.core.manifest import read_manifest
from app.data import Input
from app.serving.explaining import Explainable
from app.tasks.registry import drop_ins
from app.tasks.schemas import as_list, items_field_of
from app.tasks.spec import Served, TaskSpec
from tests.contracts.conftest import World
from tests.support.tiny_model import GOLDEN_TEXTS, body_of, text_for, tiny_tokenizer

JSON = "application/json"


def item_of(spec: TaskSpec, text: str = GOLDEN_TEXTS[0]) -> Any:
    """An item as protocols take it: a text by itself, or its fields."""
    text = text_for(spec, text)
    fields = {name: text for name, field in spec.fields.items() if field.required}
    return text if list(fields) == ["text"] else fields


def own_routes(spec: TaskSpec) -> list[Served]:
    """Those that take the task's own items; what adapts others to it has tests of its own."""
    return [served for served in spec.routes if not served.is_adapted]


def built(spec: TaskSpec, world: World, **options: Any) -> Any:
    """The task of its model, with these task options besides."""
    manifest = read_manifest(world.models / spec.name / "1")
    return spec.build(tiny_tokenizer(has_mask=True), {**manifest.task_options, **options}, manifest.decoder)


def is_explainable(spec: TaskSpec, world: World) -> bool:
    return isinstance(built(spec, world), Explainable)


# --- natively


def test_its_model_is_loaded_and_answers_as_published(world: World, spec: TaskSpec) -> None:
    """The golden requests of a model are replayed when it is loaded."""
    (model,) = [model for model in world.client.get("/v1/models").json()["models"] if model["name"] == spec.name]
    assert model["task"] == spec.name
    assert world.client.get("/health/ready").json()["failed"] == []


def test_it_answers_every_item_of_a_list_in_its_place(world: World, spec: TaskSpec) -> None:
    for served in own_routes(spec):
        answer = world.post(f"/{served.route.path}", body_of(spec, GOLDEN_TEXTS, model=spec.name))
        assert answer["model"] == {"name": spec.name, "version": 1}
        assert len(answer["results"]) == len(GOLDEN_TEXTS)
        for result in answer["results"]:
            served.route.result.model_validate(result)
            assert result["num_tokens"] > 1
            assert not result["truncated"]
        alone = world.post(f"/{served.route.path}", body_of(spec, GOLDEN_TEXTS[:1], model=spec.name))
        assert alone["results"][0] in answer["results"]
        if not served.route.is_whole:
            assert alone["results"] == answer["results"][:1]


def test_an_item_that_is_none_gets_an_error_in_its_place(world: World, spec: TaskSpec) -> None:
    body = body_of(spec, [GOLDEN_TEXTS[0], " "], model=spec.name)
    field = items_field_of(spec.route.request)
    good, blank = body[field]
    results = world.post(f"/{spec.route.path}", {**body, field: [blank, 7, {"nobody": "knows"}, good]})["results"]
    failed = [result for result in results if "error" in result]
    assert len(failed) == 3
    assert all(result["error"]["detail"] for result in failed)
    if spec.route.is_whole:  # a ranking has them behind what was answered, and says which they are
        assert [result["index"] for result in results] == [3, 0, 1, 2]
    else:
        assert "error" not in results[3]


@pytest.mark.parametrize("body", [{}, {"inputs": []}, {"inputs": 7}, {"inputs": "a", "nonsense": 1}, {"inputs": {}}])
def test_a_body_that_is_none_is_refused_in_words(world: World, spec: TaskSpec, body: dict[str, Any]) -> None:
    assert world.post(f"/{spec.route.path}", body, 422)["detail"]


def test_a_long_text_is_read_whole_cut_or_refused(world: World, spec: TaskSpec) -> None:
    path, field = f"/{spec.route.path}", items_field_of(spec.route.request)
    # a text of one sentence, where sentences are read one by one
    long = "The film was very good " * 30 if spec.is_generative else "The film was very good . " * 60
    body = body_of(spec, [long], model=spec.name)
    (cut,) = world.post(path, {**body, "truncation": "truncate"})["results"]
    assert cut["truncated"]
    if "window" in get_args(spec.route.request.model_fields["truncation"].annotation):
        (read,) = world.post(path, {**body, "truncation": "window"})["results"]
        assert read["num_tokens"] > cut["num_tokens"]
    if spec.route.is_whole:
        (refused,) = world.post(path, {**body, "truncation": "error"})["results"]
        assert "truncation" in refused["error"]["detail"]
    else:
        alone = {**body, field: body[field][0], "truncation": "error"}
        assert "truncation" in world.post(path, alone, 413)["detail"]


def test_its_examples_run_as_they_stand(world: World, spec: TaskSpec) -> None:
    for served in own_routes(spec):
        examples = served.route.request.model_config["json_schema_extra"]["examples"]  # type: ignore[call-overload,index]
        assert examples
        is_first = world.tasks.serving(served.route.path)[0] == spec.name
        for example in examples:
            if spec.is_generative and not is_first:  # options of a model that takes sentences are none of one that writes
                example = {"inputs": example["inputs"]}
            results = world.post(f"/{served.route.path}", {**example, "model": spec.name})["results"]
            assert all("error" not in result for result in results)


def test_without_a_model_the_default_of_its_route_answers(world: World, spec: TaskSpec) -> None:
    first, *_ = world.tasks.serving(spec.route.path)
    assert world.post(f"/{spec.route.path}", body_of(world.tasks[first], GOLDEN_TEXTS))["model"]["name"] == first


def test_a_model_of_a_task_that_the_route_does_not_serve_is_not_found(world: World, spec: TaskSpec) -> None:
    others = [name for name in world.tasks if name not in world.tasks.serving(spec.route.path)]
    assert spec.route.path
    for other in others:
        problem = world.post(f"/{spec.route.path}", body_of(spec, GOLDEN_TEXTS, model=other), 404)
        assert other in problem["detail"]


def test_the_openapi_file_has_its_operation_with_examples(world: World, spec: TaskSpec) -> None:
    document = world.client.get("/openapi.json").json()
    for served in spec.routes:
        operation = document["paths"][f"/{served.route.path}"]["post"]
        assert (operation["summary"], operation["tags"]) == (served.route.summary, ["Predict"])
        name = operation["requestBody"]["content"][JSON]["schema"]["$ref"].rpartition("/")[2]
        assert document["components"]["schemas"][name]["examples"]
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_its_requests_are_counted_under_its_name(world: World, spec: TaskSpec) -> None:
    world.post(f"/{spec.route.path}", body_of(spec, GOLDEN_TEXTS, model=spec.name))
    counted = re.compile(rf'^hooper_requests_total{{model="{spec.name}",status="200",task="{spec.name}"}}', re.MULTILINE)
    while not counted.search(world.client.get("/metrics").text):
        """It is counted once the answer is on its way; where it never is, the test runs into its time limit."""


# --- through other protocols


def test_it_answers_over_hugging_faces_protocol_or_says_that_it_does_not(world: World, spec: TaskSpec) -> None:
    path, codec = f"/models/{spec.name}", spec.hugging_face
    if codec is None:
        assert spec.name in world.post(path, {"inputs": GOLDEN_TEXTS[0]}, 404)["error"]
        return
    assert world.post(path, codec.example.value)
    answer = world.post(path, {"inputs": item_of(spec)})
    TypeAdapter(Any if len(codec.answers) > 1 else codec.answers[0]).validate_python(answer)
    assert world.post(path, {"inputs": [item_of(spec)]}) == [answer]
    assert world.post(path, {"inputs": []}, 422)["error"]
    if "top_k" not in codec.parameters:
        problem = world.post(path, {"inputs": item_of(spec), "parameters": {"top_k": 1}}, 422)
        assert f"parameters.top_k: is not a parameter of {spec.name}" in str(problem)


def test_it_answers_over_the_open_inference_protocol_or_says_that_it_does_not(world: World, spec: TaskSpec) -> None:
    path, codec = f"/v2/models/{spec.name}", spec.open_inference
    if codec is None:
        assert spec.name in world.client.get(path).json()["error"]
        assert spec.name in world.post(f"{path}/infer", {"inputs": []}, 404)["error"]
        return
    metadata = world.client.get(path).json()
    assert [tensor["name"] for tensor in metadata["inputs"]][: len(codec.inputs)] == list(codec.inputs)
    assert {tensor["name"]: tensor["datatype"] for tensor in metadata["outputs"]} == dict(codec.outputs)
    answer = world.post(f"{path}/infer", codec.example.value)
    assert [tensor["name"] for tensor in answer["outputs"]] == list(codec.outputs)
    for tensor in answer["outputs"]:
        assert len(tensor["shape"]) == codec.rank
        assert len(tensor["data"]) == TypeAdapter(int).validate_python(_product(tensor["shape"]))
    assert world.post(f"{path}/infer", {"inputs": []}, 422)["error"]


def _product(shape: list[int]) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size


def test_it_answers_on_the_routes_of_other_services_that_it_has(world: World, spec: TaskSpec) -> None:
    """Those of text-embeddings-inference and of OpenAI; the latter name their model."""
    for codec in drop_ins(spec):
        examples = codec.request.model_config["json_schema_extra"]["examples"]  # type: ignore[call-overload,index]
        assert examples
        for example in examples:
            named = {"model": spec.name} if codec in (*spec.openai, *spec.openai_writing) else {}
            answer = world.post(f"/{codec.path}", {**example, **named})
            TypeAdapter(codec.answer).validate_python(answer)


# --- explanations and corrections


def test_it_explains_its_answers_or_says_that_it_cannot(world: World, spec: TaskSpec) -> None:
    body = {"inputs": item_of(spec), "model": spec.name}
    if not is_explainable(spec, world):
        assert spec.name in world.post("/v1/explain", body, 404)["detail"]
        return
    (result,) = world.post("/v1/explain", body)["results"]
    assert {token["field"] for token in result["tokens"]} <= set(spec.fields)
    for example in spec.native.examples:
        world.post("/v1/explain", {**example, "model": spec.name})


def test_it_takes_corrections_or_says_that_it_takes_none(world: World, spec: TaskSpec) -> None:
    codec = spec.correction
    if codec is None:
        body = {"inputs": {"text": "The film was good.", "label": "good"}, "model": spec.name}
        assert spec.name in world.post("/v1/feedback", body, 404)["detail"]
        return
    for example in codec.examples:
        for result in world.post("/v1/feedback", {**example, "model": spec.name})["results"]:
            assert set(result["predicted"])
    others = [
        task.correction for task in world.tasks.values() if task.correction and task.correction.schema is not codec.schema
    ]
    for example in (example for other in others for example in other.examples):
        foreign = as_list(example["inputs"])[0]
        assert spec.name in world.post("/v1/feedback", {"inputs": foreign, "model": spec.name}, 422)["detail"]


# --- the pages


def test_the_playground_has_a_form_for_it(world: World, spec: TaskSpec) -> None:
    assert (spec.name in world.client.get("/static/tasks.json").json()) == (spec.playground is not None)
    address = f"/static/tasks/{spec.name}.js"
    response = world.client.get(address)
    if spec.playground is None:
        assert response.status_code == 404
        return
    assert response.headers["content-type"].startswith("text/javascript")
    module = response.text
    inherited = re.search(r'^import (\w+) from "(\./[\w-]+\.js)";$.*^  \.\.\.\1,$', module, re.MULTILINE | re.DOTALL)
    made = re.search(r'^import { (\w+) } from "([\w./-]+\.js)";$.*\b\1\(\{', module, re.MULTILINE | re.DOTALL)
    sources = [urljoin(address, source[2]) for source in (inherited, made) if source is not None]
    texts = {address: module} | {source: world.client.get(source).text for source in sources}
    module = "".join(texts.values())  # what it says itself comes first
    assert re.findall(r'^ +route: "([^"]+)",$', module, re.MULTILINE) == [spec.route.path]
    for name in ("verb", "words", "form", "show", "say"):
        assert re.search(rf"^ +{name}(: |\(|,)", module, re.MULTILINE), name
    for place, text in texts.items():
        for names, source in re.findall(r'^import {([^}]+)} from "([^"]+)";$', text, re.MULTILINE):
            helper = world.client.get(urljoin(place, source))
            assert helper.status_code == 200, source
            for name in names.split(","):
                assert re.search(rf"^export (function|const) {name.strip()}\b", helper.text, re.MULTILINE), name


# --- what the house asks of it


def test_its_lines_on_a_terminal_are_lines(world: World, spec: TaskSpec) -> None:
    fields = {name: GOLDEN_TEXTS[0] for name, field in spec.fields.items() if field.required}
    (result,) = world.post(f"/{spec.route.path}", body_of(spec, GOLDEN_TEXTS[:1], model=spec.name))["results"]
    lines = list(as_columns(spec.lines, 1, 80, Input("-", 1, fields), result))
    assert lines
    assert all(len(line.splitlines()) == 1 for line in lines)


def test_an_answer_has_the_columns_of_its_table(world: World, spec: TaskSpec) -> None:
    (result,) = world.post(f"/{spec.route.path}", body_of(spec, GOLDEN_TEXTS[:1], model=spec.name))["results"]
    for name, kind in spec.table.single.items():
        assert isinstance(result[name], kind), name
    if spec.table.ranked:
        for name, kind in spec.table.per_rank.items():
            assert isinstance(result[spec.table.ranked][0][name], kind), name


def test_nonsense_in_a_manifest_is_refused_by_its_name(world: World, spec: TaskSpec) -> None:
    with pytest.raises(InvalidArtefact, match=r"task_options\.nonsense"):
        built(spec, world, nonsense=1)


def test_its_name_and_its_fields_are_plain(spec: TaskSpec) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", spec.name)
    assert spec.title
    assert all(field.columns for field in spec.fields.values())
    assert any(field.required for field in spec.fields.values())
