"""Which tasks there are, and what an installed package may not do: each refusal is one sentence that names it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.api.application import build_application
from app.api.protocols.native import operations
from app.configuration import read_settings
from app.core.errors import InvalidArtefact, SetupError
from app.observability.metrics import Metrics
from app.settings import Settings
from app.tasks.registry import BUILT_IN, HOUSE_PATHS, ROOT_PATHS, Tasks, drop_ins, environment_tasks, installed_tasks
from tests.support.plugins import POLARITY, install, install_example, on_path

OWN = [spec.name for spec in BUILT_IN]
CHANGED = """
from dataclasses import replace
from app.tasks.text_classification.spec import SPEC as CLASSIFICATION
ROUTE = replace(CLASSIFICATION.route, path="v1/toy")
TOY = replace(CLASSIFICATION, name="toy", routes=(replace(CLASSIFICATION.routes[0], route=ROUTE),))
def tei(**changes):
    return replace(TOY.text_embeddings, routes=(replace(TOY.text_embeddings.routes[0], **changes),))
"""
"""A module with a task like text classification, under a name and a path of its own."""


@contextmanager
def installed(site: Path, source: str, name: str = "toy") -> Iterator[None]:
    """A package `toy-tasks` whose task is what this source calls `SPEC`."""
    with on_path(install(site, "toy-tasks", {name: "toy_tasks:SPEC"}, {"toy_tasks": source})):
        yield


def refusal(site: Path, source: str, name: str = "toy") -> str:
    with installed(site, source, name), pytest.raises(SetupError) as caught:
        installed_tasks()
    return caught.value.detail


def test_the_task_of_an_installed_package_stands_behind_the_built_in_ones(tmp_path: Path) -> None:
    with on_path(install_example(tmp_path)):
        tasks = installed_tasks()
        assert list(tasks) == [*OWN, POLARITY]
        assert tasks[POLARITY].distribution == "hooper-polarity"
        assert [spec.name for spec in tasks.values() if spec.is_plugin] == [POLARITY]
    assert list(installed_tasks()) == OWN


@pytest.mark.parametrize(
    ("wish", "taken"),
    [("*", True), ("", False), ("hooper-polarity", True), (f" {POLARITY} ,", True)],
)
def test_the_setting_takes_packages_by_their_name_or_their_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str, taken: bool
) -> None:
    monkeypatch.setenv("HOOPER_TASKS", wish)
    with on_path(install_example(tmp_path)):
        assert (POLARITY in installed_tasks(read_settings().tasks)) == taken
        assert (POLARITY in environment_tasks()) == taken


def test_a_name_that_nobody_brings_is_refused(tmp_path: Path) -> None:
    with on_path(install_example(tmp_path)), pytest.raises(SetupError) as caught:
        installed_tasks(("hooper-polarity", "nobody"))
    assert caught.value.detail == "HOOPER_TASKS: no installed package brings tasks under the name 'nobody'"


def test_a_package_that_is_left_out_is_never_imported(tmp_path: Path) -> None:
    broken = install(tmp_path, "toy-tasks", {"toy": "toy_tasks:SPEC"}, {"toy_tasks": "raise RuntimeError('imported')"})
    with on_path(install_example(broken)):
        assert list(installed_tasks(("hooper-polarity",))) == [*OWN, POLARITY]
        assert "toy_tasks" not in sys.modules


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_that_is_there", "ModuleNotFoundError: No module named 'nothing_that_is_there'"),
        ("raise RuntimeError('one\\ntwo')", "RuntimeError: one two"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("OTHER = 1", "AttributeError: module 'toy_tasks' has no attribute 'SPEC'"),
    ],
)
def test_a_task_that_cannot_be_imported_is_refused(tmp_path: Path, source: str, reason: str) -> None:
    expected = f"toy-tasks: its task 'toy' cannot be imported ({reason}); HOOPER_TASKS can leave it out"
    assert refusal(tmp_path, source) == expected


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "SPEC = {'name': 'toy'}") == "toy-tasks: toy_tasks:SPEC is no TaskSpec but a dict"


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_task_that_brings_what_only_training_needs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.delitem(sys.modules, package, raising=False)  # other tests of this process may have imported it
    (tmp_path / f"{package}.py").write_text("")
    source = f"import {package}{CHANGED}SPEC = TOY"
    assert refusal(tmp_path, source) == f"toy-tasks: its task 'toy' imports {package}, which only its training half may"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("replace(TOY, name='other')", "toy-tasks: its entry point 'toy' gives a task of another name, 'other'"),
        ("replace(TOY, routes=CLASSIFICATION.routes)", ""),
        (
            "replace(TOY, routes=(replace(TOY.routes[0], route=replace(ROUTE, path='v1/classify')),))",
            "toy-tasks brings a route /v1/classify, which is taken",
        ),
        (
            "replace(TOY, routes=(replace(TOY.routes[0], route=replace(ROUTE, path='v1/explain')),))",
            "toy-tasks brings a route /v1/explain, which is taken",
        ),
        (
            "replace(TOY, routes=(replace(TOY.routes[0], route=replace(ROUTE, path='metrics')),))",
            "toy-tasks brings a route /metrics; a task's are one word behind /v1/",
        ),
        (
            "replace(TOY, text_embeddings=tei(request=ROUTE.request))",
            "toy-tasks brings a route /predict, which is taken",
        ),
        (
            "replace(TOY, text_embeddings=tei(path='info', request=ROUTE.request))",
            "toy-tasks brings a route /info, which is taken",
        ),
        (
            "replace(TOY, openai=(replace(TOY.text_embeddings.routes[0], path='v1/embeddings'),))",
            "toy-tasks brings a route /v1/embeddings, which is taken",
        ),
        (
            "replace(TOY, openai=(replace(TOY.text_embeddings.routes[0], path='v1/models'),))",
            "toy-tasks brings a route /v1/models, which is taken",
        ),
        (
            "replace(TOY, correction=replace(TOY.correction, schema=ROUTE.request))",
            "toy-tasks brings corrections of 'toy' that cannot be told from those of 'text-classification'",
        ),
    ],
)
def test_a_task_that_takes_what_another_has_is_refused(tmp_path: Path, spec: str, reason: str) -> None:
    """A native route may be shared: then it is the same object."""
    source = f"{CHANGED}SPEC = {spec}"
    if reason:
        assert refusal(tmp_path, source) == reason
        return
    with installed(tmp_path, source):
        assert installed_tasks().serving("v1/classify") == ["text-classification", "text-regression", "toy"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "from app.tasks.question_answering.spec import SPEC", "question-answering")
    assert refused == "toy-tasks brings a task 'question-answering', which hooper has"


def test_a_manifest_of_a_task_that_is_not_here_is_told_which_are() -> None:
    with pytest.raises(InvalidArtefact, match="task 'toy' is not known here; known are text-classification"):
        installed_tasks().find("toy")


def test_paths_that_no_task_may_take_are_all_that_the_service_has() -> None:
    tasks = Tasks(BUILT_IN)
    app = build_application(Settings(), tasks, Metrics(), lambda app: pytest.fail("not started"))
    own = {route.path for route in tasks.routes} | {route.path for spec in BUILT_IN for route in drop_ins(spec)}
    paths = {path.strip("/") for path in app.openapi()["paths"]} - own
    assert {path.partition("/")[0] for path in paths} <= ROOT_PATHS
    assert {path for path in paths if path.startswith("v1/") and path.count("/") == 1} == HOUSE_PATHS
    assert set(operations(tasks)) - own == HOUSE_PATHS - {"v1/models"}
