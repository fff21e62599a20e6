"""One model in this process, asked as the service asks it: the same checks of options and items, the same answers."""

from __future__ import annotations

import asyncio
import dataclasses
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import methodcaller
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ValidationError

from app.api.protocols.envelope import failed
from app.api.protocols.explain import explain_request
from app.api.protocols.results import ExplainResult
from app.batching.admission import QueueLimit
from app.cli.options import model_names
from app.core.artefact import Artefact, oldest
from app.core.command_line import FILE_OPTIONS, annotated_option
from app.core.errors import HooperError, InvalidInput, InvalidSettings, SetupError
from app.core.validation import wrong_field
from app.data import Input, InputSchema, ReadOptions
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment, Prediction, offline_predict
from app.serving.explaining import ExplainOptions, explain
from app.serving.loader import LoadOptions, load
from app.serving.repository import Repository
from app.settings import Settings
from app.tasks.base import Generative
from app.tasks.registry import Tasks, environment_tasks, installed_tasks
from app.tasks.spec import Served, TableSpec, TaskSpec, TextLine, wrapped

NO_LIMIT = QueueLimit(2**31, 2**31)
"""Nobody else waits here: what was read is answered, however many windows a text has."""
Mode = Literal["predict", "bulk", "explain"]
"""What is asked of the model: answers one by one, many answers where only the time for all of them counts, explanations."""
InputFormat = Literal["auto", "lines", "jsonl", "json", "csv", "tsv", "parquet", "feather", "spreadsheet", "conll"]
NOT_OPTIONS = ("inputs", "model")
"""Fields of a request that say what is asked of whom."""
PANEL = "options of the request, as the service takes them"


@dataclass(frozen=True, slots=True)
class Route:
    """How the service takes requests and wraps its answers."""

    request: Any
    option_names: Sequence[str]
    predict: Callable[[Deployment, Sequence[Any], Any], Awaitable[Prediction]]
    items: Callable[[Any], Sequence[Any]]
    """From a request to the task's own items."""
    options: Callable[[Any], Any]
    """From a request to the task's own options."""
    told: Callable[[Any, Sequence[Any]], Sequence[BaseModel | HooperError]]
    """From a request and the answers to the task's own items to what is told of each item, in the order of the request."""


def as_option(name: str) -> str:
    """How the command line writes an option."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A model, what is asked of it, and how inputs are read for it."""

    artefact: Artefact
    mode: Mode
    options: Mapping[str, Any]
    """Of each request, by the names that the service gives them."""
    schema: InputSchema
    settings: Settings

    @property
    def tasks(self) -> Tasks:
        return installed_tasks(self.settings.tasks)

    @property
    def spec(self) -> TaskSpec:
        return self.tasks.find(self.artefact.manifest.task)

    @property
    def route(self) -> Route:
        if self.mode == "explain":
            names = [field.name for field in dataclasses.fields(ExplainOptions)]
            return Route(
                explain_request(self.tasks),
                names,
                explain,
                methodcaller("items", self.spec),
                methodcaller("options"),
                lambda _, results: wrapped(results, ExplainResult.of),
            )
        predict = offline_predict if self.mode == "bulk" else Deployment.predict
        own = self.marked or self.spec.routes[0]
        fields = own.route.item_request.model_fields
        names = option_names(self.spec) if self.marked is None else [name for name in fields if name not in NOT_OPTIONS]
        task_options = self.artefact.manifest.task_options
        items = partial(own.items_of, task_options=task_options)
        return Route(own.route.item_request, names, predict, items, own.options, own.told)

    @property
    def marked(self) -> Served | None:
        """The route that an option says is meant in place of the task's own."""
        return self.spec.route_for(self.options)

    @property
    def table(self) -> TableSpec:
        """The columns of the answers."""
        return (self.marked.table if self.marked is not None else None) or self.spec.table

    @property
    def lines(self) -> Callable[[Mapping[str, Any], Mapping[str, Any], int], Sequence[TextLine]]:
        """The answers' lines for a terminal."""
        return (self.marked.lines if self.marked is not None else None) or self.spec.lines

    def checked_options(self, spelled: Callable[[str], str] = as_option) -> dict[str, Any]:
        """The options, once the service's own schema has taken them.

        Args:
            spelled: how the caller writes an option, for errors.

        Raises:
            InvalidSettings: an option is not one of the task's, or its value is refused.
        """
        for name in self.options:
            if name not in self.route.option_names:
                task = self.artefact.manifest.task
                raise InvalidSettings(f"{spelled(name)} is no option of {task}, which is what {self.artefact.id} does")
        try:
            self.route.request.model_validate({"inputs": [_as_sent(self._sample)], **self.options})
        except ValidationError as error:
            name, message = wrong_field(error.errors(include_url=False))
            raise InvalidSettings(f"{spelled(name)}: {message}") from error
        if self.marked is not None and (refusal := self.marked.refuses(self.artefact.manifest)):
            raise InvalidSettings(f"{self.artefact.id} {refusal}")
        return dict(self.options)

    def check_model_takes(self, task: Any, spelled: Callable[[str], str] = as_option) -> None:
        """Have the task encode an item of any kind, so that an option which this very model refuses is told once.

        Args:
            spelled: how the caller writes an option, for errors.

        Raises:
            InvalidSettings: it refuses one, whatever the item.
        """
        if self.mode == "explain" or not self.options:
            return
        request = self.route.request.model_validate({"inputs": [_as_sent(self._sample)], **self.options})
        encoded: Any
        try:
            encoded = self.route.items(request)[0]
            if self.marked is None:
                options = self.route.options(request)
                (encoded,) = task.encode([encoded], options)
                if isinstance(task, Generative):
                    task.sampling(options)
        except InvalidInput as error:
            encoded = error
        if isinstance(encoded, InvalidInput) and encoded.field and encoded.field in self.options:
            raise InvalidSettings(f"{spelled(encoded.field)} {encoded.reason}")

    @property
    def _sample(self) -> dict[str, str]:
        """The fields of an item."""
        return {name: name for name, field in self.spec.fields.items() if field.required}


class LocalModel:
    """One loaded model on an event loop of its own; see `opened`."""

    def __init__(
        self, deployment: Deployment, request: ModelRequest, options: Mapping[str, Any], runner: asyncio.Runner
    ) -> None:
        self.runner = runner
        self._deployment, self._request, self._options = deployment, request, options
        self._route = request.route

    def with_options(self, options: Mapping[str, Any], spelled: Callable[[str], str]) -> LocalModel:
        """The same model, asked with other options.

        Raises:
            InvalidSettings: as for `ModelRequest.checked_options` and `check_model_takes`.
        """
        request = replace(self._request, options=options)
        checked = request.checked_options(spelled)
        request.check_model_takes(self._deployment.task, spelled)
        return LocalModel(self._deployment, request, checked, self.runner)

    def answer(self, inputs: Sequence[Input]) -> list[dict[str, Any]]:
        """For each input what stands in `results` of the service's answer: a result, or an error in its place."""
        return self.runner.run(self.answers(inputs))

    async def answers(self, inputs: Sequence[Input]) -> list[dict[str, Any]]:
        """The same on the loop; what costs the interpreter time runs on threads, so that the engine is served meanwhile."""
        fields = [item.fields for item in inputs]
        request, items = await asyncio.to_thread(self._read, fields)
        good = [item for item in items if not isinstance(item, HooperError)]
        options = self._route.options(request) if good else None
        results = (await self._route.predict(self._deployment, good, options)).results if good else []
        return await asyncio.to_thread(self._told, request, fields, items, results)

    def _read(self, inputs: Sequence[Mapping[str, Any] | HooperError]) -> tuple[Any, Sequence[Any]]:
        """The request that the inputs are, but for those that are none, and the task's own items of it; None: all are none."""
        valid = [_as_sent(fields) for fields in inputs if not isinstance(fields, HooperError)]
        if not valid:
            return None, []
        request = self._route.request.model_validate({"inputs": valid, **self._options})
        return request, self._route.items(request)

    def _told(
        self,
        request: Any,
        inputs: Sequence[Mapping[str, Any] | HooperError],
        items: Sequence[Any],
        results: Sequence[Any],
    ) -> list[dict[str, Any]]:
        coming = iter(results)
        merged = [item if isinstance(item, HooperError) else next(coming) for item in items]
        told = iter(self._route.told(request, merged) if merged else ())
        entries = (fields if isinstance(fields, HooperError) else next(told) for fields in inputs)
        return [(failed(entry) if isinstance(entry, HooperError) else entry).model_dump() for entry in entries]


def _as_sent(fields: Mapping[str, Any]) -> Any:
    """A text by itself, as most callers send it, or an object."""
    return fields["text"] if list(fields) == ["text"] else dict(fields)


@contextmanager
def opened(request: ModelRequest) -> Iterator[LocalModel]:
    """The model, loaded as the service loads it.

    Raises:
        InvalidSettings: as for `ModelRequest.checked_options` and `check_model_takes`.
        InvalidArtefact, ProviderUnavailable: as for `load`.
    """
    options = request.checked_options()
    with asyncio.Runner() as runner:
        load_as = LoadOptions.from_settings(request.settings, NO_LIMIT)
        deployment = runner.run(load(request.artefact, load_as, Metrics()))
        try:
            request.check_model_takes(deployment.task)
            yield LocalModel(deployment, request, options, runner)
        finally:
            runner.run(deployment.aclose(0))


# --- the options that say what is asked of which model


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model is meant, and how a file is read for it."""

    model: str | None = None
    format: InputFormat = "auto"
    text_column: str = ""
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """`encoding`, `delimiter` and `sheet`, where they are not as detected."""
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Fields that are the same for every input."""

    def request(self, mode: Mode, options: Mapping[str, Any], settings: Settings) -> ModelRequest:
        """
        Raises:
            SetupError: it is not clear which model is meant, or what was given is not for its task.
            InvalidArtefact, UnknownModel: as for `Repository.find`.
        """
        tasks = installed_tasks(settings.tasks)
        tasks.check_defaults(settings.default_models)
        fitting = _tasks_with(tasks, self.given)
        artefact = self._artefact(Repository(settings.models, settings.state), settings.default_models, tasks, fitting)
        fields = tasks.find(artefact.manifest.task).fields
        wrong = next((name for name in self.given if name not in fields), None)
        if wrong is not None:
            raise SetupError(
                f"--{wrong} is for {' and '.join(fitting).replace('-', ' ')}; {artefact.id} does {artefact.manifest.task}"
            )
        known = artefact.manifest.data_format
        reading = ReadOptions(self.format, settings.max_body_bytes, usual=known, **self.reading)
        schema = InputSchema(fields, reading, self.text_column, self.given, known.columns)
        return ModelRequest(artefact, mode, dict(options), schema, settings)

    def _artefact(self, repository: Repository, defaults: Mapping[str, str], specs: Tasks, fitting: Sequence[str]) -> Artefact:
        """The model in the version that serves; without a name the default of the route, where that is clear."""
        if self.model is not None:
            return repository.find(self.model, served=True)
        names = repository.names()
        if len(names) == 1:
            return repository.open_served(names[0])
        tasks = {name: repository.task_of(name) for name in names}
        candidates = set(fitting if self.given else tasks.values())
        orders = [list(specs.serving(route.path)) for route in specs.routes]
        order = next((order for order in orders if candidates <= set(order)), [])
        task = next((task for task in order if task in defaults or task in tasks.values()), None)
        if task is not None and candidates.intersection(tasks.values()):
            ages = {name: repository.age(name) for name, of_name in tasks.items() if of_name == task}
            return repository.open_served(defaults.get(task) or oldest(ages))
        raise SetupError(f"which model? say --model NAME; published are: {', '.join(names) or 'none'}")


def _tasks_with(tasks: Tasks, names: Mapping[str, str]) -> list[str]:
    """Tasks whose items have these fields, each of which may be one for all inputs."""
    return [task for task, spec in tasks.items() if names.keys() <= _shared_fields(spec).keys()]


def _shared_fields(spec: TaskSpec) -> dict[str, str]:
    """Fields that may be the same for every input, with their descriptions: those of items that need more than one."""
    required = {name: field.description for name, field in spec.fields.items() if field.required}
    return required if len(required) > 1 else {}


def model_options() -> dict[str, Any]:
    """Annotations of the options that `model_choice` reads."""
    shared = {name: text for spec in environment_tasks().values() for name, text in _shared_fields(spec).items()}
    return {
        "model": Annotated[
            str | None,
            typer.Option(
                metavar="NAME", help="`name`, `name/version` or a published folder's path", autocompletion=model_names
            ),
        ],
        **{name: Annotated[str | None, typer.Option(f"--{name}", metavar="TEXT", help=text)] for name, text in shared.items()},
        "format": Annotated[InputFormat | None, typer.Option(help="of the input; auto, unless said otherwise: by its name")],
        "text_column": Annotated[str | None, typer.Option(metavar="NAME", help="of the text or context; default: guessed")],
        **FILE_OPTIONS,
    }


def model_choice(values: Mapping[str, Any]) -> ModelChoice:
    own = {name: values[name] for name in ("model", "format", "text_column") if name in values}
    reading = {name: values[name] for name in FILE_OPTIONS if name in values}
    return ModelChoice(
        **own, reading=reading, given={name: value for name, value in values.items() if name not in {**own, **reading}}
    )


def option_names(spec: TaskSpec) -> list[str]:
    """The task's options that the service's own route takes."""
    return [field.name for field in dataclasses.fields(spec.options) if field.name in spec.route.item_request.model_fields]


def request_options() -> dict[str, Any]:
    """Annotations of the options of all tasks' requests."""
    tasks: dict[str, list[str]] = {}
    marked: dict[str, Any] = {}
    for task, spec in environment_tasks().items():
        for name in option_names(spec):
            tasks.setdefault(name, []).append(task)
        for entry in spec.marked:
            marked |= entry.route.item_request.model_fields
    others = {name: field for name, field in marked.items() if name not in tasks and name not in NOT_OPTIONS}
    return {
        **{name: _request_option(name, having) for name, having in tasks.items()},
        **{name: _route_option(name, field) for name, field in others.items()},
    }


def _route_option(name: str, field: Any) -> Any:
    """Of a route that is not a task's own; what may be a text or a list is a text here."""
    kind = bool if field.annotation is bool else str
    return annotated_option(name, kind, field.description, PANEL, field.default)


def _request_option(name: str, tasks: Sequence[str]) -> Any:
    spec = environment_tasks()[tasks[0]]
    field = spec.route.item_request.model_fields[name]
    text = f"{field.description} ({tasks[0]})" if len(tasks) == 1 else _COMMON.get(name, field.description)
    return annotated_option(name, typing.get_type_hints(spec.options)[name], text, PANEL, field.default)


def explain_options() -> dict[str, Any]:
    """Annotations of the options of explanations."""
    fields, kinds = explain_request(environment_tasks()).model_fields, typing.get_type_hints(ExplainOptions)
    return {
        name: annotated_option(name, kind, fields[name].description, PANEL, fields[name].default)
        for name, kind in kinds.items()
    }


_COMMON = {
    "top_k": "how many labels or answers to give, best first; where a text is drawn, from how many tokens",
    "truncation": "what to do with a text longer than the model reads: refuse, cut, or read it in windows",
}
"""What is said of the options that several tasks have."""
