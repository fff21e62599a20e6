"""`GET /v1/models`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.serving.deployment import Deployment


class ModelState(BaseModel):
    """A loaded model: what it is, what it runs on, and how well it did on data that training never saw."""

    name: str
    version: int
    task: str = Field(examples=["text-classification"])
    description: str
    labels: list[str] | None = Field(description="For classification: every label, in the model's order.")
    state: Literal["ready", "down"] = Field(description="`down`: its engine has died and requests get 503.")
    execution_providers: list[str] = Field(description="The chain really in use, as the engine reports it.")
    device_reason: str = Field(description="Why this device and precision were chosen.")
    precision: str = Field(description="Arithmetic of the engine.", examples=["fp32"])
    layout: str = Field(description="`packed`: several texts share a tensor row, nothing is computed for padding.")
    engine_threads: int
    limits: dict[str, int] = Field(description="Longest input and batch budget, in tokens and rows.")
    parity: dict[str, Any] = Field(description="Measured agreement with the trained model, per precision.")
    evaluation: dict[str, Any] = Field(description="Headline figures on held-out data.")

    @classmethod
    def of(cls, one: Deployment) -> ModelState:
        manifest = one.manifest
        budget, queue = one.batcher.budget, one.batcher.limit
        return cls(
            name=manifest.name,
            version=manifest.version,
            task=manifest.task,
            description=manifest.description,
            labels=manifest.task_options.get("labels"),
            state="ready" if one.is_alive else "down",
            execution_providers=one.execution_providers,
            device_reason=one.provider.reason,
            precision=one.provider.precision,
            layout=manifest.graph.layout,
            engine_threads=one.num_threads,
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
    """Every loaded model, by name."""

    models: list[ModelState]


class Published(BaseModel):
    """A model that was loaded or unloaded."""

    name: str
    version: int | None
    state: Literal["ready", "unloaded"]
