"""The routes that a client has methods for: those of every task that is installed, and those that serve every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pydantic import BaseModel

from app.api.protocols.results import MAX_EXPLAINED, ExplainResult, FeedbackResult
from app.data import InputSchema
from app.tasks.registry import environment_tasks
from app.tasks.schemas import items_field_of
from app.tasks.spec import TableSpec

PREFIX = "v1/"
NO_FIELDS = InputSchema({})


@dataclass(frozen=True, slots=True)
class ClientRoute:
    """A native route, as the client needs it."""

    path: str
    result: type[BaseModel]
    """What stands in `results` for one item."""
    table: TableSpec
    schema: InputSchema = NO_FIELDS
    """The fields of its items; none: those of any task."""
    max_items: int | None = None
    """That one request may hold, where that is less than the service's limit."""
    is_idempotent: bool = True
    """Whether asking twice does no more than asking once."""
    description: str = ""
    items_field: str = "inputs"
    """The field of a request that holds the items."""
    is_whole: bool = False
    """Whether results depend on all items of a request, so that a list is never cut into several."""

    @property
    def name(self) -> str:
        """Of the client's method."""
        return self.path.removeprefix(PREFIX).replace("-", "_").replace("/", "_")


EXPLAIN = ClientRoute(
    f"{PREFIX}explain",
    ExplainResult,
    TableSpec({"target": str, "score": float, "base_score": float, "num_tokens": int, "truncated": bool}),
    max_items=MAX_EXPLAINED,
    description="Which words made the model decide.",
)
FEEDBACK = ClientRoute(
    f"{PREFIX}feedback",
    FeedbackResult,
    TableSpec({"id": int, "agrees": bool, "num_tokens": int, "truncated": bool}),
    is_idempotent=False,
    description="Keep what the right answers would have been. It is sent once, and never again by itself.",
)


@lru_cache
def routes() -> Mapping[str, ClientRoute]:
    """By the names of their methods."""
    tasks = environment_tasks()
    own = []
    for route in tasks.routes:
        spec = tasks[tasks.serving(route.path)[0]]
        own.append(
            ClientRoute(
                route.path,
                route.result,
                spec.table,
                InputSchema(route.fields_of_items(spec.fields)),
                description=route.description,
                items_field=items_field_of(route.request),
                is_whole=route.is_whole,
            )
        )
    return {route.name: route for route in (*own, EXPLAIN, FEEDBACK)}
