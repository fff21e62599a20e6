"""Turning requests away before they are read: where no model of their task could take anything, nobody need parse them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.access import NO_SNIFFING, record, wished_id
from app.api.body import Headers, is_short
from app.api.dialects import path_of
from app.api.errors import refusal_of
from app.core.errors import Overloaded
from app.core.types import TaskName
from app.observability.logging import request_id
from app.settings import Settings

TASKS: Mapping[str, TaskName] = {
    "v1/classify": "text-classification",
    "v1/answer": "question-answering",
    "v1/summarize": "summarization",
}
"""The paths that name their task. Others are read first: what they ask stands in the body, or has an error of its own."""


def turned_away(scope: Scope, headers: Headers, told: dict[str, str]) -> Response | None:
    """429 where every model of the path's task has a full queue; None where one may have room, or that is not ours to say.

    Args:
        scope: of the request.
        headers: by their names in lower case.
        told: where the task, and the model if there is one alone, are told to the metrics and the log.
    """
    task = TASKS.get(path_of(scope))
    if task is None:
        return None
    overload = _overload(state_of(scope["app"]), task, headers, told)
    if overload is None:
        return None
    return refusal_of(scope, overload)


_READ = frozenset({b"content-length", b"x-priority", b"x-request-id"})


class Doorman:
    """Does the same as soon as a head is read, before anything is made of the request.

    Where far more is asked than the engine can do, what refusals cost is what it lacks.
    """

    def __init__(self, app: FastAPI, root_path: str = "") -> None:
        """
        Args:
            app: whose models' queues count.
            root_path: the prefix of a proxy.
        """
        self._app = app
        prefix = root_path.rstrip("/")
        self._paths = {f"{start}/{path}".encode(): f"/{path}" for start in ("", prefix) for path in TASKS}

    def __call__(self, target: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        """The answer, head and body; None where the request must go further in."""
        path = self._paths.get(target)
        state = state_of(self._app)
        if path is None or state is None or not _is_plain(state.settings, pairs):
            return None
        began = time.perf_counter()
        headers = {name: value.decode("latin-1") for name, value in reversed(pairs) if name in _READ}
        told: dict[str, str] = {}
        overload = _overload(state, TASKS[path[1:]], headers, told)
        if overload is None or not is_short(headers):
            return None
        token = request_id.set(wished_id(headers))
        try:
            response = refusal_of({"path": path}, overload)
            record(state.metrics, "POST", path, told, response.status_code, time.perf_counter() - began)
            return _as_bytes(response)
        finally:
            request_id.reset(token)


def _is_plain(settings: Settings, pairs: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether nothing comes before a refusal, and nothing is added to it: keys, a browser's questions, traces."""
    return not settings.api_key_hashes and not settings.traces_endpoint and all(name != b"origin" for name, _ in pairs)


def state_of(app: FastAPI) -> Any:
    """What lives as long as the application; None before it does."""
    return getattr(app.state, "hooper", None)


def _overload(state: Any, task: TaskName, headers: Headers, told: dict[str, str]) -> Overloaded | None:
    """What a request for the task is turned away with, if nobody has room for it."""
    if state is None:
        return None
    live = [one.deployment for one in state.registry.live if one.role.name != "shadow"]  # a shadow has room and answers nobody
    models = [one for one in live if one.manifest.task == task]
    priority = "bulk" if headers.get(b"x-priority") == "bulk" else "interactive"
    reasons = [one.scheduler.overload(priority) for one in models]
    if not reasons or None in reasons:
        return None
    told["task"] = task
    names = {one.manifest.name for one in models}
    if len(names) == 1:
        told["model"] = names.pop()
    overload: Overloaded = min(reasons, key=lambda one: one.retry_after_s)
    return overload


def _as_bytes(response: Response) -> bytes:
    headers = [*response.raw_headers, (b"x-request-id", request_id.get().encode("latin-1")), NO_SNIFFING]
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    return STATUS_LINE[response.status_code] + head + b"\r\n" + bytes(response.body)
