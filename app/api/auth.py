"""API keys: only their hashes are known to the service, and comparing takes the same time for every key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from fastapi import Request

from app.api.dependencies import Live, live_state
from app.core.errors import Unauthorized

SCHEMES = {
    "HTTPBearer": {
        "type": "http",
        "description": "An API key, where the service was started with HOOPER_API_KEY_HASHES.",
        "scheme": "bearer",
    },
    "APIKeyHeader": {
        "type": "apiKey",
        "description": "The same key, in a header of its own.",
        "in": "header",
        "name": "X-API-Key",
    },
}
"""For the OpenAPI file. Dependencies that FastAPI would document by itself cost every request a tenth of its time."""


def presented(authorization: str, x_api_key: str) -> str:
    """The key that a request brings in one of these headers, or nothing."""
    scheme, _, credentials = authorization.partition(" ")
    return credentials if scheme.lower() == "bearer" and credentials else x_api_key


async def require_key(request: Request) -> None:
    """See `admit`."""
    admit(live_state(request), *_key_headers(request))


def admit(state: Live, authorization: str, x_api_key: str) -> None:
    """Let a caller through who knows one of the keys and has not asked too often, or everybody where none is configured.

    Args:
        state: what lives.
        authorization, x_api_key: the headers, empty where they are missing.

    Raises:
        Unauthorized: the caller knows none.
        Overloaded: the caller has asked too often.
    """
    hashes = state.settings.api_key_hashes
    if not hashes:
        return
    known = matching(presented(authorization, x_api_key), (*hashes, *state.settings.admin_key_hashes))
    if known is None:
        raise Unauthorized("a valid API key is needed: send it as `Authorization: Bearer KEY`")
    state.key_rates.take(known)


async def require_admin(request: Request) -> None:
    """Let a caller through who knows an admin key; where none is configured, nobody."""
    state = live_state(request)
    hashes = state.settings.admin_key_hashes
    if not hashes:
        raise Unauthorized("no admin key is configured; start the service with HOOPER_ADMIN_KEY_HASHES")
    known = matching(presented(*_key_headers(request)), hashes)
    if known is None:
        raise Unauthorized("a valid admin key is needed: send it as `Authorization: Bearer KEY`")
    state.key_rates.take(known)


def _key_headers(request: Request) -> tuple[str, str]:
    return request.headers.get("authorization", ""), request.headers.get("x-api-key", "")


def matching(key: str, hashes: Sequence[str]) -> str | None:
    """The listed hash that is the key's SHA-256; every entry is compared in the same time, whichever matches."""
    presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    matches = [known for known in hashes if hmac.compare_digest(presented, known)]
    return matches[0] if matches else None
