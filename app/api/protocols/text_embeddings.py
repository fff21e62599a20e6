"""Text-embeddings-inference: the routes of its tasks, and `GET /info` on the model behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from app.api.context import AppState, ContextDep, StateDep, no_codec
from app.api.error_formats import TEI
from app.api.json_body import JsonRoute
from app.api.openapi_responses import openapi_responses
from app.core.errors import EmptyBatch, InvalidInput
from app.serving.deployment import Deployment
from app.tasks.base import refuse_text
from app.tasks.registry import Tasks
from app.tasks.schemas import Request as RequestBody
from app.tasks.schemas import as_list, with_examples
from app.tasks.spec import DropInCodec, ModelKind, TaskSpec, TextEmbeddingsCodec
from app.tasks.tokenizer import Pieces, PlainToken

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
TEXT = "The parcel never arrived."
STATUSES = (400, 401, 403, 408, 413, 415, 421, 422, 424, 429, 503, 504)


class Classifier(BaseModel):
    """The labels of a classifier."""

    id2label: dict[str, str] = Field(
        description="Number of each label to the label.", examples=[{"0": "negative", "1": "positive"}]
    )
    label2id: dict[str, int] = Field(description="Label to its number.", examples=[{"negative": 0, "positive": 1}])


class EmbeddingModel(BaseModel):
    """How a model makes the vector of a text."""

    pooling: str = Field(description="Of the vectors of its tokens.", examples=["mean"])


class ModelType(BaseModel):
    """What the model does: one of these."""

    embedding: EmbeddingModel | None = Field(
        None, description="It gives texts vectors.", exclude_if=lambda value: value is None
    )
    reranker: Classifier | None = Field(
        None, description="It ranks texts by how well they answer a query.", exclude_if=lambda value: value is None
    )
    classifier: Classifier | None = Field(None, description="It gives texts labels.", exclude_if=lambda value: value is None)


class Info(BaseModel):
    """The default embedding model, else the default reranker or classifier, and the limits of the service."""

    model_id: str = Field(description="The model, as name/version.", examples=["sentiment/2"])
    model_sha: str = Field(description="SHA-256 of its ONNX file.")
    model_dtype: str = Field(description="Arithmetic of the engine.", examples=["float32"])
    served_model_name: str = Field(description="The name under which other routes know it.", examples=["sentiment"])
    model_type: ModelType
    max_concurrent_requests: int = Field(description="Texts that may wait for the engine; more are refused with 429.")
    max_input_length: int = Field(description="Tokens that the model reads, special tokens included.")
    max_batch_tokens: int = Field(description="Tokens that one batch of the engine may cost.")
    max_batch_requests: int = Field(description="Texts that one batch of the engine may hold.")
    max_client_batch_size: int = Field(description="Texts or pairs that one request may hold.")
    auto_truncate: Literal[False] = Field(description="Longer texts are cut only where `truncate` says so.")
    tokenization_workers: int = Field(description="Texts are tokenized within the one process.")
    version: str = Field(description="Of Hooper.", examples=["0.1.0"])
    sha: None = Field(description="Not told.")
    docker_label: None = Field(description="Not told.")

    @classmethod
    def of(cls, deployment: Deployment, codec: TextEmbeddingsCodec, max_items: int, version: str) -> Info:
        manifest, scheduler = deployment.manifest, deployment.scheduler
        return cls(
            model_id=f"{manifest.name}/{manifest.version}",
            model_sha=manifest.files[manifest.graph.file].sha256,
            model_dtype=DTYPES[deployment.provider.precision],
            served_model_name=manifest.name,
            model_type=ModelType.model_validate(codec.model_type(manifest)),
            max_concurrent_requests=scheduler.limit.max_rows,
            max_input_length=manifest.max_tokens,
            max_batch_tokens=scheduler.budget.max_batch_tokens,
            max_batch_requests=scheduler.budget.max_batch_rows,
            max_client_batch_size=max_items,
            auto_truncate=False,
            tokenization_workers=1,
            version=version,
            sha=None,
            docker_label=None,
        )


class TokenizeRequest(RequestBody):
    """Texts, and whether the tokens are wished that the model has around each."""

    model_config = with_examples({"inputs": TEXT}, {"inputs": [TEXT, "Cold soup."], "add_special_tokens": False})

    inputs: str | Annotated[list[str], Field(fail_fast=True)] = Field(description="A text, or a list of texts.")
    add_special_tokens: Annotated[bool, Field(strict=True)] = Field(
        True, description="Whether tokens that the model has at a text's beginning and end are among them."
    )
    prompt_name: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="Name of one of the model's prompts, which then stands before each text."
    )

    def texts(self, prompts: Mapping[str, str]) -> list[str]:
        """
        Raises:
            InvalidInput: there is none, one cannot be read, or the prompt is none of the model's.
        """
        texts = as_list(self.inputs)
        if not texts:
            raise EmptyBatch("must not be empty", "inputs")
        if self.prompt_name is not None and self.prompt_name not in prompts:
            raise InvalidInput(f"{self.prompt_name!r} is no prompt of this model", "prompt_name")
        for number, text in enumerate(texts):
            error = refuse_text(text, "inputs" if isinstance(self.inputs, str) else f"inputs.{number}")
            if error is not None:
                raise error
        return [prompts.get(self.prompt_name or "", "") + text for text in texts]


class SimpleToken(BaseModel):
    """A token."""

    id: int = Field(description="Its number in the vocabulary.", examples=[1996])
    text: str = Field(description="Its characters, with a prompt's; of a special token its name.", examples=["The"])
    special: bool = Field(description="Whether the model has it around every text.")
    start: int | None = Field(description="Its first character, counted in Unicode code points from 0; null: it is special.")
    stop: int | None = Field(description="The character after its last.")

    @classmethod
    def of(cls, token: PlainToken) -> SimpleToken:
        start, stop = token.span or (None, None)
        return cls.model_construct(id=token.id, text=token.text, special=token.span is None, start=start, stop=stop)


TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**32, strict=True)]], Field(fail_fast=True), Field(min_length=1, max_length=65_536)
]


class DecodeRequest(RequestBody):
    """Tokens that are to be a text again."""

    model_config = with_examples({"ids": [2, 3], "skip_special_tokens": False})

    ids: TokenIds | Annotated[list[TokenIds], Field(fail_fast=True), Field(min_length=1)] = Field(
        description="Numbers of the tokens of one text, or a list of such lists."
    )
    skip_special_tokens: Annotated[bool, Field(strict=True)] = Field(
        True, description="Whether tokens that the model has at a text's beginning and end are left out."
    )

    def texts(self, pieces: Pieces) -> list[str]:
        """
        Raises:
            InvalidInput: a number is no token.
        """
        is_batch = isinstance(self.ids[0], list)
        lists: list[list[int]] = self.ids if is_batch else [self.ids]  # type: ignore[assignment,list-item]
        for number, ids in enumerate(lists):
            unknown = pieces.unknown(ids)
            if unknown is not None:
                raise InvalidInput(f"{unknown} is no token of this model", f"ids.{number}" if is_batch else "ids")
        return [pieces.text_of(ids, self.skip_special_tokens) for ids in lists]


@lru_cache(maxsize=4)
def _pieces(definition: str) -> Pieces:
    return Pieces(definition)


def _tokenized(definition: str, texts: Sequence[str], with_special: bool) -> list[list[SimpleToken]]:
    return [list(map(SimpleToken.of, tokens)) for tokens in _pieces(definition).whole(texts, with_special)]


def router(tasks: Tasks) -> APIRouter:
    """The routes, for all tasks that speak this protocol."""
    routes = APIRouter(route_class=JsonRoute)
    served = serving_by_path([(spec, spec.text_embeddings.routes) for spec in tasks.values() if spec.text_embeddings])
    native = {route.path for route in tasks.routes}
    for path, codecs in served.items():
        # generated clients name their functions after it, and a native route may be called the same
        _add(routes, codecs, f"tei_{path}" if f"v1/{path}" in native else path)
    described = _in_order(tasks)

    @routes.get(
        "/info",
        summary="Show the default model",
        responses=openapi_responses(401, 421, 424, 429, 503, error_format=TEI),
    )
    async def info(request: Request, state: StateDep) -> Info:
        """The default embedding model, else the default reranker, else the default classifier, and what may be asked of it; or
        the model that `HOOPER_TEI_MODEL` names."""
        with state.registry.lease(described, chosen_model(state, described)) as deployment:
            codec = deployment.spec.text_embeddings
            if codec is None:
                raise no_codec(deployment.spec)
            return Info.of(deployment, codec, state.settings.max_items, request.app.version)

    @routes.post("/tokenize", summary="Show a text's tokens", responses=openapi_responses(*STATUSES, error_format=TEI))
    async def tokenize(request: TokenizeRequest, state: StateDep) -> list[list[SimpleToken]]:
        """The tokens of each text by the tokenizer of the model that `GET /info` describes, however many there are."""
        with state.registry.lease(described, chosen_model(state, described)) as deployment:
            texts = request.texts(deployment.manifest.task_options.get("prompts") or {})
            return await asyncio.to_thread(_tokenized, deployment.tokenizers[0], texts, request.add_special_tokens)

    @routes.post("/decode", summary="Show the text of tokens", responses=openapi_responses(*STATUSES, error_format=TEI))
    async def decode(request: DecodeRequest, state: StateDep) -> list[str]:
        """The text of each list of tokens by the tokenizer of the model that `GET /info` describes."""
        with state.registry.lease(described, chosen_model(state, described)) as deployment:
            return await asyncio.to_thread(request.texts, _pieces(deployment.tokenizers[0]))

    return routes


def serving_by_path(routes: Iterable[tuple[TaskSpec, Sequence[DropInCodec]]]) -> dict[str, dict[str, DropInCodec]]:
    """Each path with what the tasks that answer it make of it, by their names and in their order; the first decides what a
    request is."""
    served: dict[str, dict[str, DropInCodec]] = {}
    for spec, codecs in routes:
        for codec in codecs:
            served.setdefault(codec.path, {})[spec.name] = codec
    return served


def chosen_model(state: AppState, tasks: Sequence[str]) -> str | None:
    """The model that the service's setting names for this protocol, where it does one of these tasks; None: a default one."""
    name = state.settings.tei_model
    known = {entry.manifest.name: entry.manifest.task for entry in state.registry.deployments}
    return name if name and known.get(name, tasks[0]) in tasks else None  # of one that is not there it is said


def _in_order(tasks: Tasks) -> list[str]:
    """The tasks that speak this protocol, by the kind of their models."""
    codecs = {spec.name: spec.text_embeddings for spec in tasks.values() if spec.text_embeddings is not None}
    return sorted(codecs, key=lambda name: get_args(ModelKind).index(codecs[name].kind))


def _add(routes: APIRouter, codecs: Mapping[str, DropInCodec], name: str) -> None:
    tasks, codec = list(codecs), next(iter(codecs.values()))

    async def answer(request: Any, context: ContextDep, state: StateDep) -> Any:
        with context.lease(tasks, chosen_model(state, tasks)) as deployment:
            own = codecs[deployment.manifest.task]
            asked = own.asked(request, deployment.manifest)
            results = await context.results(deployment, asked.items(), asked.options(), asked.place, own.advice)
            return asked.shaped(results, deployment.manifest.name)

    answer.__annotations__["request"] = codec.request
    routes.post(
        f"/{codec.path}",
        name=name,
        summary=codec.summary,
        description=codec.description,
        responses=openapi_responses(*STATUSES, error_format=TEI),
        response_model=codec.answer,
    )(answer)
