"""`/v2`: the Open Inference Protocol, with the binary tensor data that `tritonclient.http` sends and wants by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response

from app.api.context import ContextDep, PredictContext, StateDep, no_codec
from app.api.error_formats import OPEN_INFERENCE
from app.api.errors import fields_named
from app.api.openapi_responses import EVERY_PREDICTION, openapi_responses
from app.api.protocols.open_inference_schemas import (
    EXTENSIONS,
    InferRequest,
    InferResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    RequestOutput,
    ServerLive,
    ServerMetadata,
    ServerReady,
    check_content_type,
)
from app.api.protocols.tensors import HEADER, Tensor, read_request, read_texts, write_response
from app.api.routes.health import is_live, is_ready
from app.core.errors import InvalidInput, Unavailable
from app.serving.deployment import Deployment
from app.tasks.base import Result
from app.tasks.registry import Tasks
from app.tasks.schemas import read_as
from app.tasks.spec import Datatype, NativeRoute, OpenInferenceCodec, TaskSpec

ADVICE = '"parameters": {"truncation": "truncate"}'
BYTES = "application/octet-stream"
NOT_OPTIONS = ("inputs", "model")
"""Fields of a native request that are no options of it."""
DESCRIPTION = """Texts as tensors of `BYTES`, one row per item; labels, answers or summaries as tensors, by the model's task.

{tasks}
Where one item cannot be answered, none is. With the header `Inference-Header-Content-Length`, the body is so many bytes of
JSON, then the data of the inputs that have a `binary_data_size`, in their order; outputs come so where that is asked for."""

Name = Annotated[str, Path(description="A loaded model's name.", max_length=64, examples=["sentiment"])]
Version = Annotated[str, Path(description="A loaded version of it.", max_length=31, examples=["2"])]
JsonLength = Annotated[int | None, Header(alias=HEADER.lower(), ge=0, description="Bytes of JSON, where others follow.")]

ERRORS = openapi_responses(401, 404, 421, 422, 429, 503, error_format=OPEN_INFERENCE)
_AS_BYTES = {BYTES: {"schema": {"type": "string", "format": "binary"}}}
MICROSECONDS = 1_000_000
LONGEST_US = 3_600 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Inference:
    """An inference request, as a task understands it."""

    items: Sequence[Any]
    options: Any
    """The task's own; of a route that is not, the whole request."""
    outputs: Sequence[str]
    """Names of those that are wanted, in order."""
    binary: Sequence[str]
    """Those whose data follows the JSON."""
    timeout_s: float | None


def parse_request(
    spec: TaskSpec, codec: OpenInferenceCodec, outputs: Sequence[str], request: InferRequest, tail: bytes
) -> Inference:
    """
    Args:
        request: the JSON.
        tail: the bytes after it.

    Raises:
        InvalidInput: a tensor or a parameter is not one of this task's.
    """
    parameters = dict(request.parameters or {})
    all_binary = _flag(parameters.pop("binary_data_output", False), "parameters.binary_data_output")
    timeout_s = _timeout(parameters.pop("timeout", None))
    if "content_type" in parameters:  # MLServer's: how a tensor's data is to be read
        check_content_type(parameters.pop("content_type"))
    names = _requested_outputs(outputs, request.outputs)
    texts = read_texts(request.inputs, tail, codec)
    route = spec.route_for(parameters)
    wishes = {output.name: output.parameters.binary_data for output in request.outputs or () if output.parameters}
    binary = [name for name in names if (all_binary if wishes.get(name) is None else wishes[name])]
    items = codec.items(texts)
    if route is not None:
        return Inference(items, _request(route.route, codec, items, parameters), names, binary, timeout_s)
    options = spec.routes[0].options(_request(spec.route, codec, codec.native_item, parameters))
    return Inference(items, options, names, binary, timeout_s)


def field_path(number: int, field: str) -> str:
    """How the caller names an element of an input."""
    return f"inputs.{field}.{number}"


def option_path(field: str) -> str:
    """How the caller names an option that the model refuses; what is named already stays."""
    return field if field.partition(".")[0] in ("inputs", "outputs", "parameters") else f"parameters.{field}"


def tensors(codec: OpenInferenceCodec, outputs: Mapping[str, Datatype], results: Sequence[Result]) -> dict[str, Tensor]:
    """All outputs of a model."""
    columns, shape = codec.columns(results)
    return {name: Tensor(datatype, shape, columns[name]) for name, datatype in outputs.items()}


def _requested_outputs(existing: Sequence[str], requested: Sequence[RequestOutput] | None) -> list[str]:
    names = [output.name for output in requested] if requested else list(existing)
    for name in names:
        if name not in existing:
            raise InvalidInput(f"{name!r} is not an output of this model, which has {', '.join(existing)}", "outputs")
        if names.count(name) > 1:
            raise InvalidInput("is there twice", f"outputs.{name}")
    return names


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput("should be a valid boolean", where)
    return value


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST_US:
        raise InvalidInput(f"should be microseconds, between 1 and {LONGEST_US}", "parameters.timeout")
    return value / MICROSECONDS


def _request(route: NativeRoute, codec: OpenInferenceCodec, inputs: Any, parameters: Mapping[str, Any]) -> Any:
    """A request of a native route with its own limits: the options are read by its own schema, around an item that fits."""
    for name in parameters:
        if name in (*NOT_OPTIONS, *codec.excluded):
            raise InvalidInput("is not a field that is known here", f"parameters.{name}")
    request = {"inputs": inputs, **parameters}
    return read_as(route.item_request, request, lambda field: f"parameters.{field}" if field else "parameters")


MODEL_PREFIX = "/v2/models/{name}"
_server, _model = APIRouter(prefix="/v2"), APIRouter(prefix=MODEL_PREFIX)


@_server.get("", summary="Show the server", responses=openapi_responses(421, error_format=OPEN_INFERENCE))
@_server.get("/", include_in_schema=False)
async def server(request: Request) -> ServerMetadata:
    """Its name and version, and the extensions of the protocol that it understands."""
    return ServerMetadata(version=request.app.version, extensions=list(EXTENSIONS))


@_server.get("/health/live", summary="Is the server alive?", responses=openapi_responses(503, error_format=OPEN_INFERENCE))
async def server_live(state: StateDep) -> ServerLive:
    """200 unless the process is beyond help."""
    await is_live(state)
    return ServerLive()


@_server.get("/health/ready", summary="Is the server ready?", responses=openapi_responses(503, error_format=OPEN_INFERENCE))
async def server_ready(state: StateDep) -> ServerReady:
    """200 when every model was tried, one at least is loaded, all that the settings name are, and every engine would answer."""
    await is_ready(state)
    return ServerReady()


@_model.get("", summary="Show a model's tensors", responses=ERRORS)
async def model(name: Name, state: StateDep) -> ModelMetadata:
    """The tensors that the model takes and gives. A classifier also takes `text_pair`, for pairs."""
    with state.registry.lease((), name) as deployment:
        codec = _codec(deployment)
        return ModelMetadata.of(deployment, codec, state.registry.versions(deployment.manifest.name))


@_model.get("/versions/{version}", summary="Show the tensors of a version", responses=ERRORS)
async def model_version(name: Name, version: Version, state: StateDep) -> ModelMetadata:
    """The same, where this version is loaded."""
    return await model(f"{name}/{version}", state)


@_model.get("/ready", summary="Is a model ready?", responses=ERRORS)
async def model_ready(name: Name, state: StateDep) -> ModelReady:
    """200 when the model is loaded and its engine would answer."""
    with state.registry.lease((), name) as deployment:
        if not deployment.is_alive:
            raise Unavailable(f"the engine of {deployment.manifest.name} is down")
        return ModelReady(name=deployment.manifest.name)


@_model.get("/versions/{version}/ready", summary="Is a version ready?", responses=ERRORS)
async def model_version_ready(name: Name, version: Version, state: StateDep) -> ModelReady:
    """The same, where this version is loaded."""
    return await model_ready(f"{name}/{version}", state)


@_model.get("/config", summary="Show a model's configuration", responses=ERRORS)
async def model_config(name: Name, state: StateDep) -> ModelConfig:
    """The tensors once more, as Triton's model configuration extension tells them."""
    with state.registry.lease((), name) as deployment:
        return ModelConfig.of(deployment, _codec(deployment))


@_model.get("/versions/{version}/config", summary="Show a version's configuration", responses=ERRORS)
async def model_version_config(name: Name, version: Version, state: StateDep) -> ModelConfig:
    """The same, where this version is loaded."""
    return await model_config(f"{name}/{version}", state)


def router(tasks: Tasks) -> APIRouter:
    """The routes, for all tasks that speak this protocol."""
    routes, keyed = APIRouter(), APIRouter(prefix=MODEL_PREFIX)
    routes.include_router(_server)
    routes.include_router(_model)
    own = [spec.open_inference for spec in tasks.values()]
    marked = [entry.open_inference for spec in tasks.values() for entry in spec.routes]
    codecs = [codec for codec in (*own, *marked) if codec is not None]
    described = DESCRIPTION.format(tasks=fill(" ".join(dict.fromkeys(codec.description for codec in codecs)), 124))
    operation = _infer_operation(tasks)

    @keyed.post("/infer", summary="Ask a model with tensors", description=described, **operation)
    async def infer(name: Name, request: Request, context: ContextDep, json_length: JsonLength = None) -> Response:
        return await _infer(name, await request.body(), json_length, context)

    @keyed.post("/versions/{version}/infer", summary="Ask a version with tensors", **operation)
    async def infer_version(
        name: Name, version: Version, request: Request, context: ContextDep, json_length: JsonLength = None
    ) -> Response:
        """The same, where this version is loaded."""
        return await _infer(f"{name}/{version}", await request.body(), json_length, context)

    routes.include_router(keyed)
    return routes


def _infer_operation(tasks: Tasks) -> dict[str, Any]:
    specs = [spec for spec in tasks.values() if spec.open_inference is not None]
    examples: dict[str, Any] = {}
    for spec in specs:
        if spec.open_inference is not None:  # of tasks that share an example the first one names it
            example = spec.open_inference.example
            examples.setdefault(example.model, {"summary": spec.title, "value": example.value})
    json_body = {"schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"}, "examples": examples}
    return {
        "response_class": Response,
        "responses": {
            200: {"model": InferResponse, "content": _AS_BYTES},
            **openapi_responses(*EVERY_PREDICTION, error_format=OPEN_INFERENCE),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": json_body, **_AS_BYTES}}},
    }


def _codec(deployment: Deployment) -> OpenInferenceCodec:
    codec = deployment.spec.open_inference
    if codec is None:
        raise no_codec(deployment.spec)
    return codec


async def _infer(name: str, body: bytes, json_length: int | None, context: PredictContext) -> Response:
    request, tail = await read_request(body, json_length, context.max_items)
    with context.lease((), name) as deployment:
        manifest, codec = deployment.manifest, _codec(deployment)
        own = deployment.spec.route_for(request.parameters or {})
        codec = own.open_inference if own is not None and own.open_inference is not None else codec
        types = codec.outputs_of(manifest.task_options)
        inference = parse_request(deployment.spec, codec, list(types), request, tail)
        options, timeout_s = inference.options, inference.timeout_s
        with fields_named(option_path):
            if own is None:
                results = await context.results(deployment, inference.items, options, field_path, ADVICE, timeout_s)
            else:
                results = await context.route_results(deployment, own, options, field_path, ADVICE, timeout_s)
        outputs = tensors(codec, types, results)
    answer = InferResponse(
        model_name=manifest.name,
        model_version=str(manifest.version),
        id=request.id,
        parameters={
            "num_tokens": sum(result.num_tokens for result in results),
            "num_truncated": sum(result.truncated for result in results),
        },
        outputs=[],
    )
    content, head = write_response(answer, {name: outputs[name] for name in inference.outputs}, inference.binary)
    if head is None:
        return Response(content, headers=context.headers, media_type="application/json")
    return Response(content, headers={**context.headers, HEADER: str(head)}, media_type=BYTES)
