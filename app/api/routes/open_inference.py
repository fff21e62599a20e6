"""`/v2`: the Open Inference Protocol, with the binary tensor data that `tritonclient.http` sends and wants by default."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response

from app.api.dependencies import Asked, Call, Live, live
from app.api.dialects import OPEN_INFERENCE
from app.api.inference import place, tensors, understand
from app.api.routes.health import is_live, is_ready
from app.api.routes.problems import EVERY_PREDICTION, problems
from app.api.schemas.open_inference import (
    EXAMPLES,
    EXTENSIONS,
    InferRequest,
    InferResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from app.api.tensors import HEADER, read_request, write_response
from app.core.errors import Unavailable

ADVICE = '"parameters": {"truncation": "truncate"}'
BYTES = "application/octet-stream"

router = APIRouter()
keyed = APIRouter(prefix="/models/{name}")
Name = Annotated[str, Path(description="A loaded model's name.", max_length=64, examples=["sentiment"])]
Version = Annotated[str, Path(description="A loaded version of it.", max_length=31, examples=["1"])]
JsonLength = Annotated[int | None, Header(alias=HEADER.lower(), ge=0, description="Bytes of JSON, where others follow.")]
State = Annotated[Live, Depends(live)]

ERRORS = problems(401, 404, 421, 422, 429, 503, dialect=OPEN_INFERENCE)
_AS_BYTES = {BYTES: {"schema": {"type": "string", "format": "binary"}}}
INFER: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"model": InferResponse, "content": _AS_BYTES}, **problems(*EVERY_PREDICTION, dialect=OPEN_INFERENCE)},
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"},
                    "examples": EXAMPLES,
                },
                **_AS_BYTES,
            },
        }
    },
}


@router.get("", summary="Show the server", responses=problems(421, dialect=OPEN_INFERENCE))
@router.get("/", include_in_schema=False)
async def server(request: Request) -> ServerMetadata:
    """Its name and version, and the extensions of the protocol that it understands."""
    return ServerMetadata(version=request.app.version, extensions=list(EXTENSIONS))


@router.get("/health/live", summary="Is the server alive?", responses=problems(503, dialect=OPEN_INFERENCE))
async def server_live(state: State) -> ServerLive:
    """200 unless the process is beyond help."""
    await is_live(state)
    return ServerLive()


@router.get("/health/ready", summary="Is the server ready?", responses=problems(503, dialect=OPEN_INFERENCE))
async def server_ready(state: State) -> ServerReady:
    """200 when every model was tried, one at least is loaded, all that the settings name are, and every engine would answer."""
    await is_ready(state)
    return ServerReady()


@keyed.get("", summary="Show a model's tensors", responses=ERRORS)
async def model(name: Name, state: State) -> ModelMetadata:
    """The tensors that the model takes and gives. A classifier also takes `text_pair`, for pairs."""
    with state.registry.lease(None, name) as deployment:
        return ModelMetadata.of(deployment, state.registry.versions(deployment.manifest.name))


@keyed.get("/versions/{version}", summary="Show the tensors of a version", responses=ERRORS)
async def model_version(name: Name, version: Version, state: State) -> ModelMetadata:
    """The same, where this version is loaded."""
    return await model(f"{name}/{version}", state)


@keyed.get("/ready", summary="Is a model ready?", responses=ERRORS)
async def model_ready(name: Name, state: State) -> ModelReady:
    """200 when the model is loaded and its engine would answer."""
    with state.registry.lease(None, name) as deployment:
        if not deployment.is_alive:
            raise Unavailable(f"the engine of {deployment.manifest.name} is down")
        return ModelReady(name=deployment.manifest.name)


@keyed.get("/versions/{version}/ready", summary="Is a version ready?", responses=ERRORS)
async def model_version_ready(name: Name, version: Version, state: State) -> ModelReady:
    """The same, where this version is loaded."""
    return await model_ready(f"{name}/{version}", state)


@keyed.get("/config", summary="Show a model's configuration", responses=ERRORS)
async def model_config(name: Name, state: State) -> ModelConfig:
    """The tensors once more, as Triton's model configuration extension tells them."""
    with state.registry.lease(None, name) as deployment:
        return ModelConfig.of(deployment)


@keyed.get("/versions/{version}/config", summary="Show a version's configuration", responses=ERRORS)
async def model_version_config(name: Name, version: Version, state: State) -> ModelConfig:
    """The same, where this version is loaded."""
    return await model_config(f"{name}/{version}", state)


@keyed.post("/infer", summary="Ask a model with tensors", **INFER)
async def infer(name: Name, request: Request, call: Asked, json_length: JsonLength = None) -> Response:
    """Texts as tensors of `BYTES`, one row per item; labels, answers or summaries as tensors, by the model's task.

    Classification: `text`, and `text_pair` for pairs, to `label` and `score`, (items, labels). Question answering: `question`
    and `context` to `answer`, `score`, `start` and `end`, (items,). Summarization: `text` to `summary`, (items,).
    Where one item cannot be answered, none is. With the header `Inference-Header-Content-Length`, the body is so many bytes of
    JSON, then the data of the inputs that have a `binary_data_size`, in their order; outputs come so where that is asked for.
    """
    return await _infer(name, await request.body(), json_length, call)


@keyed.post("/versions/{version}/infer", summary="Ask a version with tensors", **INFER)
async def infer_version(
    name: Name, version: Version, request: Request, call: Asked, json_length: JsonLength = None
) -> Response:
    """The same, where this version is loaded."""
    return await _infer(f"{name}/{version}", await request.body(), json_length, call)


async def _infer(name: str, body: bytes, json_length: int | None, call: Call) -> Response:
    asked, tail = await read_request(body, json_length, call.max_items)
    with call.lease(None, name) as deployment:
        manifest = deployment.manifest
        wish = understand(manifest.task, asked, tail)
        results = await call.results(deployment, wish.items, wish.options, place, ADVICE, wish.timeout_s)
        made = tensors(manifest.task, results)
    answer = InferResponse(
        model_name=manifest.name,
        model_version=str(manifest.version),
        id=asked.id,
        parameters={
            "num_tokens": sum(one.num_tokens for one in results),
            "num_truncated": sum(one.truncated for one in results),
        },
        outputs=[],
    )
    content, head = write_response(answer, {name: made[name] for name in wish.wanted}, wish.binary)
    if head is None:
        return Response(content, headers=call.headers, media_type="application/json")
    return Response(content, headers={**call.headers, HEADER: str(head)}, media_type=BYTES)


router.include_router(keyed)
