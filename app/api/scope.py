"""What a request's scope holds beside what ASGI puts there: keys, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

Headers = Mapping[bytes, str]
"""By their names in lower case; of one that is there twice the first counts."""
HEADERS = "hooper.headers"
"""The request's `Headers`."""
LOG_FIELDS = "hooper.log_fields"
"""Where a route notes the task and model that it asked, for metrics and log."""
TRACE = "hooper.trace"
"""The request's trace; there is none where traces are off."""
TEMPLATE = "hooper.template"
"""The path of a request that no route of the framework answered, where it has no parameters."""
ENDED_AS = "hooper.ended_as"
"""The status that an error of a stream would have had, if its answer had not begun."""

ENDS_CONNECTION = "hooper.ends_connection"
"""Whether the connection ends with the answer."""


def path_of(scope: Mapping[str, Any]) -> str:
    """The path within the service, without its first slash, the prefix of a proxy left out."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).removeprefix("/")


def app_state_in(scope: Scope) -> Any:
    """The application's state, or None before its startup."""
    return getattr(scope["app"].state, "hooper", None)
