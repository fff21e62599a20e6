"""A client that openapi-python-client makes of the OpenAPI file, asking the shipped models."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import ROOT, LiveService

NAME = "generated_hooper_client"

pytestmark = pytest.mark.slow  # that the file is right is shown by every example of it, test_docs_examples.py


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that holds the generated package, on the import path."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.yaml"
    config.write_text("post_hooks: []\n", encoding="utf-8")  # they would format the code, which nobody reads here
    generate = "from openapi_python_client.cli import app; app()"
    options = ["--path", ROOT / "docs" / "openapi.json", "--meta", "none", "--output-path", folder / NAME, "--config", config]
    command = [sys.executable, "-c", generate, "generate", "--fail-on-warning", *map(str, options)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [module for module in sys.modules if module.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture
def client(shipped_service: LiveService, package: Path) -> Iterator[Any]:
    del package
    made = importlib.import_module(NAME).Client(base_url=shipped_service.url, httpx_args={"trust_env": False})
    with made:
        yield made


def function(tag: str, name: str) -> Any:
    return importlib.import_module(f"{NAME}.api.{tag}.{name}").sync


def model(name: str) -> Any:
    return getattr(importlib.import_module(f"{NAME}.models"), name)


def test_it_classifies(client: Any) -> None:
    body = model("ClassifyRequest")(inputs="A warm, funny film that I would happily watch again.")
    found = function("predict", "classify")(client=client, body=body)
    assert found.model.name == "sentiment"
    (result,) = found.results
    assert result.labels[0].label == "positive"
    assert result.labels[0].score > 0.9


def test_it_answers_and_says_where(client: Any) -> None:
    context = "The old library burned down in 1897. A new library opened in 1903."
    question = model("Question")(question="When did the new library open?", context=context)
    found = function("predict", "answer")(client=client, body=model("AnswerRequest")(inputs=[question], top_k=2))
    best = found.results[0].answers[0]
    assert "1903" in best.answer
    assert context[best.start : best.end] == best.answer


def test_it_tells_an_item_that_failed_from_its_neighbours(client: Any) -> None:
    found = function("predict", "classify")(client=client, body=model("ClassifyRequest")(inputs=["Great value.", ""]))
    good, bad = found.results
    assert good.labels[0].label == "positive"
    assert bad.error.type_ == "invalid_input"


def test_it_lists_models_and_reads_an_error(client: Any) -> None:
    loaded = function("models", "list_models")(client=client)
    assert "sentiment" in [model.name for model in loaded.models]
    problem = function("models", "show_model")(client=client, name="missing")
    assert (problem.status, problem.type_) == (404, "unknown_model")
