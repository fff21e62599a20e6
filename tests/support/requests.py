"""The application, asked in process: through httpx, or message by message by a caller who misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from app.api.context import AppState
from tests.support.gated_engine import Gated, turn


@dataclass(frozen=True)
class Service:
    """A running application, and a client for it."""

    app: FastAPI
    client: httpx.AsyncClient

    @property
    def live(self) -> AppState:
        state: AppState = self.app.state.hooper
        return state

    async def classify(self, inputs: object, headers: dict[str, str] | None = None, **options: object) -> httpx.Response:
        return await self.ask("classify", inputs, headers, **options)

    async def ask(self, route: str, inputs: object, headers: dict[str, str] | None = None, **options: object) -> httpx.Response:
        return await self.send(json.dumps({"inputs": inputs, **options}).encode(), headers, f"/v1/{route}")

    async def send(
        self, body: bytes | AsyncIterator[bytes], headers: dict[str, str] | None = None, path: str = "/v1/classify"
    ) -> httpx.Response:
        """A body as it is, under `Content-Type: application/json` where nothing else is said."""
        named = {"Content-Type": "application/json"} | (headers or {})
        return await self.client.post(path, content=body, headers=named)

    def sample(self, metric: str, **labels: str) -> float | None:
        """A metric's value, None where it was never counted."""
        return self.live.metrics.registry.get_sample_value(metric, labels)


@dataclass(frozen=True)
class GatedService(Service):
    """A service whose engine the test drives."""

    gated: Gated

    async def has_waiting(self, num_rows: int) -> None:
        """Return once so many rows wait for the engine."""
        while self.gated.deployment.scheduler.num_waiting_rows != num_rows:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)

    async def finish(self, asked: Awaitable[Any], poison: int = -1) -> Any:
        """The answer, from an engine that fails on every batch with this token."""
        task = asyncio.ensure_future(asked)
        await turn()
        while not task.done():
            batch = await self.gated.engine.batch()
            if any(poison in row.input_ids for row in batch.rows):
                batch.fail(RuntimeError("the secret text"))
            else:
                batch.finish()
            await turn()
        return await task


class Caller:
    """One request, message by message. The application runs as a task; what it sends is kept."""

    def __init__(self, app: FastAPI, method: str = "POST", path: str = "/v1/classify", **headers: str) -> None:
        named = {"content-type": "application/json", "content-length": "99"} | headers
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
            "server": ("hooper", 80), "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }  # fmt: skip
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self.task = asyncio.ensure_future(app(scope, self._messages.get, self._keep))

    async def _keep(self, message: Any) -> None:
        self.sent.append(message)

    def send(self, body: object, more: bool = False) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._messages.put_nowait({"type": "http.request", "body": content, "more_body": more})

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.sent if message["type"] == "http.response.start"), None)


def check_problem(response: httpx.Response, status: int, kind: str) -> str:
    """Check the shape that every error has.

    Returns:
        Its detail.
    """
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert list(problem) == ["type", "title", "status", "detail", "request_id"]
    assert problem["status"] == status
    assert problem["type"] == kind
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["title"]
    assert "Traceback" not in response.text
    return str(problem["detail"])
