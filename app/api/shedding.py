"""Turning requests away before they are read: where no model of their task could take anything, nobody need parse them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response
from starlette.types import Scope

from app.api.body import LAST, MAX_DIGITS, Headers
from app.api.dialects import path_of
from app.api.errors import refusal_of
from app.core.types import TaskName

TASKS: Mapping[str, TaskName] = {
    "v1/classify": "text-classification",
    "v1/answer": "question-answering",
    "v1/summarize": "summarization",
}
"""The paths that name their task. Others are read first: what they ask stands in the body, or has an error of its own."""
MAX_DRAINED_BYTES = 65_536
"""Of a body that the server reads and forgets, so that the connection can be kept; a longer one ends it."""


def turned_away(scope: Scope, headers: Headers, told: dict[str, str]) -> Response | None:
    """429 where every model of the path's task has a full queue; None where one may have room, or that is not ours to say.

    Args:
        scope: of the request.
        headers: by their names in lower case.
        told: where the task, and the model if there is one alone, are told to the metrics and the log.
    """
    task = TASKS.get(path_of(scope))
    state: Any = getattr(scope["app"].state, "hooper", None)
    if task is None or state is None or state.settings.api_key_hashes:  # who has no key is to be told that first
        return None
    live = [one.deployment for one in state.registry.live if one.role.name != "shadow"]  # a shadow has room and answers nobody
    models = [one for one in live if one.manifest.task == task]
    priority = "bulk" if headers.get(b"x-priority") == "bulk" else "interactive"
    reasons = [one.batcher.overload(priority) for one in models]
    if not reasons or None in reasons:
        return None
    told["task"] = task
    names = {one.manifest.name for one in models}
    if len(names) == 1:
        told["model"] = names.pop()
    response = refusal_of(scope, min(reasons, key=lambda one: one.retry_after_s))
    if not _is_short(headers):
        response.headers.update(LAST)
    return response


def _is_short(headers: Headers) -> bool:
    length = headers.get(b"content-length", "")
    return length.isdecimal() and int(length[:MAX_DIGITS]) <= MAX_DRAINED_BYTES
