"""The OpenAPI file: the same as its golden copy, every field of it described, and every example in it runs."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app import cli
from app.api import application, openapi
from app.api.error_formats import NATIVE, Problem, error_format_for
from app.api.errors import STATUS
from app.tasks.registry import installed_tasks
from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny, publish_tiny_spec
from tests.unit.app.conftest import Start

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "docs" / "openapi.json"
PREDICTION = {"post": {"200", "401", "403", "404", "408", "413", "415", "421", "422", "429", "503", "504"}}
V2_MODEL = {"get": {"200", "401", "404", "421", "422", "429", "503"}}
CONTRACT = {
    "/v1/classify": PREDICTION,
    "/v1/answer": PREDICTION,
    "/v1/summarize": PREDICTION,
    "/v1/explain": PREDICTION,
    "/v1/feedback": PREDICTION,
    "/v1/models": {"get": {"200", "401", "421", "429"}},
    "/v1/models/{name}": {"get": {"200", "401", "404", "421", "422", "429", "503"}},
    "/v1/models/{name}/load": {"post": {"200", "401", "403", "404", "408", "413", "415", "421", "422", "429", "500"}},
    "/v1/models/{name}/promote": {"post": {"200", "401", "403", "404", "421", "422", "429", "503"}},
    "/v1/models/{name}/unload": {"post": {"200", "401", "403", "404", "421", "422", "429"}},
    "/health/live": {"get": {"200", "503"}},
    "/health/ready": {"get": {"200", "503"}},
    "/metrics": {"get": {"200"}},
    "/models/{name}": PREDICTION,
    "/v2": {"get": {"200", "421"}},
    "/v2/health/live": {"get": {"200", "503"}},
    "/v2/health/ready": {"get": {"200", "503"}},
    "/v2/models/{name}": V2_MODEL,
    "/v2/models/{name}/ready": V2_MODEL,
    "/v2/models/{name}/config": V2_MODEL,
    "/v2/models/{name}/infer": PREDICTION,
    "/v2/models/{name}/versions/{version}": V2_MODEL,
    "/v2/models/{name}/versions/{version}/ready": V2_MODEL,
    "/v2/models/{name}/versions/{version}/config": V2_MODEL,
    "/v2/models/{name}/versions/{version}/infer": PREDICTION,
    "/predict": {"post": {"200", "400", "401", "403", "408", "413", "415", "421", "422", "424", "429", "503", "504"}},
    "/rerank": {"post": {"200", "400", "401", "403", "408", "413", "415", "421", "422", "424", "429", "503", "504"}},
    "/tokenize": {"post": {"200", "400", "401", "403", "408", "413", "415", "421", "422", "424", "429", "503", "504"}},
    "/info": {"get": {"200", "401", "421", "424", "429", "503"}},
}
LOAD = "/v1/models/{name}/load"
SHIPPED_TASKS = {
    "sentiment": "text-classification", "qa": "question-answering", "summary": "summarization", "ner": "token-classification",
    "ranking": "text-ranking",
    "embed": "feature-extraction",
    "fill": "fill-mask",
    "translate": "translation",
    "writer": "text2text-generation",
    "story": "text-generation",
}  # fmt: skip


@pytest.fixture
async def schema(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = (await service.client.get("/openapi.json")).json()
    return found


def test_the_golden_copy_is_what_the_command_prints_whatever_the_environment_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    monkeypatch.setattr(application, "product_version", lambda: version)  # an older one may be installed
    monkeypatch.setattr(application, "document", openapi.document)  # which other tests remember
    monkeypatch.setenv("HOOPER_ROOT_PATH", "/elsewhere")
    assert cli.main(["openapi"]) == 0
    assert capsys.readouterr().out == GOLDEN.read_text(), "run `make openapi` and read the difference"


def test_routes_and_their_statuses_are_those_of_the_contract(schema: dict[str, Any]) -> None:
    found = {
        path: {method: set(operation["responses"]) for method, operation in operations.items()}
        for path, operations in schema["paths"].items()
    }
    assert {path: found[path] for path in CONTRACT} == CONTRACT


def test_every_error_is_documented_in_the_shape_of_its_protocol(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        error_format = error_format_for({"path": path})
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    assert list(response["content"]) == [error_format.media_type]
                    reference = response["content"][error_format.media_type]["schema"]["$ref"]
                    assert reference == f"#/components/schemas/{error_format.model.__name__}"
                    assert error_format.model.__name__ in schema["components"]["schemas"]


def test_tags_stand_in_the_order_a_newcomer_needs(schema: dict[str, Any]) -> None:
    described = [tag["name"] for tag in schema["tags"]]
    assert described[:3] == ["Predict", "Models", "Health"]
    used = {tag for operations in schema["paths"].values() for operation in operations.values() for tag in operation["tags"]}
    assert used == set(described)


def test_every_operation_has_a_name_of_its_own(schema: dict[str, Any]) -> None:
    names = [operation["operationId"] for operations in schema["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schema)):
        assert name in schema["components"]["schemas"]


# --- descriptions


UNITS = re.compile(
    r"token|row|item|label|answer|sentence|character|byte|second|thread|version|status|probab|between 0 and 1|share|logit|beam"
    r"|dimension|count|number|seed|weight|score|times|texts|log-odds",
    re.IGNORECASE,
)


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every body, `Model.field`, and every parameter of every route."""
    models = schema["components"]["schemas"]
    for name, model in models.items():
        for field, described in model.get("properties", {}).items():
            # pydantic leaves out of a field what the model it refers to says in the same words
            yield f"{name}.{field}", models.get(described.get("$ref", "").rpartition("/")[2], {}) | described
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                yield f"{method} {path} {parameter['name']}", parameter["schema"] | parameter


def is_number(described: dict[str, Any]) -> bool:
    kinds = [described.get("type"), *(entry.get("type") for entry in described.get("anyOf", []))]
    return "integer" in kinds or "number" in kinds


async def test_every_field_and_parameter_is_described(schema: dict[str, Any]) -> None:
    found = dict(fields(schema))
    assert len(found) > 40
    assert [name for name, described in found.items() if not described.get("description", "").strip()] == []
    assert [name for name, described in found.items() if described["description"].strip()[-1] not in ".!?)"] == []


async def test_every_number_says_what_it_counts(schema: dict[str, Any]) -> None:
    assert [name for name, entry in fields(schema) if is_number(entry) and not UNITS.search(entry["description"])] == []


async def test_every_number_that_a_caller_gives_has_a_least_value(schema: dict[str, Any]) -> None:
    asked = {name.rpartition("/")[2] for name in re.findall(r"#/components/schemas/\w*Request\w*", json.dumps(schema))}
    given = {name: entry for name, entry in fields(schema) if " " in name or name.partition(".")[0] in asked}
    integers = {name: entry for name, entry in given.items() if '"integer"' in json.dumps(entry)}
    assert len(integers) >= 5
    assert [name for name, integer in integers.items() if "inimum" not in json.dumps(integer)] == []


async def test_every_model_route_and_answer_is_described(schema: dict[str, Any]) -> None:
    assert [name for name, model in schema["components"]["schemas"].items() if not model.get("description")] == []
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert all(response["description"] for response in operation["responses"].values()), path


async def test_a_generated_client_gets_short_names_and_none_twice(schema: dict[str, Any]) -> None:
    names = [operation["operationId"] for operations in schema["paths"].values() for operation in operations.values()]
    assert len(set(names)) == len(names)
    assert {"classify", "answer", "summarize", "list_models"} <= set(names)


async def test_every_tag_is_described_and_the_first_one_is_for_newcomers(schema: dict[str, Any]) -> None:
    tags = {entry["name"]: entry["description"] for entry in schema["tags"]}
    used = {tag for operations in schema["paths"].values() for operation in operations.values() for tag in operation["tags"]}
    assert used == set(tags)
    assert all(tags.values())
    assert next(iter(tags)) == "Predict"


def problem_examples(schema: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if NATIVE.media_type in response.get("content", {}):
                    yield int(status), response["content"][NATIVE.media_type]["example"]


async def test_every_problem_is_shown_with_an_example_of_its_own_status(schema: dict[str, Any]) -> None:
    kinds = {kind.type: STATUS[kind] for kind in STATUS} | {"not_json": 415, "too_slow": 408, "invalid_artefact": 500}
    found = list(problem_examples(schema))
    assert {status for status, _ in found} == {401, 403, 404, 408, 413, 415, 421, 422, 429, 500, 503, 504}
    for status, example in found:
        assert Problem.model_validate(example).status == status
        assert example["title"] == HTTPStatus(status).phrase
        assert kinds[example["type"]] == status


# --- examples


def bodies(schema: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every route with a body for a model, and each example of that body; a shipped model's name stands for the tiny one of its
    task."""
    return [
        (_filled(path, SHIPPED_TASKS.get(name, "")), _named(example["value"]))
        for path, operations in schema["paths"].items()
        for operation in operations.values()
        if "requestBody" in operation and path != LOAD
        for name, example in operation["requestBody"]["content"]["application/json"]["examples"].items()
    ]


def _named(body: Any) -> Any:
    """A body that names its model asks the tiny one."""
    return (
        {**body, "model": SHIPPED_TASKS.get(body["model"], body["model"])}
        if isinstance(body, dict) and body.get("model")
        else body
    )


def _filled(path: str, name: str) -> str:
    return path.replace("{name}", name).replace("{version}", "1")


async def test_the_docs_page_offers_every_example_of_a_body_by_what_it_shows(schema: dict[str, Any]) -> None:
    for path in ("/v1/classify", "/v1/answer", "/v1/summarize"):
        content = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        model = schema["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        assert [entry["value"] for entry in content["examples"].values()] == model["examples"]
    answer = schema["paths"]["/v1/answer"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert list(answer) == ["one item", "a list, with allow_no_answer and top_k"]


@pytest_asyncio.fixture(loop_scope="session")  # as that of the service whose schema is asked beside it
async def keeping(published_tasks: Path, start: Start, tmp_path: Path) -> AsyncIterator[Service]:
    """The service over a model of every task, which keeps corrections."""
    models = Path(shutil.copytree(published_tasks, tmp_path / "every"))
    publish_tiny(models, "nli", labels=("entailment", "neutral", "contradiction"))
    unpublished = ("token-classification", "text-ranking", "feature-extraction", "fill-mask")
    for task in (*unpublished, "translation", "text2text-generation", "abstractive-summarization", "text-generation"):
        publish_tiny_spec(models, installed_tasks()[task])
    async with start(models=models, feedback=str(tmp_path / "feedback.db")) as service:
        yield service


async def test_every_example_runs(keeping: Service, schema: dict[str, Any]) -> None:
    asked = bodies(schema)
    taking = {
        path
        for path, operations in schema["paths"].items()
        if any("requestBody" in operation for operation in operations.values())
    }
    taking.remove(LOAD)  # needs a key and a second version
    of_hub = {name for name, spec in installed_tasks().items() if spec.hugging_face is not None}
    expected = {
        _filled(path, task)
        for path in taking
        for task in SHIPPED_TASKS.values()
        if task in of_hub or not path.startswith("/models/")
        if installed_tasks()[task].is_generative or "/generate" not in path or "{" not in path
    }
    assert {path for path, _ in asked} == expected
    for path, example in asked:
        response = await keeping.client.post(path, json=example)
        assert response.status_code == 200, response.text
        assert "error" not in response.text
