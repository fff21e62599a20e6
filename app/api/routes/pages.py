"""The pages that people look at: the playground, the docs page, and the files both are made of. All of them are our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parent.parent / "static"
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # Swagger UI's stylesheet holds its icons
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # ask whether it has changed: an upgraded service must not be shown by the page of the old one
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def playground() -> Response:
    """Its addresses are relative, so that it works behind any prefix."""
    return FileResponse(STATIC / "index.html", headers=HEADERS)


@router.get("/docs")
async def docs() -> Response:
    return FileResponse(STATIC / "docs.html", headers=HEADERS)


class _Files(StaticFiles):
    """Static files under the headers of the pages."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def mount_static(app: FastAPI) -> None:
    app.mount("/static", _Files(directory=STATIC), name="static")
