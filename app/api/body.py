"""The body of a request: refused unread where that can be, and read within bounds of bytes and time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi.responses import Response
from starlette.types import Receive, Scope

from app.api.dialects import path_of
from app.api.errors import refusal
from app.core.errors import TooLarge

TENSORS_PATH = re.compile(r"v2/models/[^/]+(/versions/[^/]+)?/infer")
MAX_DIGITS = 18
"""Of a Content-Length; Python would not read a number of thousands of them."""
LAST = {"Connection": "close"}
"""What was refused unread may still be on its way: nobody will read it."""

Headers = Mapping[bytes, str]


class ClientLeft(Exception):
    """The client closed the connection before its answer was ready."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may cost."""

    max_bytes: int
    receive_s: float


async def read_body(scope: Scope, headers: Headers, receive: Receive, limits: BodyLimits) -> bytes | Response:
    """The whole body, or the answer that refuses it as soon as that is known.

    Raises:
        ClientLeft: the client did not send all of it.
    """
    refused = _refused_unread(scope, headers)
    if refused is not None:
        return refused
    try:
        async with asyncio.timeout(limits.receive_s):
            body = await _read(headers, receive, limits.max_bytes)
    except TimeoutError:
        return refusal(scope, 408, "too_slow", f"the body was not complete after {limits.receive_s:g} seconds", LAST)
    if body is None:
        return refusal(scope, 413, TooLarge.type, f"the body exceeds {limits.max_bytes} bytes", LAST)
    return body


def _refused_unread(scope: Scope, headers: Headers) -> Response | None:
    if not _has_body(headers):
        return None
    encoding = headers.get(b"content-encoding", "identity").strip().lower()
    if encoding != "identity":  # a few compressed bytes can unfold into more than the limit
        return refusal(scope, 415, "not_json", f"Content-Encoding is {encoding}; send the body as it is", LAST)
    content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json" or content_type.endswith("+json") or _may_be_tensors(scope, content_type):
        return None
    return refusal(scope, 415, "not_json", f"Content-Type is {content_type or 'missing'}; send application/json", LAST)


def _has_body(headers: Headers) -> bool:
    return headers.get(b"content-length", "") != "0" and (b"content-length" in headers or b"transfer-encoding" in headers)


def _may_be_tensors(scope: Scope, content_type: str) -> bool:
    """Whether this is an inference request of the Open Inference Protocol, whose clients name no type or that of bytes, be
    there bytes behind the JSON or not."""
    return content_type in ("", "application/octet-stream") and TENSORS_PATH.fullmatch(path_of(scope)) is not None


async def _read(headers: Headers, receive: Receive, max_bytes: int) -> bytes | None:
    """The whole body, or None as soon as it exceeds the limit."""
    declared = headers.get(b"content-length", "0")
    if declared.isdecimal() and int(declared[:MAX_DIGITS]) > max_bytes:
        return None
    chunks: list[bytes] = []
    num_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = message.get("body", b"")
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
