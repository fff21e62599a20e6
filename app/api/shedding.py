"""Turning requests away before they are read: where no model of their task could take anything, nobody need parse them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.access import NO_SNIFFING, record, request_id_of
from app.api.body import is_short
from app.api.errors import error_response
from app.api.scope import Headers, app_state_in, path_of
from app.core.errors import Overloaded
from app.observability.logging import request_id
from app.settings import Settings


def shed_if_overloaded(scope: Scope, headers: Headers, log_fields: dict[str, str]) -> None:
    """Refuse a request unread where every model of its path's tasks has a full queue.

    Args:
        headers: by their names in lower case.
        log_fields: where the task, and the model if there is one alone, are noted for the metrics and the log.

    Raises:
        Overloaded: nobody has room.
    """
    overload = _overload(app_state_in(scope), path_of(scope), headers, log_fields)
    if overload is not None:
        raise overload


_READ = frozenset({b"content-length", b"x-priority", b"x-request-id"})


class LoadShedder:
    """Does the same as soon as a head is read, before anything is made of the request.

    Where far more is asked than the engine can do, what refusals cost is what it lacks.
    """

    def __init__(self, app: FastAPI, paths: Iterable[str], root_path: str = "") -> None:
        """
        Args:
            app: whose models' queues count.
        """
        self._app = app
        prefix = root_path.rstrip("/")
        self._paths = {f"{start}/{path}".encode(): path for start in ("", prefix) for path in paths}

    def __call__(self, target: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        """The answer, head and body; None where the request must go further in."""
        path = self._paths.get(target)
        state = getattr(self._app.state, "hooper", None)
        if path is None or state is None or not _is_plain(state.settings, pairs):
            return None
        began = time.perf_counter()
        headers = {name: value.decode("latin-1") for name, value in reversed(pairs) if name in _READ}
        log_fields: dict[str, str] = {}
        overload = _overload(state, path, headers, log_fields)
        if overload is None or not is_short(headers):
            return None
        token = request_id.set(request_id_of(headers))
        try:
            response = error_response({"path": f"/{path}"}, overload)
            record(state.metrics, "POST", f"/{path}", log_fields, response.status_code, time.perf_counter() - began)
            return _as_bytes(response)
        finally:
            request_id.reset(token)


def _is_plain(settings: Settings, pairs: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether nothing comes before a refusal, and nothing is added to it: keys, a browser's questions, traces."""
    return not settings.api_key_hashes and not settings.traces_endpoint and all(name != b"origin" for name, _ in pairs)


def _overload(state: Any, path: str, headers: Headers, log_fields: dict[str, str]) -> Overloaded | None:
    """What a request is turned away with, if nobody has room for it; None for paths whose task stands in the body."""
    tasks = state.tasks.serving(path) if state is not None else ()
    if not tasks:
        return None
    # a shadow has room and answers nobody
    live = [version.deployment for version in state.registry.live if version.role.name != "shadow"]
    models = [deployment for deployment in live if deployment.manifest.task in tasks]
    priority = "bulk" if headers.get(b"x-priority") == "bulk" else "interactive"
    reasons = [deployment.scheduler.overload(priority) for deployment in models]
    if not reasons or None in reasons:
        return None
    log_fields["task"] = models[0].manifest.task
    names = {deployment.manifest.name for deployment in models}
    if len(names) == 1:
        log_fields["model"] = names.pop()
    overload: Overloaded = min(reasons, key=lambda reason: reason.retry_after_s)
    return overload


def _as_bytes(response: Response) -> bytes:
    headers = [*response.raw_headers, (b"x-request-id", request_id.get().encode("latin-1")), NO_SNIFFING]
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    return STATUS_LINE[response.status_code] + head + b"\r\n" + bytes(response.body)
