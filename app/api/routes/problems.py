"""The errors of a route, as the docs page shows them."""

from __future__ import annotations

from typing import Any

from app.api.dialects import NATIVE, Dialect

MEANING = {
    400: "The batch is empty.",
    401: "A key is needed, or the one that was sent is wrong.",
    404: "No such model, or none for this task.",
    413: "The body, or a single text, exceeds a limit.",
    415: "The body is not JSON.",
    422: "A field is wrong; the message names it.",
    424: "No loaded model does this, or the engine failed on this text.",
    429: "The queue is full; `Retry-After` says how many seconds to wait.",
    503: "Models are loading, the service is draining, or the engine is down.",
    504: "The deadline in `X-Request-Timeout-Ms` passed.",
}
EVERY_PREDICTION = (401, 404, 413, 415, 422, 429, 503, 504)


def problems(*statuses: int, dialect: Dialect = NATIVE) -> dict[int | str, dict[str, Any]]:
    """Responses for a route's decorator, in the shape of its protocol."""
    schema = {"$ref": f"#/components/schemas/{dialect.model.__name__}"}
    return {
        status: {"description": MEANING[status], "content": {dialect.media_type: {"schema": schema}}} for status in statuses
    }
