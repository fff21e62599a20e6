"""What the docs page shows of a route's answers: the errors, each with an example, and the headers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from app.api.error_formats import NATIVE, ErrorFormat, ErrorInfo
from app.core import errors

MEANING = {
    400: "The batch is empty.",
    401: "A key is needed, or the one that was sent is wrong.",
    403: "A page sent it that may not ask: its `Origin` is neither the service's own nor in `HOOPER_CORS_ORIGINS`.",
    404: "No such model, or none for this task.",
    408: "The body did not come in time.",
    413: "The body, or a single text, exceeds a limit; `detail` has both numbers.",
    415: "The body is not JSON.",
    421: "It was sent to a name that is not the service's: `Host` is not in `HOOPER_ALLOWED_HOSTS`.",
    422: "A field is wrong; the message names it.",
    424: "No loaded model does this, or the engine failed on this text.",
    429: "The queue is full, or the key has asked too often; `Retry-After` says how many seconds to wait.",
    500: "A fault of the service or of the model's folder, logged under the request id.",
    503: "Models are loading, the service is draining, or the engine is down.",
    504: "The deadline in `X-Request-Timeout-Ms` passed.",
}
EXAMPLES = {
    400: (errors.EmptyBatch.type, "inputs: must not be empty"),
    401: (errors.Unauthorized.type, "a valid API key is needed: send it as `Authorization: Bearer KEY`"),
    403: (errors.ForbiddenOrigin.type, "pages of this `Origin` may not ask the service"),
    404: (errors.UnknownModel.type, "model 'sentimant' is not loaded"),
    408: ("too_slow", "the body was not complete after 30 seconds"),
    413: (errors.TooLarge.type, "the body exceeds 2097152 bytes"),
    415: ("not_json", "Content-Type is text/plain; send application/json"),
    421: (errors.UnknownHost.type, "this service does not answer to the name in `Host`"),
    422: (errors.InvalidInput.type, "inputs: must not be empty"),
    424: (errors.EngineFailed.type, "the model gave no finite numbers for this input"),
    429: (errors.Overloaded.type, "2048 rows of 61440 tokens are waiting, which is all the queue takes"),
    500: (errors.InvalidArtefact.type, "models/sentiment/2: model.onnx differs from its checksum"),
    503: (errors.Unavailable.type, "models are loading"),
    504: (errors.DeadlineExceeded.type, "the deadline passed before the engine answered"),
}
EVERY_PREDICTION = (401, 403, 404, 408, 413, 415, 421, 422, 429, 503, 504)
REQUEST_ID = "0f8b6a0a9c5d4f7f8d6a1c2b3e4f5a6b"
RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait, from the measured rate at which the queue empties, or until the key may ask again.",
        "schema": {"type": "integer", "minimum": 0, "examples": [2]},
    }
}
SERVER_TIMING = {
    "Server-Timing": {
        "description": "Where the time went, in milliseconds, and how many rows ran in the same batch.",
        "schema": {
            "type": "string",
            "examples": ['tokenize;dur=0.21, queue;dur=0.05, inference;dur=8.30, batch;desc="12 rows"'],
        },
    }
}
ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"description": "One result per item, in the order of the items.", "headers": SERVER_TIMING}
}
EVENTS = """event: token
data: {"text":"A good","num_new_tokens":2}

event: token
data: {"text":" film.","num_new_tokens":5}

event: done
data: {"model":{"name":"writer","version":1},"results":[…],"usage":{"num_tokens":9}}
"""
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One result per item, in the order of the items; with `stream`, the text of one item as it is written,"
        " then `done` with the same, or `error` with the problem.",
        "headers": SERVER_TIMING,
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENTS}},
    }
}


def openapi_responses(*statuses: int, error_format: ErrorFormat = NATIVE) -> dict[int | str, dict[str, Any]]:
    """Responses for a route's decorator, in the shape of its protocol."""
    return {status: _response(status, error_format) for status in statuses}


def _response(status: int, error_format: ErrorFormat) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{error_format.model.__name__}"}
    example = error_format.render(ErrorInfo(status, *EXAMPLES[status])).model_dump()
    if "request_id" in example:
        example["request_id"] = REQUEST_ID
    response = {
        "description": MEANING[status],
        "content": {error_format.media_type: {"schema": schema, "example": example}},
    }
    return response | ({"headers": RETRY_AFTER} if status == HTTPStatus.TOO_MANY_REQUESTS else {})
