"""The pages that people look at: the playground, the docs page, and the files both are made of. All of them are our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from app.tasks.registry import Tasks
from app.tasks.spec import TaskSpec

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


def router(tasks: Tasks) -> APIRouter:
    """The pages, with a form for each task that brings one."""
    routes = APIRouter(include_in_schema=False)
    routes.add_api_route("/", playground)
    routes.add_api_route("/docs", docs)
    modules = {spec.name: spec.playground for spec in tasks.values() if spec.playground is not None}
    described = {name: _described(tasks[name]) for name in modules}

    @routes.get("/static/tasks.json")
    async def names() -> Response:
        """The tasks that have a form, the simplest first, with the columns of their items and answers."""
        return JSONResponse(described, headers=HEADERS)

    @routes.get("/static/tasks/{name}.js")
    async def module(name: str) -> Response:
        if name not in modules:
            raise HTTPException(404, "Not Found")
        return FileResponse(modules[name], headers=HEADERS, media_type="text/javascript")

    return routes


def _described(spec: TaskSpec) -> dict[str, Any]:
    """What the page needs for files of items: names of columns, the likeliest first, and what an answer has."""
    fields = {
        name: {"columns": [*field.columns, *(name for group in field.possible for name in group)], "required": field.required}
        for name, field in spec.fields.items()
    }
    table = {"ranked": spec.table.ranked, "per_rank": list(spec.table.per_rank), "single": list(spec.table.single)}
    return {"fields": fields, "table": table}


async def playground() -> Response:
    """Its addresses are relative, so that it works behind any prefix."""
    return FileResponse(STATIC / "index.html", headers=HEADERS)


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
