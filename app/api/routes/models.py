"""`/v1/models`: what is loaded, and loading and unloading for those with an admin key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.auth import require_admin
from app.api.context import AppState, app_state
from app.api.json_body import JsonRoute
from app.api.openapi_responses import openapi_responses
from app.api.routes.health import Failed
from app.core.errors import UnknownModel
from app.serving.deployment import Deployment
from app.serving.rollout.lease import MAIN, SHADOW, LiveVersion, Role, RoleName, canary_role


class ModelState(BaseModel):
    """A loaded model: what it is, what it runs on, and how well it did on data that training never saw."""

    name: str = Field(description="Its name, by which requests ask for it.", examples=["sentiment"])
    version: int = Field(description="Its version, counted from 1.", examples=[1])
    task: str = Field(description="What it does, by the name of the Hugging Face task.", examples=["text-classification"])
    description: str = Field(
        description="One sentence for a person.", examples=["Whether an English sentence or review is positive or negative."]
    )
    labels: list[str] | None = Field(
        description="For classification: every label, in the model's order; else null.", examples=[["negative", "positive"]]
    )
    default: bool = Field(description="Whether requests of its task that name no model come to it.", examples=[True])
    state: Literal["ready", "down"] = Field(description="`down`: its engine has died and requests get 503.")
    role: RoleName = Field(
        description="`main`: answers for its name. Beside it `share`: answers a share of the requests that name no version;"
        " `shadow`: is asked what the main one has answered, and its own answers are only compared.",
        examples=["main"],
    )
    share: float = Field(description="Share of the requests naming no version that come to this one.", examples=[1.0])
    execution_providers: list[str] = Field(
        description="The chain really in use, as the engine reports it.", examples=[["CPUExecutionProvider"]]
    )
    device_reason: str = Field(
        description="Why this device and precision were chosen.", examples=["the only provider on this machine"]
    )
    precision: str = Field(description="Arithmetic of the engine.", examples=["fp32"])
    layout: str = Field(
        description="`packed`: several texts share a tensor row, nothing is computed for padding.", examples=["packed"]
    )
    engine_threads: int = Field(description="Threads that the engine computes with.", examples=[2])
    limits: dict[str, int] = Field(
        description="In tokens: the longest input read at once, a batch, the queue. In rows: a batch, the queue.",
        examples=[{"max_tokens": 512, "max_batch_tokens": 1024, "max_batch_rows": 64, "max_waiting_rows": 2048}],
    )
    parity: dict[str, Any] = Field(
        description="Measured agreement with the trained model, per precision, as a share of the rows compared.",
        examples=[{"fp32": {"rows": 2148, "agreement": 0.9986, "max_abs_error": 0.74, "passed": True}}],
    )
    evaluation: dict[str, Any] = Field(
        description="Headline figures on held-out data, named in the model card.", examples=[{"accuracy": 0.9111, "rows": 2148}]
    )

    @classmethod
    def of(cls, live: LiveVersion, default: str | None) -> ModelState:
        """`default`: the name of its task's default model."""
        deployment, manifest = live.deployment, live.deployment.manifest
        budget, queue = deployment.scheduler.budget, deployment.scheduler.limit
        return cls(
            name=manifest.name,
            version=manifest.version,
            task=manifest.task,
            description=manifest.description,
            labels=manifest.task_options.get("labels"),
            default=manifest.name == default,
            state="ready" if deployment.is_alive else "down",
            role=live.role.name,
            share=live.role.share,
            execution_providers=deployment.execution_providers,
            device_reason=deployment.provider.reason,
            precision=deployment.provider.precision,
            layout=manifest.graph.layout,
            engine_threads=deployment.num_threads,
            limits={
                "max_tokens": manifest.max_tokens,
                "max_batch_tokens": budget.max_batch_tokens,
                "max_batch_rows": budget.max_batch_rows,
                "max_waiting_rows": queue.max_rows,
                "max_waiting_tokens": queue.max_tokens,
            },
            parity={name: parity.model_dump() for name, parity in manifest.parity.items()},
            evaluation=manifest.evaluation,
        )


class ModelList(BaseModel):
    """Every loaded model, by name; where two versions of one are, the main one first. And those that could not be loaded."""

    models: list[ModelState] = Field(description="The loaded models.")
    failed: list[Failed] = Field(description="Models that could not be loaded.")


LOAD_EXAMPLES: dict[str, Any] = {
    "share": {"summary": "Answer a tenth of the requests", "value": {"share": 0.1}},
    "shadow": {"summary": "Be asked the same, answer nobody", "value": {"shadow": True}},
}


class LoadRequest(BaseModel):
    """How a version is to be loaded; without any of it, it becomes the main one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Run beside the main version and answer this share of its requests.",
        examples=[0.1],
    )
    shadow: bool = Field(
        default=False,
        description="Run beside the main version, be asked what that has answered, and have the answers compared.",
    )

    @model_validator(mode="after")
    def _one_role(self) -> LoadRequest:
        if self.shadow and self.share is not None:
            raise ValueError("a shadow has no share: its answers are not returned")
        return self

    def role(self) -> Role:
        return SHADOW if self.shadow else MAIN if self.share is None else canary_role(self.share)


class Published(BaseModel):
    """A version that was loaded, promoted or unloaded."""

    name: str = Field(description="The model's name.", examples=["sentiment"])
    version: int | None = Field(description="The version; null after unloading the model.", examples=[1])
    state: Literal["ready", "unloaded"] = Field(description="Whether it plays its role from now on, or is gone.")
    role: RoleName | None = Field(description="Its role from now on; null where it is gone.", examples=["main"])
    persistent: bool = Field(
        description="Whether it stays so when the service is started again: only a main version does, and only where it can be"
        " written down, in the model repository or below `HOOPER_STATE`."
    )

    @classmethod
    def of(cls, deployment: Deployment, role: Role, persistent: bool) -> Published:
        manifest = deployment.manifest
        return cls(name=manifest.name, version=manifest.version, state="ready", role=role.name, persistent=persistent)


router = APIRouter(route_class=JsonRoute)
Name = Annotated[str, Path(description="A model's name, of at most 64 characters.", max_length=64, examples=["sentiment"])]
State = Annotated[AppState, Depends(app_state)]


Wish = Annotated[LoadRequest | None, Body(openapi_examples=LOAD_EXAMPLES)]
Version = Annotated[int | None, Query(ge=1, description="Which of its versions, from 1; null: the latest.")]
Candidate = Annotated[int | None, Query(ge=1, description="A version beside the main one; null: the model, with all of them.")]


@router.get("/models", summary="List loaded models", responses=openapi_responses(401, 421, 429))
async def list_models(state: State) -> ModelList:
    """Every loaded model: what it does, what it runs on, and how good it is. And those that could not be loaded."""
    models = [_state_of(version, state) for version in state.registry.live]
    return ModelList(models=models, failed=[Failed.of(failure) for failure in state.registry.failed])


@router.get("/models/{name}", summary="Show a model", responses=openapi_responses(401, 404, 421, 422, 429, 503))
async def show_model(name: Name, state: State) -> ModelState:
    """One loaded model: its main version."""
    for version in state.registry.live:
        if version.deployment.manifest.name == name:
            return _state_of(version, state)
    with state.registry.lease((), name):  # says why there is none
        raise UnknownModel(f"model {name!r} is not loaded")


def _state_of(version: LiveVersion, state: AppState) -> ModelState:
    return ModelState.of(version, state.registry.default_of(version.deployment.manifest.task))


@router.post(
    "/models/{name}/load",
    summary="Load a model",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 408, 413, 415, 421, 422, 429, 500),
)
async def load_model(name: Name, state: State, version: Version = None, request: Wish = None) -> Published:
    """Load a version from the repository and answer with it from then on. Requests in flight finish on the old one.

    With a body, the version runs beside the one that answers: it gets a `share` of the requests that name no version, or is
    its `shadow`. A name has at most one such candidate; loading it once more gives it another role.
    """
    role = (request or LoadRequest()).role()
    deployment = await state.load(name, version, role)
    return Published.of(deployment, role, state.registry.is_persistent(deployment))


@router.post(
    "/models/{name}/promote",
    summary="Promote a candidate",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 421, 422, 429, 503),
)
async def promote_model(name: Name, state: State) -> Published:
    """Make the version that runs beside the main one the main one. Requests in flight finish on the old one."""
    deployment = await state.promote(name)
    return Published.of(deployment, MAIN, state.registry.is_persistent(deployment))


@router.post(
    "/models/{name}/unload",
    summary="Unload a model",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 421, 422, 429),
)
async def unload_model(name: Name, state: State, version: Candidate = None) -> Published:
    """Forget a model, or a version that runs beside the main one. Requests in flight finish."""
    await state.unload(name, version)
    return Published(name=name, version=version, state="unloaded", role=None, persistent=False)
