"""What the service says of itself: its health, and the models that it has loaded."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from app.core.types import RoleName

if TYPE_CHECKING:  # the client reads these schemas, and needs nothing that serves
    from app.core.manifest import Manifest
    from app.serving.deployment import Deployment
    from app.serving.failures import FailedModel
    from app.serving.rollout.lease import LiveVersion, Role

UNTOLD = frozenset({"labels", "chat_tokens"})
"""Options of a task that have a field of their own, or are nobody's business but the task's."""
NAMES_TOLD = frozenset({"chat_template"})
"""Those that are texts by name, as long as a page each: their names are told."""


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = Field(default="live", description="Always `live`: otherwise there is no answer.")


class Failed(BaseModel):
    """A model that could not be loaded. Requests for it get 503 with the reason; it is tried again by `load`."""

    model: str = Field(description="Its name and the version, where that is known.", examples=["topics/2"])
    detail: str = Field(description="Why, in one sentence.", examples=["model.onnx differs from the checksum in manifest.json"])

    @classmethod
    def of(cls, failed: FailedModel) -> Failed:
        return cls(model=failed.id, detail=failed.detail)


class Ready(BaseModel):
    """Every model was tried, one at least is loaded, all that the settings name are, and every engine would answer."""

    status: Literal["ready"] = Field(default="ready", description="Always `ready`: otherwise the answer is a 503.")
    models: list[str] = Field(description="The loaded models, as name/version.", examples=[["sentiment/2"]])
    failed: list[Failed] = Field(description="Models that could not be loaded.")


class DecoderState(BaseModel):
    """The part of a model that writes, token by token."""

    execution_providers: list[str] = Field(
        description="The chain really in use, as the engine reports it.", examples=[["CPUExecutionProvider"]]
    )
    device_reason: str = Field(description="Why this device and precision were chosen.", examples=["the only provider"])
    precision: str = Field(description="Arithmetic of its steps.", examples=["fp32"])
    max_length: int = Field(description="Tokens that it writes at most, those included that it starts with.", examples=[512])

    @classmethod
    def of(cls, deployment: Deployment) -> DecoderState | None:
        provider, decoder = deployment.decoder_provider, deployment.manifest.decoder
        if provider is None or decoder is None:
            return None
        return cls(
            execution_providers=deployment.decoder_execution_providers,
            device_reason=provider.reason,
            precision=provider.precision,
            max_length=decoder.max_length,
        )


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
    decoder: DecoderState | None = Field(
        None, description="Of a model that writes: what its decoder runs on, and the rest of it on `execution_providers`."
    )
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
    license: str = Field("", description="Of the model, as its maker named it; may be empty.", examples=["apache-2.0"])
    examples: list[dict[str, Any]] = Field(
        [],
        description="A few items that the model can be tried with: those of its golden requests, by their fields.",
        examples=[[{"text": "A warm, funny film that I would happily watch again."}]],
    )
    columns: dict[str, str] = Field(
        {},
        description="The columns of the training data by the fields that they held, where that is known.",
        examples=[{"text": "review", "label": "sentiment"}],
    )
    task_options: dict[str, Any] = Field(
        {},
        description="What else the manifest says to the model's task, such as `problem_type`, `temperature`, `thresholds` or"
        " `value_range`.",
        examples=[{"problem_type": "single_label_classification"}],
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
            decoder=DecoderState.of(deployment),
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
            license=manifest.license,
            examples=[dict(example) for example in deployment.examples],
            columns=manifest.data_format.columns,
            task_options={
                name: list(value) if name in NAMES_TOLD else value
                for name, value in manifest.task_options.items()
                if name not in UNTOLD
            },
        )


class SizeLimits(BaseModel):
    """What one request may hold; a longer list is sent as several requests."""

    max_items: int = Field(description="Items in `inputs`.", examples=[256])
    max_body_bytes: int = Field(description="Bytes of the body.", examples=[2097152])


class ListedModel(BaseModel):
    """A loaded model as OpenAI's API shows it."""

    id: str = Field(description="What requests call it.", examples=["embed"])
    object: Literal["model"] = Field(default="model", description="What it is.")
    created: int = Field(description="When it was published, in seconds since 1970; 0: not known.", examples=[1798707069])
    owned_by: str = Field(description="Whose it is: of this service.", examples=["hooper"])


def listed(manifest: Manifest) -> ListedModel:
    try:
        created = int(datetime.fromisoformat(manifest.created).timestamp())
    except ValueError:  # a manifest may say what it likes
        created = 0
    return ListedModel(id=manifest.name, created=created, owned_by="hooper")


class ShownModel(ModelState, ListedModel):
    """A loaded model, in both ways."""


class ModelList(BaseModel):
    """Every loaded model, by name; where two versions of one are, the main one first. And those that could not be loaded.

    `object` and `data` list the names once more, as clients of OpenAI's API read them.
    """

    models: list[ModelState] = Field(description="The loaded models.")
    failed: list[Failed] = Field(description="Models that could not be loaded.")
    limits: SizeLimits = Field(description="What one request may hold, whichever model it asks.")
    object: Literal["list"] = Field(default="list", description="What it is, for clients of OpenAI's API.")
    data: list[ListedModel] = Field(description="The main version of each model, for the same.")


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
