"""From where the service may be asked: the names that it answers to, and the pages whose scripts may ask it.

A browser runs the scripts of any page on the machine of whoever reads it. So the network alone does not say who asks: a page
can send a form to an address that only its reader reaches, or let its own name resolve to that address (DNS rebinding) and
read the answers too. The first is told by `Origin`, the second by `Host`, and a script can write neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.core.errors import ForbiddenOrigin, UnknownHost
from app.settings import Settings, is_loopback

ANY = "*"
EXEMPT_PATHS = re.compile(r"metrics|health(?:/.*)?|v2/health/.*")
"""Probes and Prometheus come by an address that nobody knows before."""
PORTS = {"http": "80", "https": "443"}
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SENT_HEADERS = (
    "Authorization", "X-API-Key", "X-Request-Id", "X-Request-Timeout-Ms", "X-Priority", "traceparent", "tracestate",
    "Inference-Header-Content-Length",
)  # fmt: skip
READ_HEADERS = (
    "X-Request-Id", "Server-Timing", "Retry-After", "X-Truncated", "X-Ignored-Parameters", "Inference-Header-Content-Length",
)  # fmt: skip

Headers = Mapping[bytes, str]


@dataclass(frozen=True, slots=True)
class Doors:
    """The names and the pages that are let in."""

    hosts: tuple[str, ...]
    """In lower case, without a port; `*.` before one: its subdomains. Empty: the names of the machine itself."""
    origins: tuple[str, ...]
    """In lower case."""

    @classmethod
    def of(cls, settings: Settings) -> Doors:
        published = settings.published_host or settings.host
        hosts = settings.allowed_hosts or (() if is_loopback(published) else (ANY,))
        return cls(tuple(_name(host.lower()) for host in hosts), tuple(origin.lower() for origin in settings.cors_origins))

    def check(self, method: str, path: str, headers: Headers) -> None:
        """
        Args:
            path: within the service, without its first slash.
            headers: by their names in lower case.

        Raises:
            UnknownHost: it was sent to a name that is not the service's.
            ForbiddenOrigin: it was sent by the script of a page that is neither the service's own nor allowed.
        """
        host = headers.get(b"host", "").strip().lower()
        # no browser leaves it out
        if host and EXEMPT_PATHS.fullmatch(path) is None and not self._knows(_name(host)):
            raise UnknownHost(
                "this service does not answer to the name in `Host`; those to which it does stand in HOOPER_ALLOWED_HOSTS"
            )
        origin = headers.get(b"origin", "").strip().lower()
        # a browser asks beforehand whether a page may: the answer is that of the request itself
        is_asking = method not in READ_METHODS or b"access-control-request-method" in headers
        if origin and is_asking and not self._lets_in(origin, host, headers):
            raise ForbiddenOrigin(
                "pages of this `Origin` may not ask the service; those of others than its own stand in HOOPER_CORS_ORIGINS"
            )

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, which tells browsers what the pages of other origins may do, where any are allowed."""
        if not self.origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self.origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=SENT_HEADERS,
            expose_headers=READ_HEADERS,
        )

    def _knows(self, name: str) -> bool:
        if not self.hosts:
            return is_loopback(name)
        return any(host in (ANY, name) or (host.startswith("*.") and name.endswith(host[1:])) for host in self.hosts)

    def _lets_in(self, origin: str, host: str, headers: Headers) -> bool:
        # browsers write it themselves; it holds where a proxy has put another name into `Host`
        if headers.get(b"sec-fetch-site", "") == "same-origin":
            return True
        return ANY in self.origins or origin in self.origins or _is_same(origin, host)


def _name(authority: str) -> str:
    """A host without its port, brackets and the dot of the root."""
    if authority.startswith("["):
        inside, closed, port = authority[1:].partition("]")
        return inside if closed and (not port or port.startswith(":")) else authority
    if authority.count(":") > 1:  # an IPv6 address, as it stands in a setting
        return authority
    return authority.partition(":")[0].removesuffix(".")


def _is_same(origin: str, host: str) -> bool:
    """Whether a page's origin is the address to which it sent the request.

    The scheme does not count: behind a proxy that ends TLS the page has https where the service sees http.
    """
    scheme, _, authority = origin.partition("://")
    default = PORTS.get(scheme)
    return default is not None and authority.removesuffix(f":{default}") == host.removesuffix(f":{default}")
