"""Routes of services that write: text-generation-inference's, and the generate extension of the Open Inference Protocol.

Any model that writes answers them through its task's native route. Pieces are told as they become certain, and may be of
several tokens: of single ones neither number nor probability is told.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import Response
from pydantic import BaseModel, Field

from app.api.context import ContextDep, PredictContext
from app.api.error_formats import OPEN_INFERENCE, TGI
from app.api.errors import fields_named
from app.api.events import EVENT_STREAM, EventStream, event
from app.api.json_body import JsonRoute
from app.api.openapi_responses import EVERY_PREDICTION, openapi_responses
from app.api.protocols.open_inference import MODEL_PREFIX, NOT_OPTIONS, Name, Version
from app.core.errors import HooperError, InvalidInput, TooLarge
from app.serving.deployment import Deployment
from app.tasks.base import Result, StreamedText
from app.tasks.generation import GeneratedText
from app.tasks.hub_generation import TgiDetails, option_name, read_options
from app.tasks.registry import Tasks
from app.tasks.schemas import Request, with_examples

ADVICE = '"parameters": {"truncation": "truncate"}'
ROUTE = "v1/generate"
"""Whose tasks have the default model."""
EXAMPLE = "The film was very good."
TGI_TAG, TRITON_TAG = "text-generation-inference", "Open Inference Protocol"
TGI_STATUSES = (401, 403, 404, 408, 413, 415, 421, 422, 424, 429, 503, 504)
TRITON_NAMES = {"max_tokens": "max_new_tokens"}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {EVENT_STREAM: {"schema": {"type": "string"}}}}
}
Parameters = Mapping[str, Any]
NO_NAMES: Mapping[str, str] = {}


class TgiRequest(Request):
    """A text, and how another is written from it."""

    model_config = with_examples({"inputs": EXAMPLE, "parameters": {"max_new_tokens": 20}})

    inputs: str = Field(description="The text.")
    parameters: dict[str, Any] | None = Field(
        None,
        description="How to write: `max_new_tokens`, `temperature`, `top_k`, `top_p`, `seed`, `stop`, `repetition_penalty`,"
        " `do_sample`, `details`, or any option of `/v1/generate`.",
    )
    stream: bool | None = Field(None, description="Changes nothing: the path says it.")


class TgiAnswer(BaseModel):
    """What was written."""

    generated_text: str = Field(description="The text that was written.")
    details: TgiDetails | None = Field(None, description="How it ended, where `details` asks for that.")


class TritonRequest(Request):
    """A text, and how another is written from it."""

    text_input: str = Field(description="The text.")
    id: str | None = Field(None, max_length=1024, description="Comes back with the answer.")
    parameters: dict[str, Any] | None = Field(
        None,
        description="How to write: `max_tokens`, `temperature`, `top_p`, `stop`, `details`, or any option of the native route.",
    )
    stream: bool | None = Field(None, description="Changes nothing: the path says it.")


class TritonDetails(BaseModel):
    """How a text ended; of single tokens nothing is told."""

    finish_reason: str = Field(description="`length`, `eos_token` or `stop_sequence`.")
    logprobs: list[Any] = Field([], description="Empty.")


class TritonAnswer(BaseModel):
    """What was written, or a piece of it."""

    text_output: str = Field(description="The text.")
    model_name: str = Field(description="The model's name.")
    model_version: str = Field(description="Its version.")
    id: str | None = Field(None, description="As it was sent.", exclude_if=lambda value: value is None)
    details: TritonDetails | None = Field(
        None, description="How it ended, where `details` asks for that.", exclude_if=lambda value: value is None
    )


Prepare = Callable[[Deployment], tuple[Any, Any]]
"""From a deployment to the item and the options that its task is asked with."""
OptionPlace = Callable[[Deployment], Callable[[str], str]]
"""From a deployment to how the caller names what it calls a field."""
Shape = Callable[[Deployment, int, str, GeneratedText | None], Any]
"""From a deployment, the number of a piece, from 1, its text, and with the last one the answer, to what is told."""


def native(text: str, parameters: Parameters | None, field: str, renamed: Mapping[str, str] = NO_NAMES) -> Prepare:
    """Asks a task as its native route does.

    Args:
        parameters: how, in the words of any protocol.
        renamed: parameters that the native routes call otherwise.

    Raises:
        InvalidInput: the model does not write, or a parameter is wrong.
    """

    def prepare(deployment: Deployment) -> tuple[Any, Any]:
        if not deployment.spec.is_generative:
            raise InvalidInput(f"models for {deployment.spec.name} write nothing", field)
        for name in NOT_OPTIONS:
            if name in (parameters or {}):
                raise InvalidInput("is not a field that is known here", f"parameters.{name}")
        own = deployment.spec.routes[0]
        sent = {renamed.get(name, name): value for name, value in (parameters or {}).items() if name != "details"}

        def asked(values: Mapping[str, Any]) -> tuple[Any, Any]:
            request = own.route.request.model_validate(values)
            return request, own.options(request)

        request, options = read_options(asked, sent, {"inputs": text}, partial(_parameter, parameters, renamed))
        (item,) = own.items_of(request, deployment.manifest.task_options)
        return item, options

    return prepare


def option_place(parameters: Parameters | None, renamed: Mapping[str, str] = NO_NAMES) -> OptionPlace:
    """Of the parameters of `native`."""
    sent = {renamed.get(name, name): value for name, value in (parameters or {}).items()}
    return lambda deployment: lambda field: option_name(field, sent, partial(_parameter, parameters, renamed))


def _parameter(parameters: Parameters | None, renamed: Mapping[str, str], field: str) -> str:
    """How the caller names a parameter."""
    own = (name for name, native_name in renamed.items() if native_name == field and name in (parameters or {}))
    return f"parameters.{next(own, field)}"


async def written(
    context: PredictContext, tasks: Sequence[str], model: str | None, prepare: Prepare, field: str, option: OptionPlace
) -> tuple[Deployment, GeneratedText]:
    """The answer to one text, and who gave it.

    Args:
        tasks, model: see `PredictContext.lease`.

    Raises:
        HooperError: there is none.
    """
    with context.lease(tasks, model) as deployment, fields_named(option(deployment)):
        item, options = prepare(deployment)
        (result,) = await context.results(deployment, [item], options, lambda number, inner: field, ADVICE)
        return deployment, result.answer


async def events(
    context: PredictContext,
    tasks: Sequence[str],
    model: str | None,
    prepare: Prepare,
    field: str,
    shape: Shape,
    option: OptionPlace,
) -> AsyncGenerator[bytes]:
    """The same as events: one for each piece as it is written, and one that ends them. Arguments as of `written`.

    Raises:
        HooperError: there is no answer.
    """
    number = 0
    with context.lease(tasks, model) as deployment, fields_named(option(deployment)):
        item, options = prepare(deployment)
        async with aclosing(context.pieces(deployment, item, options)) as pieces:
            async for piece in pieces:
                number += 1
                if isinstance(piece, StreamedText):
                    told = shape(deployment, number, piece.text, None)
                else:
                    (result,) = piece.results
                    answer = _good(result, field).answer
                    told = shape(deployment, number, answer.text if number == 1 else "", answer)  # of beams nothing was told
                yield event(json.dumps(told, ensure_ascii=False, separators=(",", ":")))


def _good(result: Result | HooperError, field: str) -> Result:
    """
    Raises:
        HooperError: it is one.
    """
    if isinstance(result, InvalidInput):
        raise InvalidInput(result.reason, field)
    if isinstance(result, TooLarge) and result.truncations:
        raise result.advising(ADVICE)
    if isinstance(result, HooperError):
        raise result
    return result


def tgi_token(deployment: Deployment, number: int, text: str, answer: GeneratedText | None) -> Any:
    """In the shape of text-generation-inference: a token for each piece, and with the last one the whole text."""
    details = None if answer is None else TgiDetails.of(answer).model_dump(exclude={"prefill", "tokens"})
    return {
        "index": number,
        "token": {"id": None, "text": text, "logprob": None, "special": answer is not None},
        "top_tokens": [],
        "generated_text": None if answer is None else answer.text,
        "details": None if details is None else {**details, "seed": None},
    }


async def tgi_stream(
    context: PredictContext, tasks: Sequence[str], model: str | None, prepare: Prepare, option: OptionPlace
) -> EventStream:
    """An answer in text-generation-inference's events."""
    told = events(context, tasks, model, prepare, "inputs", tgi_token, option)
    return await EventStream.begun(told, context.headers, render_error=_tgi_error)


def _tgi_error(response: Response) -> bytes:
    """As its clients look for it in a stream."""
    return event(json.dumps({"error_type": "generation", **json.loads(bytes(response.body))}))


def router(tasks: Tasks) -> APIRouter:
    """The routes, for all tasks that write."""
    routes = APIRouter(route_class=JsonRoute)
    _add_tgi(routes, [name for name in tasks.serving(ROUTE) if tasks[name].is_generative])
    # of a path whose first task only reads, the examples are that task's
    writing = [spec for spec in tasks.values() if spec.is_generative and tasks[tasks.serving(spec.route.path)[0]].is_generative]
    _add_triton(routes, [spec.open_inference.example.model for spec in writing if spec.open_inference is not None])
    return routes


def _add_tgi(routes: APIRouter, tasks: Sequence[str]) -> None:
    errors = openapi_responses(*TGI_STATUSES, error_format=TGI)

    @routes.post("/generate", name="tgi_generate", summary="Write a text", responses=errors, tags=[TGI_TAG])
    async def generate(request: TgiRequest, context: ContextDep) -> TgiAnswer:
        """What the default model of `/v1/generate` writes, in text-generation-inference's shape."""
        prepare, option = native(request.inputs, request.parameters, "inputs"), option_place(request.parameters)
        _, answer = await written(context, tasks, None, prepare, "inputs", option)
        details = TgiDetails.of(answer) if (request.parameters or {}).get("details") else None
        return TgiAnswer(generated_text=answer.text, details=details)

    @routes.post(
        "/generate_stream",
        name="tgi_generate_stream",
        summary="Write a text piece by piece",
        response_class=Response,
        responses={**STREAM, **errors},
        tags=[TGI_TAG],
    )
    async def generate_stream(request: TgiRequest, context: ContextDep) -> Response:
        """The same as server-sent events while it is written. Of single tokens neither number nor probability is told."""
        prepare = native(request.inputs, request.parameters, "inputs")
        return await tgi_stream(context, tasks, None, prepare, option_place(request.parameters))


def _add_triton(routes: APIRouter, models: Sequence[str]) -> None:
    """`models`: names for the examples."""
    example = {"text_input": EXAMPLE, "parameters": {"max_tokens": 20}}
    examples: Any = {name: {"summary": name, "value": example} for name in models}
    errors = openapi_responses(*EVERY_PREDICTION, error_format=OPEN_INFERENCE)

    async def generate(name: Name, request: Any, context: ContextDep) -> TritonAnswer:
        """What the model writes from a text, as Triton's generate extension tells it."""
        prepare = native(request.text_input, request.parameters, "text_input", TRITON_NAMES)
        option = option_place(request.parameters, TRITON_NAMES)
        deployment, answer = await written(context, (), name, prepare, "text_input", option)
        return _triton(deployment, answer.text, request, answer)

    async def generate_version(name: Name, version: Version, request: Any, context: ContextDep) -> TritonAnswer:
        """The same, where this version is loaded."""
        return await generate(f"{name}/{version}", request, context)

    async def generate_stream(name: Name, request: Any, context: ContextDep) -> Response:
        """The same as server-sent events while it is written."""
        prepare = native(request.text_input, request.parameters, "text_input", TRITON_NAMES)
        option = option_place(request.parameters, TRITON_NAMES)
        found = events(context, (), name, prepare, "text_input", partial(_triton_piece, request), option)
        return await EventStream.begun(found, context.headers, render_error=lambda response: event(bytes(response.body)))

    async def generate_stream_version(name: Name, version: Version, request: Any, context: ContextDep) -> Response:
        """The same, where this version is loaded."""
        return await generate_stream(f"{name}/{version}", request, context)

    version = f"{MODEL_PREFIX}/versions/{{version}}"
    streamed: Any = {"response_class": Response, "responses": {**STREAM, **errors}}
    whole: Any = {"responses": errors}
    for path, answer, summary, options in (
        (f"{MODEL_PREFIX}/generate", generate, "Write a text with a model", whole),
        (f"{version}/generate", generate_version, "Write a text with a version", whole),
        (f"{MODEL_PREFIX}/generate_stream", generate_stream, "Write a text with a model piece by piece", streamed),
        (f"{version}/generate_stream", generate_stream_version, "Write a text with a version piece by piece", streamed),
    ):
        answer.__annotations__["request"] = Annotated[TritonRequest, Body(openapi_examples=examples)]
        routes.post(path, name=f"triton_{answer.__name__}", summary=summary, tags=[TRITON_TAG], **options)(answer)


def _triton_piece(request: TritonRequest, deployment: Deployment, number: int, text: str, answer: GeneratedText | None) -> Any:
    return _triton(deployment, text, request, answer).model_dump()


def _triton(deployment: Deployment, text: str, request: TritonRequest, answer: GeneratedText | None) -> TritonAnswer:
    manifest, details = deployment.manifest, None
    if answer is not None and (request.parameters or {}).get("details"):
        details = TritonDetails(finish_reason=TgiDetails.of(answer).finish_reason, logprobs=[])
    return TritonAnswer(
        text_output=text, model_name=manifest.name, model_version=str(manifest.version), id=request.id, details=details
    )
