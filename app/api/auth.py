"""API keys: only their hashes are known to the service, and comparing takes the same time for every key."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from starlette.types import Scope

from app.api.body import FORM_PATHS, is_short
from app.api.scope import path_of
from app.core.errors import Unauthorized

CALLER = "hooper.caller"
"""Key of the scope under which stands the hash of the key that a request brought."""
KEY_IN_BODY = "hooper.key_in_body"
"""Key of the scope: whether the caller's key may stand in the body."""
OPEN_PATHS = re.compile(r"|docs|openapi\.json|metrics|health(?:/.*)?|static/.*|v2/?|v2/health/.*|languages")
"""Read without a key: probes, metrics, pages, and what clients of LibreTranslate ask without one. Every other path wants one,
whatever will be added."""
ADMIN_PATHS = re.compile(r"v1/models/[^/]+/(load|promote|unload)")

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

NO_KEY = "a valid API key is needed: send it as `Authorization: Bearer KEY`"


def check_key(state: Any, scope: Scope, headers: Mapping[bytes, str]) -> None:
    """Let a caller through who knows a key that the path wants and has not asked too often. No body need be there for it.

    Args:
        scope: of the request; the key's hash is noted there.
        headers: by their names in lower case.

    Raises:
        Unauthorized: the caller knows none.
        Overloaded: the caller has asked too often.
    """
    path = path_of(scope)
    is_admins = ADMIN_PATHS.fullmatch(path) is not None
    users, admins = state.settings.api_key_hashes, state.settings.admin_key_hashes
    if OPEN_PATHS.fullmatch(path) is not None or not (users or is_admins):
        return
    key_hash = matching(presented(headers), admins if is_admins else (*users, *admins))
    if key_hash is None:
        raise Unauthorized(_wanted(admins) if is_admins else NO_KEY)
    state.key_rates.take(key_hash)
    scope[CALLER] = key_hash


def may_bring_key(scope: Scope, headers: Mapping[bytes, str]) -> bool:
    """Whether the key may stand in the body, as LibreTranslate's clients send it: on its paths, where no header has one, and
    the body is short."""
    is_there = scope["method"] == "POST" and path_of(scope) in FORM_PATHS
    return is_there and not presented(headers) and is_short(headers)


def key_in(value: Any) -> str:
    """The key that a body brings, or nothing; it is taken out of it."""
    key = value.pop("api_key", "") if isinstance(value, dict) else ""
    return key.strip() if isinstance(key, str) else ""


def presented(headers: Mapping[bytes, str]) -> str:
    """The key that a request brings in one of the two headers, or nothing."""
    scheme, _, credentials = headers.get(b"authorization", "").strip().partition(" ")
    # no key has blanks at its ends: those are of the file or the variable that it was copied from
    return (credentials if scheme.lower() == "bearer" and credentials else headers.get(b"x-api-key", "")).strip()


async def require_admin(request: Request) -> None:
    """Let nobody through whose key is no admin's, should a route be reached by a path that `check_key` reads otherwise."""
    admins = request.app.state.hooper.settings.admin_key_hashes
    if request.scope.get(CALLER) not in admins:
        raise Unauthorized(_wanted(admins))


def _wanted(admins: Sequence[str]) -> str:
    if not admins:
        return "no admin key is configured; start the service with HOOPER_ADMIN_KEY_HASHES"
    return "a valid admin key is needed: send it as `Authorization: Bearer KEY`"


def matching(key: str, hashes: Sequence[str]) -> str | None:
    """The listed hash that is the key's SHA-256; every entry is compared in the same time, whichever matches."""
    presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    matches = [key_hash for key_hash in hashes if hmac.compare_digest(presented, key_hash)]
    return matches[0] if matches else None
