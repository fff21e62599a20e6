"""The HTTP application: routes, handlers and middleware put together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import PackageNotFoundError, version

from fastapi import Depends, FastAPI
from pydantic.json_schema import models_json_schema

from app.api.auth import require_key
from app.api.dialects import HUGGING_FACE, NATIVE, TEI
from app.api.errors import add_error_handlers
from app.api.middleware import Edge
from app.api.routes import (
    answer,
    classify,
    explain,
    health,
    hugging_face,
    models,
    open_inference,
    pages,
    summarize,
    text_embeddings,
)  # fmt: skip
from app.api.schemas.open_inference import InferRequest
from app.observability.metrics import Metrics
from app.settings import Settings

DESCRIPTION = """
Hooper answers from fine-tuned BERT models: labels for a text, the words of a text that answer a question, and the sentences of
a document that sum it up.

* `inputs` takes one item or a list; `results` is always a list in the same order.
* `model` is optional: each task has a default.
* Errors are [problem documents](https://www.rfc-editor.org/rfc/rfc9457); every answer carries `X-Request-Id`.
* Clients written for Hugging Face's Inference API, for the Open Inference Protocol (Triton, KServe) or for
  text-embeddings-inference find their own routes, with their own errors.
"""
TAGS = [
    {"name": "Predict", "description": "Ask a model."},
    {"name": "Models", "description": "What is loaded, on which device, and how good it is."},
    {"name": "Health", "description": "For orchestrators and Prometheus."},
    {
        "name": "Hugging Face",
        "description": "For `huggingface_hub.InferenceClient`: its `model` is the URL of `/models/{name}`.",
    },
    {"name": "Open Inference Protocol", "description": "For `tritonclient.http` and other clients of Triton and KServe."},
    {"name": "text-embeddings-inference", "description": "For clients of text-embeddings-inference's classifiers."},
]

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build_application(settings: Settings, metrics: Metrics, lifespan: Lifespan) -> FastAPI:
    """All routes of the HTTP contract over an application whose lifespan sets `state.hooper`."""
    app = FastAPI(
        title="Hooper",
        summary="Serves BERT: classification, question answering and summarization over REST, on the hardware that is there.",
        description=DESCRIPTION,
        version=product_version(),
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    keyed = [Depends(require_key)]
    for predicting in (classify, answer, summarize, explain):
        app.include_router(predicting.router, prefix="/v1", tags=["Predict"], dependencies=keyed)
    app.include_router(models.router, prefix="/v1", tags=["Models"])
    app.include_router(health.router, tags=["Health"])
    app.include_router(hugging_face.router, tags=["Hugging Face"], dependencies=keyed)
    app.include_router(open_inference.router, prefix="/v2", tags=["Open Inference Protocol"])
    app.include_router(text_embeddings.router, tags=["text-embeddings-inference"], dependencies=keyed)
    app.include_router(pages.router)
    pages.mount_static(app)
    add_error_handlers(app)
    app.add_middleware(Edge, metrics=metrics, max_body_bytes=settings.max_body_bytes, root_path=settings.root_path.rstrip("/"))
    _document_unseen(app)
    return app


def product_version() -> str:
    try:
        return version("hooper")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.0.0"


def _document_unseen(app: FastAPI) -> None:
    """Add what routes refer to by name to the OpenAPI file: errors, and the body that is read by hand."""
    make = app.openapi
    models = (NATIVE.model, HUGGING_FACE.model, TEI.model, InferRequest)
    _, unseen = models_json_schema([(model, "validation") for model in models], ref_template="#/components/schemas/{model}")

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = make()
            schema["components"]["schemas"].update(unseen["$defs"])
            for path in schema["paths"].values():
                for operation in path.values():
                    _drop_fastapi_errors(operation)
            schema["components"]["schemas"].pop("HTTPValidationError", None)
            schema["components"]["schemas"].pop("ValidationError", None)
        schema_now: dict[str, object] = app.openapi_schema or {}
        return schema_now

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_fastapi_errors(operation: dict[str, dict[str, object]]) -> None:
    """FastAPI documents its own shape of 422, which this service never sends, where a route documents none."""
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        operation["responses"].pop("422")
