"""The one table from errors to HTTP, and the answer that a caller gets, in the shape that the path's protocol has for it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from app.api.body import NotJson, TooSlow
from app.api.error_formats import NATIVE, ErrorFormat, ErrorInfo, error_format_for
from app.core.errors import (
    CallerError,
    DeadlineExceeded,
    ForbiddenOrigin,
    HooperError,
    InvalidInput,
    NotEnabled,
    Overloaded,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownHost,
    UnknownModel,
    brief,
)
from app.core.validation import describe_validation

STATUS: dict[type[HooperError], int] = {
    Unauthorized: 401,
    ForbiddenOrigin: 403,
    UnknownModel: 404,
    NotEnabled: 404,
    TooLarge: 413,
    InvalidInput: 422,
    CallerError: 422,
    UnknownHost: 421,
    Overloaded: 429,
    Unavailable: 503,
    DeadlineExceeded: 504,
    HooperError: 500,
    NotJson: 415,
    TooSlow: 408,
}

logger = logging.getLogger(__name__)


def status_of(error: HooperError, error_format: ErrorFormat = NATIVE) -> int:
    """The status of the nearest ancestor in the protocol's own table, then in the common one."""
    for table in (error_format.statuses, STATUS):
        for kind in type(error).__mro__:
            if kind in table:
                return table[kind]
    return 500


def plain_error_response(
    scope: Scope, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An error as the protocol of the request's path tells it."""
    error_format = error_format_for(scope)
    body = error_format.render(ErrorInfo(status, kind, brief(detail)))
    return Response(body.model_dump_json(), status, headers, error_format.media_type)


def error_response(scope: Scope, error: HooperError) -> Response:
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooSlow):
        headers["Connection"] = "close"
    error_format = error_format_for(scope)
    kind = error_format.kinds.get(type(error), error.type)
    return plain_error_response(scope, status_of(error, error_format), kind, error.detail, headers)


def internal_error(scope: Scope, error: BaseException) -> Response:
    """500 without a word of what happened inside; the log has the place, never a value."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "unknown"
    logger.error("unexpected error", extra={"error": type(error).__name__, "where": where})
    return plain_error_response(
        scope, 500, "internal", "something went wrong inside the service; it was logged under the request id"
    )


def add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(HooperError)
    async def _domain(request: Request, error: HooperError) -> Response:
        return error_response(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return error_response(request.scope, InvalidInput(describe_validation(error.errors())))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # FastAPI's answer to a body that is no text, or nested without end
            return error_response(request.scope, InvalidInput("the body is not valid JSON in UTF-8"))
        kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
        return plain_error_response(request.scope, error.status_code, kind, str(error.detail), error.headers)


@contextmanager
def fields_named(place: Callable[[str], str]) -> Iterator[None]:
    """Errors name fields as the caller does.

    Args:
        place: from a field as the task calls it to how the caller does; what it does not know stays as it is.
    """
    try:
        yield
    except InvalidInput as error:
        if error.field is None or (field := place(error.field)) == error.field:
            raise
        raise InvalidInput(error.reason, field) from None
