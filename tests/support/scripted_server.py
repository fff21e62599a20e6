"""A real HTTP server that answers as it is told: with a status, by closing the connection, or not before it is let go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer; `closes`: the connection ends without one; `hangs`: until `ScriptedServer.release`."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    closes: bool = False
    hangs: bool = False


@dataclass
class ScriptedServer:
    """What it was sent, and what it answers next; the last reply is repeated."""

    url: str
    replies: list[Reply]
    requests: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_reply(self) -> Reply:
        with self.lock:
            return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def envelope(*labels: str) -> dict[str, Any]:
    """What `POST /v1/classify` answers."""
    results = [{"labels": [{"label": label, "score": 1.0}], "num_tokens": 1, "truncated": False} for label in labels]
    return {"model": {"name": "tiny", "version": 1}, "results": results, "usage": {"num_tokens": len(labels)}}


def problem(status: int, kind: str, detail: str = "so it is") -> dict[str, Any]:
    return {"type": kind, "title": "-", "status": status, "detail": detail, "request_id": "abc"}


@contextmanager
def scripted_server(*replies: Reply) -> Iterator[ScriptedServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with server.lock:
                server.requests.append((self.path, json.loads(body) if body else None))
                server.headers.append(dict(self.headers))
            reply = server.next_reply()
            if reply.hangs:
                server.release.wait()
            if reply.closes or reply.hangs:
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_: Any) -> None:
            """Tests read what was sent, not what was printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server = ScriptedServer(f"http://127.0.0.1:{http.server_port}", list(replies))
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            http.shutdown()
            thread.join()
