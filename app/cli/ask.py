"""Asks one model as the service does: the same checks of options and items, the same deployment, the same answers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

from pydantic import BaseModel, ValidationError

from app.api.schemas.answer import AnswerRequest, AnswerResult
from app.api.schemas.classify import ClassifyRequest, ClassifyResult
from app.api.schemas.common import failed
from app.api.schemas.explain import ExplainRequest, ExplainResult
from app.api.schemas.summarize import SummarizeRequest, SummarizeResult
from app.batching.admission import QueueLimit
from app.cli.inputs import Asked
from app.core.artefact import Artefact
from app.core.errors import HooperError, InvalidSettings
from app.core.types import TaskName
from app.core.validation import wrong_field
from app.main import load_options
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment, Prediction
from app.serving.explaining import ExplainOptions, explain
from app.serving.loader import load
from app.settings import Settings
from app.tasks.base import Result
from app.tasks.extractive_summarization.task import SummaryOptions
from app.tasks.question_answering.task import AnswerOptions
from app.tasks.text_classification.task import ClassificationOptions

NO_LIMIT = QueueLimit(2**31, 2**31)
"""Nobody else waits here: what was read is answered, however many windows a text has."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the service takes requests for a task and wraps its answers."""

    request: Any
    options: type[Any]
    wrap: Callable[[Result], BaseModel]
    item: Any
    """One item, to check options with."""
    predict: Callable[[Deployment, Sequence[Any], Any], Awaitable[Prediction]] = Deployment.predict
    items: Callable[[Any], Sequence[Any]] = methodcaller("items")
    """From a request to the task's own items."""

    @property
    def option_names(self) -> list[str]:
        """The task's options that the service's own route takes."""
        return [one.name for one in dataclasses.fields(self.options) if one.name in self.request.model_fields]


ROUTES: Mapping[TaskName, Route] = {
    "text-classification": Route(ClassifyRequest, ClassificationOptions, ClassifyResult.of, "text"),
    "question-answering": Route(AnswerRequest, AnswerOptions, AnswerResult.of, {"question": "question", "context": "context"}),
    "summarization": Route(SummarizeRequest, SummaryOptions, SummarizeResult.of, "text"),
}


def explaining(task: TaskName) -> Route:
    """The same for explanations of this task's models."""
    return Route(ExplainRequest, ExplainOptions, ExplainResult.of, ROUTES[task].item, explain, methodcaller("items", task))


class Asker:
    """One loaded model on an event loop of its own; see `asking`."""

    def __init__(self, deployment: Deployment, route: Route, options: Mapping[str, Any], runner: asyncio.Runner) -> None:
        self.runner = runner
        self._deployment, self._route, self._options = deployment, route, options

    def ask(self, inputs: Sequence[Asked]) -> list[dict[str, Any]]:
        """For each input what stands in `results` of the service's answer: a result, or an error in its place."""
        return self.runner.run(self.answers(inputs))

    async def answers(self, inputs: Sequence[Asked]) -> list[dict[str, Any]]:
        """The same on the loop; what costs the interpreter time runs on threads, so that the engine is served meanwhile."""
        items, options = await asyncio.to_thread(self._items, [one.fields for one in inputs])
        sound = [one for one in items if not isinstance(one, HooperError)]
        results = (await self._route.predict(self._deployment, sound, options)).results if sound else []
        return await asyncio.to_thread(self._wrapped, items, iter(results))

    def _items(self, inputs: Sequence[Mapping[str, Any] | HooperError]) -> tuple[Sequence[Any], Any]:
        """For each input the task's own item or why there is none, and the options."""
        sound = [one for one in inputs if not isinstance(one, HooperError)]
        if not sound:
            return list(inputs), None
        asked = [one["text"] if list(one) == ["text"] else dict(one) for one in sound]
        request = self._route.request.model_validate({"inputs": asked, **self._options})
        items = iter(self._route.items(request))
        return [one if isinstance(one, HooperError) else next(items) for one in inputs], request.options()

    def _wrapped(self, items: Sequence[Any], results: Iterator[Result | HooperError]) -> list[dict[str, Any]]:
        found = (one if isinstance(one, HooperError) else next(results) for one in items)
        return [(failed(one) if isinstance(one, HooperError) else self._route.wrap(one)).model_dump() for one in found]


@contextmanager
def asking(artefact: Artefact, route: Route, settings: Settings, options: Mapping[str, Any]) -> Iterator[Asker]:
    """The model, loaded as the service loads it.

    Args:
        artefact: the model.
        route: what is asked of it.
        settings: what to compute on.
        options: of each request, by the names that the service gives them.

    Raises:
        InvalidSettings: an option is not one of the task's, or its value is refused.
        InvalidArtefact, ProviderUnavailable: as for `load`.
    """
    checked = checked_options(artefact, route, options)
    with asyncio.Runner() as runner:
        wishes = dataclasses.replace(load_options(settings), queue=NO_LIMIT)
        deployment = runner.run(load(artefact, wishes, Metrics()))
        try:
            yield Asker(deployment, route, checked, runner)
        finally:
            runner.run(deployment.aclose(0))


def checked_options(artefact: Artefact, route: Route, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, once the service's own schema has taken them."""
    task = artefact.manifest.task
    for name in options:
        if name not in route.option_names:
            raise InvalidSettings(f"--{name.replace('_', '-')} is no option of {task}, which is what {artefact.id} does")
    try:
        route.request.model_validate({"inputs": [route.item], **options})
    except ValidationError as error:
        name, message = wrong_field(error.errors(include_url=False))
        raise InvalidSettings(f"--{name.replace('_', '-')}: {message}") from error
    return dict(options)
