"""What is told of a deployment and of its queue: values that both sides of the link share, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.core.manifest import Manifest
from app.runtime.providers import Provider
from app.serving.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Description:
    """A deployment, as far as another process needs to know it to ask it and to tell of it."""

    manifest: Manifest
    provider: Provider
    execution_providers: list[str]
    num_threads: int
    budget: Budget
    limit: QueueLimit

    @classmethod
    def of(cls, one: Deployment) -> Description:
        queue = one.scheduler
        return cls(one.manifest, one.provider, one.execution_providers, one.num_threads, queue.budget, queue.limit)

    def to_json(self) -> dict[str, Any]:
        provider = replace(self.provider, limits=None)  # these are for who opens an engine
        values = {"provider": asdict(provider), "budget": asdict(self.budget), "limit": asdict(self.limit)}
        rest = {"execution_providers": self.execution_providers, "num_threads": self.num_threads}
        return {"manifest": self.manifest.model_dump(mode="json"), **values, **rest}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Description:
        return cls(
            Manifest.model_validate(body["manifest"]),
            Provider(**body["provider"]),
            body["execution_providers"],
            body["num_threads"],
            Budget(**body["budget"]),
            QueueLimit(**body["limit"]),
        )


@dataclass(frozen=True, slots=True)
class Load:
    """How a deployment's queue stands."""

    is_alive: bool = True
    num_rows: int = 0
    num_tokens: int = 0
    max_batch_tokens: int = 0
    """What a batch may cost now."""
    retry_after_s: float = 1.0

    @classmethod
    def of(cls, one: Deployment) -> Load:
        queue = one.scheduler
        return cls(
            one.is_alive, queue.num_waiting_rows, queue.num_waiting_tokens, queue.max_batch_tokens_now, queue.retry_after_s()
        )

    def to_json(self) -> list[Any]:
        return [self.is_alive, self.num_rows, self.num_tokens, self.max_batch_tokens, self.retry_after_s]


@dataclass(frozen=True, slots=True)
class State:
    """How the engine process stands, of which front ends are told within 20 ms after a change."""

    loads: Mapping[int, Load]
    """By the deployment's number."""
    is_settled: bool = False
    """Everything is loaded, and every front end has followed."""
    fatal_error: str = ""

    def to_json(self) -> list[Any]:
        loads: Sequence[Any] = [[number, *load.to_json()] for number, load in self.loads.items()]
        return [loads, self.is_settled, self.fatal_error]

    @classmethod
    def from_json(cls, body: Sequence[Any]) -> State:
        loads, is_settled, fatal_error = body
        return cls({number: Load(*load) for number, *load in loads}, is_settled, fatal_error)
