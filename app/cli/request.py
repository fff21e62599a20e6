"""What is asked of which model: the options that `predict`, `explain` and `batch` share, and their checks."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.cli.ask import ROUTES, Route
from app.cli.parser import Parser, settings_from
from app.cli.shape import Format, Shape
from app.core.artefact import Artefact, oldest
from app.core.errors import SetupError
from app.core.types import TaskName
from app.serving.repository import Repository
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Wish:
    """A model, what is asked of it, and how inputs are read for it."""

    artefact: Artefact
    route: Route
    options: Mapping[str, Any]
    """Of each request, by the names that the service gives them."""
    shape: Shape
    settings: Settings

    @property
    def task(self) -> TaskName:
        return self.artefact.manifest.task


def wish_from(options: argparse.Namespace, route_of: Callable[[TaskName], Route], names: Sequence[str]) -> Wish:
    """
    Args:
        options: those of `add_model_options` and of the request.
        route_of: what is asked of a model of this task.
        names: the request's options.

    Raises:
        SetupError: it is not clear which model is meant, or what was given is not for its task.
        InvalidSettings, InvalidArtefact, UnknownModel: as for the settings and `Repository.find`.
    """
    settings = settings_from(options)
    given = {name: getattr(options, name) for name in ("question", "context") if getattr(options, name) is not None}
    artefact = _chosen(Repository(settings.models, settings.state), options.model, settings.default_models, bool(given))
    task = artefact.manifest.task
    if given and task != "question-answering":
        raise SetupError(f"--{next(iter(given))} is for question answering; {artefact.id} does {task}")
    shape = Shape(task, settings.max_body_bytes, options.format, options.text_column, given)
    wishes = {name: value for name, value in vars(options).items() if name in names}
    return Wish(artefact, route_of(task), wishes, shape, settings)


def add_model_options(parser: Parser) -> None:
    """Which model, and how a file is read for it."""
    parser.add_argument("--model", metavar="NAME", help="`name`, `name/version` or a published folder's path")
    parser.add_argument("--question", help="the question to ask of every context")
    parser.add_argument("--context", help="the context of every question")
    parser.add_argument("--format", choices=typing.get_args(Format), default="auto", help="of the input; auto: by its name")
    parser.add_argument("--text-column", default="", metavar="NAME", help="column of the text or context; default: guessed")


def _chosen(repository: Repository, wish: str | None, named: Mapping[TaskName, str], asks: bool) -> Artefact:
    """The model that is meant, in the version that serves; without a name the default of the task, where that is clear."""
    if wish is not None:
        return repository.find(wish, served=True)
    names = repository.names()
    if len(names) == 1:
        return repository.open_served(names[0])
    tasks = {name: repository.task_of(name) for name in names}
    wanted = {"question-answering"} if asks else set(tasks.values())
    if len(wanted) == 1:
        (task,) = wanted
        fitting = [name for name, one in tasks.items() if one == task]
        if fitting:
            return repository.open_served(named.get(task) or oldest({one: repository.age(one) for one in fitting}))
    raise SetupError(f"which model? say --model NAME; published are: {', '.join(names) or 'none'}")


def request_options() -> dict[str, list[TaskName]]:
    """The names of all tasks' options, with the tasks that have them."""
    found: dict[str, list[TaskName]] = {}
    for task, route in ROUTES.items():
        for name in route.option_names:
            found.setdefault(name, []).append(task)
    return found


def add_request_options(parser: Parser) -> None:
    group = parser.add_argument_group("options of the request, as the service takes them")
    for name, tasks in request_options().items():
        route = ROUTES[tasks[0]]
        kind = typing.get_type_hints(route.options)[name]
        own = route.request.model_fields[name].description
        text = own if len(tasks) == 1 else _COMMON.get(name, own)
        kinds = _switched(route.request.model_fields[name].default) if kind is bool else _valued(kind)
        only = f" ({tasks[0]})" if len(tasks) == 1 else ""
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            help=f"{text}{only}".replace("%", "%%"),
            **kinds,
        )


_COMMON = {
    "top_k": "how many labels or answers to give, best first",
    "truncation": "what to do with a text longer than the model reads: refuse, cut, or read it in windows",
}
"""What is said of the options that several tasks have."""


def _switched(default: bool) -> Mapping[str, Any]:
    """How argparse reads an option that is on or off; one that is on is switched off with `--no-`."""
    return {"action": argparse.BooleanOptionalAction if default else "store_true"}


def _valued(kind: Any) -> Mapping[str, Any]:
    """How argparse reads an option of this type; `X | None` is read as `X`."""
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    if typing.get_origin(kind) is not Literal and parts:
        kind = parts[0]
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    return {"type": kind, "metavar": "N" if kind is int else kind.__name__.upper()}
