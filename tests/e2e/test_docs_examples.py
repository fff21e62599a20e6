"""Every example of the OpenAPI file, sent to the shipped models as the docs page would send it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from app.core.manifest import MANIFEST
from app.tasks.registry import drop_ins, installed_tasks
from app.tasks.spec import TaskSpec
from tests.support.live_service import ROOT, serving
from tests.support.mutated_model import sign_again

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
ADMIN_KEY = "the key of the example"
JSON = "application/json"
SHIPPED = {folder.name: max(int(path.name) for path in folder.iterdir()) for folder in (ROOT / "models").iterdir()}
"""The latest version of each shipped model."""
SHIPPED_TASKS = {
    json.loads((ROOT / "models" / name / str(version) / MANIFEST).read_text(encoding="utf-8"))["task"]
    for name, version in SHIPPED.items()
}


def models_of(spec: TaskSpec) -> set[str]:
    """Names of the models that a task's examples are for."""
    return {codec.example.model for codec in (spec.hugging_face, spec.open_inference) if codec is not None}


UNSHIPPED = [spec for spec in installed_tasks().values() if models_of(spec).isdisjoint(SHIPPED)]
"""Tasks of which no model is shipped: their examples run against a tiny one, in the unit tests of the OpenAPI file."""


UNSHIPPED_CORRECTIONS = [
    example
    for spec in installed_tasks().values()
    if spec.correction is not None and spec.name not in SHIPPED_TASKS
    for example in spec.correction.examples
]
"""Corrections of what no shipped model answers, though one may answer the same path."""


@dataclass(frozen=True)
class Example:
    """One request that the file shows, and the operation that documents it."""

    method: str
    path: str
    name: str
    body: Any
    operation: dict[str, Any]

    @property
    def address(self) -> str:
        """The path with its parameters' examples in their places."""
        examples = {
            entry["name"]: _example_of(entry) for entry in self.operation.get("parameters", []) if entry["in"] == "path"
        }
        if self.name in SHIPPED:  # an example that is named for a model is one for that model
            examples |= {"name": self.name, "version": SHIPPED[self.name]}
        return re.sub(r"\{(\w+)\}", lambda match: str(examples[match[1]]), self.path)


def _example_of(parameter: dict[str, Any]) -> Any:
    found = [parameter.get("example"), *parameter["schema"].get("examples", []), *_values(parameter.get("examples", {}))]
    return next((match for match in found if match is not None), f"no example of {parameter['name']}")


def _values(examples: Any) -> list[Any]:
    return [example["value"] for example in examples.values()] if isinstance(examples, dict) else list(examples)


def bodies(operation: dict[str, Any]) -> dict[str, Any]:
    """The examples of an operation's body by what they show, wherever the file keeps them; without a body, one of nothing."""
    if "requestBody" not in operation:
        return {"": None}
    content = operation["requestBody"]["content"][JSON]
    named = {name: entry["value"] for name, entry in content.get("examples", {}).items()}
    model = SCHEMA["components"]["schemas"].get(content["schema"].get("$ref", "").rpartition("/")[2], {})
    given = [*([content["example"]] if "example" in content else []), *model.get("examples", [])]
    return named | {f"example {number}": entry for number, entry in enumerate(given, 1) if entry not in named.values()}


CHANGES = ("/load", "/promote", "/unload")
"""How the paths end that change what is served: their examples follow one another, in this order."""


def every_example() -> list[Example]:
    return [
        Example(method, path, name, body, operation)
        for path, operations in SCHEMA["paths"].items()
        for method, operation in operations.items()
        for name, body in bodies(operation).items()
    ]


NATIVE_ROUTES = {"/generate": "/v1/generate", "/generate_stream": "/v1/generate", "/translate": "/v1/translate"}
"""Routes of other services' own to the native ones by whose models they are answered."""


def needs_unshipped_model(example: Example) -> bool:
    """Whether nothing that is shipped could answer it."""
    return example.body in UNSHIPPED_CORRECTIONS or any(
        NATIVE_ROUTES.get(example.path, example.path) in {f"/{served.route.path}" for served in spec.routes}
        or example.name in models_of(spec)
        or example.path in {f"/{route.path}" for route in drop_ins(spec)}
        or (isinstance(example.body, dict) and example.body.get("model", "qa") not in SHIPPED)
        or (example.path == "/v1/explain" and example.body in spec.native.examples)
        for spec in UNSHIPPED
    )


def name_of(example: Example) -> str:
    return f"{example.method} {example.path} {example.name}".strip()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a service that has one more version of a model to load, promote and unload than is served."""
    models = Path(shutil.copytree(ROOT / "models", tmp_path_factory.mktemp("shipped") / "models"))
    served = [f"{name}/{version}" for name, version in SHIPPED.items()]
    more = models / "sentiment" / str(SHIPPED["sentiment"] + 1)
    shutil.copytree(models / "sentiment" / str(SHIPPED["sentiment"]), more)
    sign_again(more, version=int(more.name))
    settings = {
        "serve": ",".join(served),
        "admin_key_hashes": hashlib.sha256(ADMIN_KEY.encode()).hexdigest(),
        "feedback": tmp_path_factory.mktemp("feedback") / "feedback.db",
    }
    with (
        serving(models, device=None, engine_threads=None, **settings) as running,
        running.client() as made,
    ):
        made.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        yield made


def test_every_route_with_a_body_has_an_example_of_it() -> None:
    paths = {
        path for path, operations in SCHEMA["paths"].items() for operation in operations.values() if "requestBody" in operation
    }
    assert {"/v1/classify", "/v1/answer", "/v1/summarize"} <= paths
    assert paths - {entry.path for entry in every_example()} == set()


def test_every_part_of_a_path_has_an_example() -> None:
    assert [name_of(entry) for entry in every_example() if "no example" in entry.address] == []


RUNNABLE = [entry for entry in every_example() if not entry.path.endswith(CHANGES) and not needs_unshipped_model(entry)]


@pytest.mark.parametrize("example", RUNNABLE, ids=name_of)
def test_an_example_gets_the_answer_that_is_documented(client: httpx.Client, example: Example) -> None:
    check(client, example)


def test_so_do_those_that_change_what_is_served(client: httpx.Client) -> None:
    for end in CHANGES:
        examples = [example for example in every_example() if example.path.endswith(end)]
        assert examples
        for example in examples:
            check(client, example)


def check(client: httpx.Client, example: Example) -> None:
    response = client.request(example.method, example.address, json=example.body)
    assert response.status_code == 200, response.text
    documented = example.operation["responses"]["200"].get("content", {})
    kind = response.headers["content-type"].partition(";")[0]
    if documented:
        assert kind in documented
    if kind == JSON:
        answer = response.json()
        jsonschema.validate(answer, documented[JSON]["schema"] | {"components": SCHEMA["components"]})
        results = answer.get("results", []) if isinstance(answer, dict) else []
        assert [result for result in results if "error" in result] == []
