"""Ends with 0 if the service of this container is ready, else with 1 and the reason: the image's HEALTHCHECK.

The slim base has no curl. Only the standard library is used, and no proxy: it takes 50 ms, every ten seconds.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection

TIMEOUT_S = 4
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not listened on


def problem(environment: Mapping[str, str]) -> str:
    """Why the service that has these settings is not ready; empty if it is."""
    host = environment.get("HOOPER_HOST", "127.0.0.1")
    port = int(environment.get("HOOPER_PORT", "8000"))
    address = EVERY_ADDRESS.get(host, host)
    if environment.get("HOOPER_SSL_CERTFILE"):  # its own port: whose name the certificate bears is for callers to check
        context = ssl._create_unverified_context()  # noqa: S323 - the standard library has no other name for it
        connection: HTTPConnection = HTTPSConnection(address, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = HTTPConnection(address, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        return f"{host}:{port} does not answer: {error}"
    finally:
        connection.close()
    return "" if response.status == 200 else f"{response.status} {text}"


if __name__ == "__main__":
    reason = problem(os.environ)
    if reason:
        print(reason)
    sys.exit(1 if reason else 0)
