"""`POST /models/{name}`: the Hugging Face Inference API, so that its clients work unchanged.

`huggingface_hub.InferenceClient` is told the model's URL, in one of these ways:

    InferenceClient(model="http://127.0.0.1:8000/models/sentiment").text_classification("Great.")
    InferenceClient(base_url="http://127.0.0.1:8000/models/sentiment").text_classification("Great.")
    InferenceClient().text_classification("Great.", model="http://127.0.0.1:8000/models/sentiment")

A key goes into `token` or `api_key`. A bare model name does not work: the client looks that up on the hub. Nor does the
service's URL alone: for these tasks the client adds no path to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Response
from pydantic import BaseModel, Field, create_model

from app.api.context import ContextDep, PredictContext, no_codec
from app.api.error_formats import HUGGING_FACE
from app.api.errors import fields_named
from app.api.json_body import JsonRoute
from app.api.openapi_responses import EVERY_PREDICTION, openapi_responses
from app.api.protocols.text_generation import tgi_stream
from app.core.errors import EmptyBatch, InvalidInput
from app.serving.deployment import Deployment
from app.tasks.registry import Tasks
from app.tasks.schemas import Request, as_list, read_as, union
from app.tasks.spec import HuggingFaceCodec, Served, TaskSpec

HUB_CLIENT = re.compile(r"hf_hub/|@huggingface/")
"""What Hugging Face's Python and JavaScript clients call themselves."""
ADVICE = '"parameters": {"truncation": "longest_first"}'
DESCRIPTION = """Labels, answers or a summary, by the model's task, in the shapes of Hugging Face's task specifications.

One input gets the specification's answer, a list of inputs a list of those; where one of a list cannot be answered, none
is. The header `X-Truncated` says how many inputs were cut. To Hugging Face's own clients, told by their `User-Agent`, the
answer to one input has the shape that they read: labels and summaries in a list of one, a lone answer without its list."""
Name = Annotated[str, Path(description="A loaded model's name.", max_length=64, examples=["sentiment"])]


class Options(Request):
    """What the hosted API knows and a service of one's own need not."""

    use_cache: bool | None = Field(None, description="Changes nothing: answers are not cached.")
    wait_for_model: bool | None = Field(None, description="Changes nothing: a model that is not loaded is not waited for.")


class Inputs(Request):
    """A request, whose fields depend on the tasks: see `request_model`."""

    def place(self, number: int, field: str) -> str:
        """How the caller names a field of an item; without a field, the item."""
        inputs = getattr(self, "inputs")  # noqa: B009 - a field that the tasks decide, see `request_model`
        outer = f"inputs.{number}" if isinstance(inputs, list) else "inputs"
        return outer if isinstance(as_list(inputs)[number], str) or not field else f"{outer}.{field}"


def parameters_model(codecs: Sequence[HuggingFaceCodec]) -> type[BaseModel]:
    """The parameters of all tasks; of one that several have, each describes its own meaning."""
    fields: dict[str, tuple[Any, Any]] = {}
    for codec in codecs:
        for name, (kind, field) in codec.parameters.items():
            existing = fields.get(name)
            if existing is not None and field is not None and existing[1].description != field.description:
                field = Field(None, description=f"{existing[1].description} {field.description}")
            fields[name] = (kind, field)
    return create_model("Parameters", __base__=Request, __doc__=_PARAMETERS, **fields)  # type: ignore[call-overload, no-any-return]


_PARAMETERS = "Options of the model's task; those of another task are refused."


def request_model(specs: Sequence[TaskSpec], codecs: Sequence[HuggingFaceCodec]) -> type[Inputs]:
    """The body: an input of any task, or a list of them."""
    # a text first, then objects
    item: Any = union([
        *(kind for spec in reversed(specs) for kind in spec.native.types),
        *(kind for codec in codecs for kind in codec.types),
    ])  # fmt: skip
    forms = "; ".join(dict.fromkeys(codec.inputs for codec in codecs))
    described = f"{forms[:1].upper()}{forms[1:]}. Or a list of them: then the answer is a list, too."
    fields = {
        "inputs": (item | Annotated[list[item], Field(fail_fast=True)], Field(description=described)),
        "parameters": (
            parameters_model(codecs) | None, Field(None, description="What is wished of the answer, by the model's task.")
        ),
        "stream": (
            bool | None,
            Field(None, description="Whether the text of one input is sent while it is written, by models that write."),
        ),
        "options": (Options | None, Field(None, description="What Hugging Face's clients send along.")),
        **_beside_inputs(codecs),
    }  # fmt: skip
    doc = "One input or a list of them, as the model's task needs it."
    return create_model("InferenceRequest", __base__=Inputs, __doc__=doc, **fields)  # type: ignore[call-overload, no-any-return]


def _beside_inputs(codecs: Sequence[HuggingFaceCodec]) -> dict[str, tuple[Any, Any]]:
    """Fields of the parameters that may stand beside `inputs`, too."""
    return {
        name: (
            codec.parameters[name][0],
            Field(None, description=f"As in `parameters`. {codec.parameters[name][1].description}"),
        )
        for codec in codecs
        for name in sorted(codec.beside_inputs)
    }


def answer_type(codecs: Sequence[HuggingFaceCodec]) -> Any:
    """Of an answer to one input of any task, or to a list of them."""
    return union([*(kind for codec in codecs for kind in codec.answers), *(list[codec.answers[0]] for codec in codecs)])  # type: ignore[name-defined]


def parse_items(spec: TaskSpec, codec: HuggingFaceCodec, request: Any) -> list[Any]:
    """The task's own items.

    Raises:
        InvalidInput: there is none, or one is of another task's shape.
    """
    inputs = as_list(request.inputs)
    if not inputs:
        raise EmptyBatch("must not be empty", "inputs")
    items = []
    for number, value in enumerate(inputs):
        item = codec.item(value)
        if item is None:
            raise InvalidInput(f"should be {codec.wanted}, for this model does {spec.name}", request.place(number, ""))
        items.append(item)
    return items


def parse_options(spec: TaskSpec, codec: HuggingFaceCodec, parameters: Any) -> Any:
    """The task's own options.

    Raises:
        InvalidInput: a parameter is another task's.
    """
    for name in type(parameters).model_fields:
        if name not in codec.parameters and getattr(parameters, name) is not None:
            accepted = ", ".join(codec.parameters) or "none"
            raise InvalidInput(f"is not a parameter of {spec.name}, which has {accepted}", f"parameters.{name}")
    return codec.options(parameters)


def route_request(own: Served, items: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """A request of a native route.

    Raises:
        InvalidInput: one of its options is wrong.
    """
    renamed = own.hugging_face.renamed if own.hugging_face is not None else {}
    request = {"inputs": list(items), **options}
    return read_as(own.route.item_request, request, lambda name: f"parameters.{renamed.get(name, name)}")


def place_of(request: Any, codec: HuggingFaceCodec, is_route: bool, number: int, field: str) -> str:
    """How the caller names an option, or a field of an input; of a native route's request its inputs have no fields here."""
    head, dot, rest = field.partition(".")
    name = codec.renamed.get(head, head)
    return (
        f"parameters.{name}{dot}{rest}" if name in codec.parameters else str(request.place(number, "" if is_route else field))
    )


def _all_parameters(request: Any, parameters: Any, codecs: Sequence[HuggingFaceCodec]) -> Any:
    """The parameters, with those that stand beside `inputs`.

    Raises:
        InvalidInput: one of them is in both places.
    """
    names = sorted({name for codec in codecs for name in codec.beside_inputs})
    beside = {name: value for name in names if (value := getattr(request, name)) is not None}
    for name in beside:
        if getattr(parameters, name) is not None:
            raise InvalidInput("is there twice: within `parameters` and beside them", name)
    return parameters.model_copy(update=beside) if beside else parameters


def _codec_of(spec: TaskSpec) -> HuggingFaceCodec:
    if spec.hugging_face is None:
        raise no_codec(spec)
    return spec.hugging_face


def _streamed(
    request: Any, codecs: Sequence[HuggingFaceCodec], parameters: Callable[[], Any], deployment: Deployment
) -> tuple[Any, Any]:
    """The item and the options of a request whose answer is sent while it is written.

    Raises:
        InvalidInput: it has several inputs, or one of its fields is wrong.
    """
    spec, codec = deployment.spec, _codec_of(deployment.spec)
    if isinstance(request.inputs, list):
        raise InvalidInput("takes one input, not a list", "stream")
    given = _all_parameters(request, request.parameters or parameters(), codecs)
    (item,) = parse_items(spec, codec, request)
    return item, parse_options(spec, codec, given)


def _option_place(
    request: Any, codecs: Sequence[HuggingFaceCodec], parameters: Callable[[], Any], deployment: Deployment
) -> Callable[[str], str]:
    """How the caller of `_streamed` names an option that the model refuses."""
    given = _all_parameters(request, request.parameters or parameters(), codecs)
    return partial(_codec_of(deployment.spec).option_place, given)


async def _answered(
    context: PredictContext, deployment: Deployment, usual: HuggingFaceCodec, request: Any, given: Any
) -> tuple[HuggingFaceCodec, list[Any]]:
    """The answer to each input, and the codec of the route that the parameters say is meant; usually the task's own."""
    spec = deployment.spec
    own = spec.hugging_face_for(given)
    codec = own.hugging_face if own is not None and own.hugging_face is not None else usual
    items, options = parse_items(spec, codec, request), parse_options(spec, codec, given)
    place = partial(place_of, request, codec, own is not None)
    with fields_named(partial(codec.option_place, given)):
        if own is None:
            results = await context.results(deployment, items, options, place, ADVICE)
        else:
            results = await context.route_results(deployment, own, route_request(own, items, options), place, ADVICE)
    return codec, [codec.answer(result) for result in results]


def _titled_examples(specs: Sequence[TaskSpec], codecs: Sequence[HuggingFaceCodec]) -> Any:
    titled: dict[str, Any] = {}
    for spec, codec in zip(specs, codecs, strict=False):  # of tasks that share an example the first one names it
        titled.setdefault(codec.example.model, {"summary": spec.title, "value": codec.example.value})
    return titled


def _codecs(specs: Sequence[TaskSpec]) -> list[HuggingFaceCodec]:
    """Of the tasks, then of routes that are not a task's own."""
    codecs = [spec.hugging_face for spec in specs if spec.hugging_face is not None]
    marked = [entry.hugging_face for spec in specs for entry in spec.routes if entry.hugging_face is not None]
    return [*codecs, *{id(codec): codec for codec in marked}.values()]  # tasks that serve one route share it


def router(tasks: Tasks) -> APIRouter:
    """The route, for all tasks that speak this protocol."""
    specs = [spec for spec in tasks.values() if spec.hugging_face is not None]
    codecs = _codecs(specs)
    parameters = parameters_model(codecs)

    async def ask_by_name(
        name: Name,
        request: Any,
        context: ContextDep,
        response: Response,
        user_agent: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Any:
        if request.stream:
            prepare = partial(_streamed, request, codecs, parameters)
            return await tgi_stream(context, (), name, prepare, partial(_option_place, request, codecs, parameters))
        with context.lease((), name) as deployment:
            usual = _codec_of(deployment.spec)
            given = _all_parameters(request, request.parameters or parameters(), codecs)
            codec, answers = await _answered(context, deployment, usual, request, given)
        response.headers["Vary"] = "User-Agent"
        ignored = [parameter for parameter in sorted(codec.unused) if getattr(given, parameter)]
        if ignored:
            response.headers["X-Ignored-Parameters"] = ", ".join(ignored)
        if isinstance(request.inputs, list):
            return answers
        return codec.for_hub_client(answers[0], request.parameters) if HUB_CLIENT.search(user_agent) else answers[0]

    # what is asked and answered depends on the tasks that are there, so the types cannot stand in the signature
    body = Body(openapi_examples=_titled_examples(specs, codecs))
    ask_by_name.__annotations__["request"] = Annotated[request_model(specs, codecs), body]
    routes = APIRouter(route_class=JsonRoute)
    routes.post(
        "/models/{name}",
        summary="Ask a model by its name",
        description=DESCRIPTION,
        responses=openapi_responses(*EVERY_PREDICTION, error_format=HUGGING_FACE),
        response_model=answer_type(codecs),
    )(ask_by_name)
    return routes
