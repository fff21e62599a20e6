"""API keys: only their hashes are known to the service, and comparing takes the same time for every key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.api.dependencies import Live, live
from app.core.errors import Unauthorized

_bearer = HTTPBearer(auto_error=False, description="An API key, where the service was started with HOOPER_API_KEY_HASHES.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, in a header of its own.")


async def _presented(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    header: Annotated[str | None, Depends(_header)],
) -> str:
    return bearer.credentials if bearer else header or ""


async def require_key(key: Annotated[str, Depends(_presented)], state: Annotated[Live, Depends(live)]) -> None:
    """Let a caller through who knows one of the keys and has not asked too often, or everybody where none is configured."""
    hashes = state.settings.api_key_hashes
    if not hashes:
        return
    known = matching(key, (*hashes, *state.settings.admin_key_hashes))
    if known is None:
        raise Unauthorized("a valid API key is needed: send it as `Authorization: Bearer KEY`")
    state.key_rates.take(known)


async def require_admin(key: Annotated[str, Depends(_presented)], state: Annotated[Live, Depends(live)]) -> None:
    """Let a caller through who knows an admin key; where none is configured, nobody."""
    hashes = state.settings.admin_key_hashes
    if not hashes:
        raise Unauthorized("no admin key is configured; start the service with HOOPER_ADMIN_KEY_HASHES")
    known = matching(key, hashes)
    if known is None:
        raise Unauthorized("a valid admin key is needed: send it as `Authorization: Bearer KEY`")
    state.key_rates.take(known)


def matching(key: str, hashes: Sequence[str]) -> str | None:
    """The listed hash that is the key's SHA-256; every entry is compared in the same time, whichever matches."""
    presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    matches = [known for known in hashes if hmac.compare_digest(presented, known)]
    return matches[0] if matches else None
