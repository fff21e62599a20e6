"""What every request leaves behind, whoever answered it: its id, its figures in the metrics, and a line in the access log."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus

from app.observability.metrics import Metrics

REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
QUIET_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""An answer may repeat a word of its request: no browser may take it for a page."""

logger = logging.getLogger("hooper.access")


def request_id_of(headers: Mapping[bytes, str]) -> str:
    """The caller's id for the request, or a new one where there is none or it is not of a plain form."""
    client_id = headers.get(b"x-request-id", "")
    return client_id if REQUEST_ID.match(client_id) else uuid.uuid4().hex


def record(metrics: Metrics, method: str, path: str, log_fields: Mapping[str, str], status: int, seconds: float) -> None:
    """Count a request that has ended, and log it.

    Args:
        path: without the prefix of a proxy.
        log_fields: task, model and version that it asked, as far as they are known.
    """
    task, model = log_fields.get("task", ""), log_fields.get("model", "")
    if task or (status >= HTTPStatus.BAD_REQUEST and path not in QUIET_PATHS):
        metrics.requests.labels(task, model, str(status)).inc()  # refused before its task was known: no task
    if "version" in log_fields:
        metrics.version_requests.labels(model, log_fields["version"], str(status)).inc()
    if task:
        metrics.request_seconds.labels(task).observe(seconds)
    level = logging.DEBUG if path in QUIET_PATHS else logging.INFO
    if logger.isEnabledFor(level):
        extra = {"status": status, "ms": round(seconds * 1000, 2), **log_fields}
        logger.log(level, "%s %s", method, path, extra=extra)
