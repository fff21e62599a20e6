"""The OpenAPI file: the same as its golden copy, every field of it described, and every example in it runs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.api import application
from tests.asked import Service

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "docs" / "openapi.json"
PREDICTION = {"post": {"200", "401", "404", "413", "415", "422", "429", "503", "504"}}
CONTRACT = {
    "/v1/classify": PREDICTION,
    "/v1/answer": PREDICTION,
    "/v1/summarize": PREDICTION,
    "/v1/models": {"get": {"200", "401"}},
    "/v1/models/{name}": {"get": {"200", "401", "404"}},
    "/v1/models/{name}/load": {"post": {"200", "401", "404", "422"}},
    "/v1/models/{name}/unload": {"post": {"200", "401", "404"}},
    "/health/live": {"get": {"200"}},
    "/health/ready": {"get": {"200", "503"}},
    "/metrics": {"get": {"200"}},
}


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


def test_every_error_is_documented_as_a_problem(schema: dict[str, Any]) -> None:
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    reference = response["content"]["application/problem+json"]["schema"]["$ref"]
                    assert reference == "#/components/schemas/Problem"
    assert "Problem" in schema["components"]["schemas"]


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schema)):
        assert name in schema["components"]["schemas"]


def bodies(schema: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every route with a body, and each example of that body."""
    found = []
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if "requestBody" in operation:
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                examples = schema["components"]["schemas"][reference.rpartition("/")[2]]["examples"]
                found += [(path, example) for example in examples]
    return found


async def test_every_example_runs(every_task: Service, schema: dict[str, Any]) -> None:
    asked = bodies(schema)
    assert {path for path, _ in asked} == {"/v1/classify", "/v1/answer", "/v1/summarize"}
    for path, example in asked:
        response = await every_task.client.post(path, json=example)
        assert response.status_code == 200, response.text
        assert all("error" not in one for one in response.json()["results"])
