"""How each protocol tells an error: its shape, its media type, and the statuses that it names otherwise."""

from __future__ import annotations

import http
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.api.scope import path_of
from app.core.errors import EmptyBatch, EngineFailed, HooperError, InvalidInput, TooManyItems, TooManyTokens, UnknownModel
from app.observability.logging import request_id

PROBLEM_JSON = "application/problem+json"
JSON = "application/json"
CONTEXT_LENGTH = "context_length_exceeded"
FIELD = re.compile(r"[a-z_]+(\.[a-z0-9_]+)*")
"""What the name of a field looks like before a colon."""


class Problem(BaseModel):
    """An error in the form of RFC 9457."""

    type: str = Field(description="The kind of error, for programs.", examples=["invalid_input"])
    title: str = Field(description="The HTTP status in words.", examples=["Unprocessable Entity"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="One sentence for a person; names the field.", examples=["inputs: must not be empty"])
    request_id: str = Field(
        description="As in the header X-Request-Id: quote it when you report a fault.",
        examples=["0f8b6a0a9c5d4f7f8d6a1c2b3e4f5a6b"],
    )


class ErrorMessage(BaseModel):
    """An error as the Hugging Face Inference API and the Open Inference Protocol tell it."""

    error: str = Field(description="One sentence for a person; names the field.", examples=["inputs: must not be empty"])


TeiErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class TeiError(BaseModel):
    """An error as text-embeddings-inference tells it."""

    error: str = Field(description="One sentence for a person; names the field.", examples=["inputs: must not be empty"])
    error_type: TeiErrorType = Field(description="The kind of error, for programs.")


class TgiError(BaseModel):
    """An error as text-generation-inference tells it."""

    error: str = Field(description="One sentence for a person; names the field.", examples=["inputs: must not be empty"])
    error_type: Literal["validation", "generation", "overloaded"] = Field(description="The kind of error, for programs.")


class OpenAIErrorDetail(BaseModel):
    """What is wrong."""

    message: str = Field(description="One sentence for a person; names the field.", examples=["input: must not be empty"])
    type: str = Field(description="The kind of error, for programs.", examples=["invalid_request_error"])
    param: str | None = Field(description="The field that is wrong, where the sentence names one.", examples=["input"])
    code: str | None = Field(
        description="The kind of error: `context_length_exceeded`, or Hooper's own name for it.", examples=["invalid_input"]
    )


class OpenAIError(BaseModel):
    """An error as OpenAI's API tells it."""

    error: OpenAIErrorDetail = Field(description="What is wrong.")


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error on its way out."""

    status: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """How one protocol tells errors."""

    model: type[BaseModel]
    media_type: str
    render: Callable[[ErrorInfo], BaseModel]
    statuses: Mapping[type[HooperError], int] = field(default_factory=dict)
    """Errors that it gives another status than the table in `app.api.errors`."""
    kinds: Mapping[type[HooperError], str] = field(default_factory=dict)
    """Errors that it calls otherwise than the service does."""


def _problem(fault: ErrorInfo) -> Problem:
    title = http.HTTPStatus(fault.status).phrase
    return Problem(type=fault.kind, title=title, status=fault.status, detail=fault.detail, request_id=request_id.get())


def _tei_error(fault: ErrorInfo) -> TeiError:
    by_status: dict[int, TeiErrorType] = {
        400: "Empty", 424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy", 504: "Overloaded",
    }  # fmt: skip
    return TeiError(error=fault.detail, error_type=by_status.get(fault.status, "Validation"))


def _tgi_error(fault: ErrorInfo) -> TgiError:
    is_callers = fault.status < 500 and fault.status not in (424, 429)
    return TgiError(
        error=fault.detail, error_type="overloaded" if fault.status == 429 else "validation" if is_callers else "generation"
    )


def _openai_error(fault: ErrorInfo) -> OpenAIError:
    by_status = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = by_status.get(fault.status, "invalid_request_error" if fault.status < 500 else "server_error")
    field, separator, _ = fault.detail.partition(": ")
    param = field if separator and FIELD.fullmatch(field) else None
    # some clients know this one by its code in the message alone, as LangChain's does
    message = f"{fault.detail} ({fault.kind})" if fault.kind == CONTEXT_LENGTH else fault.detail
    return OpenAIError(error=OpenAIErrorDetail(message=message, type=kind, param=param, code=fault.kind))


NATIVE = ErrorFormat(Problem, PROBLEM_JSON, _problem)
HUGGING_FACE = ErrorFormat(ErrorMessage, JSON, lambda fault: ErrorMessage(error=fault.detail))
OPEN_INFERENCE = ErrorFormat(ErrorMessage, JSON, lambda fault: ErrorMessage(error=fault.detail))
TEI = ErrorFormat(TeiError, JSON, _tei_error, {EmptyBatch: 400, TooManyItems: 413, UnknownModel: 424, EngineFailed: 424})

LIBRE_TRANSLATE = ErrorFormat(ErrorMessage, JSON, lambda fault: ErrorMessage(error=fault.detail), {InvalidInput: 400})
TGI = ErrorFormat(TgiError, JSON, _tgi_error, {EngineFailed: 424})

OPENAI = ErrorFormat(
    OpenAIError,
    JSON,
    _openai_error,
    statuses={InvalidInput: 400, TooManyTokens: 400},
    kinds={TooManyTokens: CONTEXT_LENGTH},  # by which clients know that a conversation has to be made shorter
)

_BY_FIRST_PART = {
    "models": HUGGING_FACE,
    "v2": OPEN_INFERENCE,
    **dict.fromkeys(("generate", "generate_stream"), TGI),
    **dict.fromkeys(("languages", "translate"), LIBRE_TRANSLATE),
    **dict.fromkeys(("decode", "embed", "embed_all", "info", "predict", "rerank", "similarity", "tokenize"), TEI),
}
_OPENAI_PATHS = frozenset({"v1/chat/completions", "v1/completions", "v1/embeddings"})
"""Of its API those that the contract has; other paths below `v1` are this service's own."""


def error_format_for(scope: Mapping[str, Any]) -> ErrorFormat:
    """The error_format of a request's path, the prefix of a proxy left out."""
    path = path_of(scope)
    return OPENAI if path in _OPENAI_PATHS else _BY_FIRST_PART.get(path.partition("/")[0], NATIVE)
