"""The OpenAPI file: the same as its golden copy, and every example in it runs. The docs page needs no network."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.api import application
from app.api.dialects import spoken
from tests.asked import Service

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "docs" / "openapi.json"
PREDICTION = {"post": {"200", "401", "404", "413", "415", "422", "429", "503", "504"}}
V2_MODEL = {"get": {"200", "401", "404", "503"}}
CONTRACT = {
    "/v1/classify": PREDICTION,
    "/v1/answer": PREDICTION,
    "/v1/summarize": PREDICTION,
    "/v1/explain": PREDICTION,
    "/v1/models": {"get": {"200", "401"}},
    "/v1/models/{name}": {"get": {"200", "401", "404"}},
    "/v1/models/{name}/load": {"post": {"200", "401", "404", "422"}},
    "/v1/models/{name}/unload": {"post": {"200", "401", "404"}},
    "/health/live": {"get": {"200"}},
    "/health/ready": {"get": {"200", "503"}},
    "/metrics": {"get": {"200"}},
    "/models/{name}": PREDICTION,
    "/v2": {"get": {"200"}},
    "/v2/health/live": {"get": {"200"}},
    "/v2/health/ready": {"get": {"200", "503"}},
    "/v2/models/{name}": V2_MODEL,
    "/v2/models/{name}/ready": V2_MODEL,
    "/v2/models/{name}/config": V2_MODEL,
    "/v2/models/{name}/infer": PREDICTION,
    "/v2/models/{name}/versions/{version}": V2_MODEL,
    "/v2/models/{name}/versions/{version}/ready": V2_MODEL,
    "/v2/models/{name}/versions/{version}/config": V2_MODEL,
    "/v2/models/{name}/versions/{version}/infer": PREDICTION,
    "/predict": {"post": {"200", "400", "401", "413", "415", "422", "424", "429", "503", "504"}},
    "/info": {"get": {"200", "401", "424", "503"}},
}
SHIPPED_TASKS = {"sentiment": "text-classification", "qa": "question-answering", "summary": "summarization"}


@pytest.fixture
async def schema(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = (await service.client.get("/openapi.json")).json()
    return found


def test_the_golden_copy_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    monkeypatch.setattr(application, "product_version", lambda: version)  # an older one may be installed
    assert cli.main(["openapi"]) == 0
    assert capsys.readouterr().out == GOLDEN.read_text(), "run `make openapi` and read the difference"


def test_the_file_is_the_same_whatever_the_environment_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.main(["openapi"])
    plain = capsys.readouterr().out
    monkeypatch.setenv("HOOPER_ROOT_PATH", "/elsewhere")
    cli.main(["openapi"])
    assert capsys.readouterr().out == plain


def test_routes_and_their_statuses_are_those_of_the_contract(schema: dict[str, Any]) -> None:
    found = {
        path: {method: set(operation["responses"]) for method, operation in operations.items()}
        for path, operations in schema["paths"].items()
    }
    assert {path: found[path] for path in CONTRACT} == CONTRACT


def test_every_error_is_documented_in_the_shape_of_its_protocol(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        dialect = spoken({"path": path})
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    assert list(response["content"]) == [dialect.media_type]
                    reference = response["content"][dialect.media_type]["schema"]["$ref"]
                    assert reference == f"#/components/schemas/{dialect.model.__name__}"
                    assert dialect.model.__name__ in schema["components"]["schemas"]


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


def bodies(schema: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every route with a body, and each example of that body; a shipped model's name stands for the tiny one of its task."""
    found = []
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                named = content.get("examples", {})
                reference = content["schema"]["$ref"]
                unnamed = [] if named else schema["components"]["schemas"][reference.rpartition("/")[2]]["examples"]
                found += [(path, example) for example in unnamed]
                found += [(_filled(path, SHIPPED_TASKS[name]), example["value"]) for name, example in named.items()]
    return found


def _filled(path: str, name: str) -> str:
    return path.replace("{name}", name).replace("{version}", "1")


async def test_every_example_runs(every_task: Service, schema: dict[str, Any]) -> None:
    asked = bodies(schema)
    taking = {path for path, operations in schema["paths"].items() if any("requestBody" in one for one in operations.values())}
    assert {path for path, _ in asked} == {_filled(path, task) for path in taking for task in SHIPPED_TASKS.values()}
    for path, example in asked:
        response = await every_task.client.post(path, json=example)
        assert response.status_code == 200, response.text
        assert "error" not in response.text


# --- pages


async def test_the_docs_page_refers_only_to_files_of_our_own_and_they_are_there(service: Service) -> None:
    page = await service.client.get("/docs")
    assert page.status_code == 200
    referred = re.findall(r"""(?:href|src|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert len(referred) >= 4
    for address in referred:
        assert address.startswith("/"), address
        assert (await service.client.get(address)).status_code == 200


async def test_the_docs_page_loads_nothing_from_elsewhere(service: Service) -> None:
    page = (await service.client.get("/docs")).text
    assert not re.findall(r"""["'(]\s*(?:https?:)?//[^"')]+""", page)


async def test_behind_a_proxy_the_docs_page_keeps_the_prefix(start: Any) -> None:
    async with start(root_path="/hooper/") as service:
        page = (await service.client.get("/docs")).text
        assert "'/hooper/openapi.json'" in page
        assert 'src="/hooper/static/swagger-ui-bundle.js"' in page
        assert (await service.client.get("/")).headers["location"] == "/hooper/docs"
        assert (await service.client.get("/openapi.json")).json()["servers"] == [{"url": "/hooper"}]


@pytest.mark.parametrize("prefix", ["", "/hooper"])
async def test_a_proxy_may_cut_the_prefix_off_or_not(start: Any, prefix: str) -> None:
    async with start(root_path="/hooper") as service:
        assert (await service.client.get(f"{prefix}/health/ready")).status_code == 200
        assert (await service.client.get(f"{prefix}/static/favicon.svg")).status_code == 200


async def test_the_front_page_leads_to_the_docs(service: Service) -> None:
    response = await service.client.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/docs")
