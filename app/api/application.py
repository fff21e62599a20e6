"""The HTTP application: routes, handlers and middleware put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel
from starlette.routing import BaseRoute

from app.api.body import BodyBudget, BodyLimits
from app.api.errors import add_error_handlers
from app.api.middleware import RequestContextMiddleware
from app.api.openapi import document
from app.api.origins import Doors
from app.api.protocols import huggingface, libretranslate, native, open_inference, openai, text_embeddings, text_generation
from app.api.protocols.open_inference_schemas import infer_request
from app.api.routes import health, models, pages
from app.api.shedding import LoadShedder
from app.observability.metrics import Metrics
from app.observability.tracing import Traces
from app.settings import Settings
from app.tasks.registry import Tasks

DESCRIPTION = """
Hooper answers from fine-tuned BERT models: labels for a text, the words of a text that answer a question, the sentences of a
document that sum it up, and vectors. To look around first, open the [playground](./).

* `inputs` takes one item or a list; `results` is always a list in the same order. `model` is optional: each task has a default.
* Every body under **Predict** has examples that run as they are: *Execute* sends the one you see.
* An error is a [problem document](https://www.rfc-editor.org/rfc/rfc9457) with one sentence in `detail`. Every answer carries
  `X-Request-Id`: quote it when you report a fault.
* Where the service was started with API keys, send one as `Authorization: Bearer KEY`; the button *Authorize* does so on this
  page.
* Clients written for Hugging Face's Inference API, for the Open Inference Protocol (Triton, KServe), for
  text-embeddings-inference or for OpenAI's embeddings find their own routes, with their own errors.
"""
TAGS = [
    {"name": "Predict", "description": "Start here: ask a model."},
    {"name": "Models", "description": "What is loaded, on which device, and how good it is."},
    {"name": "Health", "description": "For orchestrators and Prometheus."},
    {
        "name": "Hugging Face",
        "description": "For `huggingface_hub.InferenceClient`: its `model` is the URL of `/models/{name}`.",
    },
    {"name": "Open Inference Protocol", "description": "For `tritonclient.http` and other clients of Triton and KServe."},
    {"name": "text-embeddings-inference", "description": "For clients of text-embeddings-inference."},
    {"name": "text-generation-inference", "description": "For clients of text-generation-inference."},
    {"name": "OpenAI", "description": "For `openai` and other clients of its API: their `base_url` is that of `/v1`."},
    {"name": "LibreTranslate", "description": "For clients of LibreTranslate."},
]

NO_TELEMETRY: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False
}  # fmt: skip
"""FastAPI's own would send what a validation error quotes, and addresses, to whatever the environment names: ours are in
`app.observability.tracing`."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build_application(
    settings: Settings, tasks: Tasks, metrics: Metrics, lifespan: Lifespan, traces: Traces | None = None
) -> FastAPI:
    """All routes of the HTTP contract over an application whose lifespan sets `state.hooper`."""
    app = FastAPI(
        title="Hooper",
        summary="Serves BERT, and small models that write, over REST, on the hardware that is there.",
        description=DESCRIPTION,
        version=product_version(),
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    routes = routes_of(tasks)
    app.router.routes.extend(routes.routes)
    pages.mount_static(app)
    add_error_handlers(app)
    _add_edge(app, settings, tasks, metrics, traces, routes.endpoints)
    document(app, *routes.bodies)
    return app


def _add_edge(
    app: FastAPI,
    settings: Settings,
    tasks: Tasks,
    metrics: Metrics,
    traces: Traces | None,
    endpoints: Mapping[str, native.NativeEndpoint],
) -> None:
    """What every request passes first."""
    budget = BodyBudget(max(settings.max_held_body_bytes, settings.max_body_bytes))
    root_path = settings.root_path.rstrip("/")
    # for the server, which counts what it has buffered, and refuses what nobody has room for
    app.state.body_budget = budget
    app.state.load_shedder = LoadShedder(app, [route.path for route in tasks.routes], root_path)
    app.add_middleware(
        RequestContextMiddleware,
        metrics=metrics,
        limits=BodyLimits(settings.max_body_bytes, settings.receive_s),
        budget=budget,
        root_path=root_path,
        traces=traces,
        endpoints=endpoints,
        doors=Doors.of(settings),
        num_processes=settings.front_ends,
    )


class Routes(NamedTuple):
    """All routes, and what else follows from the tasks alone, whatever the settings are."""

    routes: Sequence[BaseRoute]
    endpoints: Mapping[str, native.NativeEndpoint]
    """What answers under each native path."""
    bodies: Sequence[type[BaseModel]]
    """Models of bodies that no route names, since they are read by hand."""


def routes_of(tasks: Tasks) -> Routes:
    """What is served for these tasks."""
    operations = native.operations(tasks)
    routers = [
        (native.router(operations), "", "Predict"),
        (models.router, "/v1", "Models"),
        (health.router, "", "Health"),
        (huggingface.router(tasks), "", "Hugging Face"),
        (open_inference.router(tasks), "", "Open Inference Protocol"),
        (text_embeddings.router(tasks), "", "text-embeddings-inference"),
        (text_generation.router(tasks), "", None),
        (openai.router(tasks), "", "OpenAI"),
        (libretranslate.router(tasks), "", "LibreTranslate"),
        (pages.router(tasks), "", None),
    ]
    # generated clients name their functions after the id
    together = APIRouter(generate_unique_id_function=lambda route: route.name)
    for router, prefix, tag in routers:
        together.include_router(router, prefix=prefix, tags=[tag] if tag else None)
    endpoints = {path: operation.endpoint for path, operation in operations.items()}
    return Routes(together.routes, endpoints, [infer_request(list(tasks.values()))])


@cache  # the package's metadata are read from a file
def product_version() -> str:
    try:
        return version("hooper")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.0.0"
